"""The workloads: what is asked of a proxy, and what one turn of it tells."""
import subprocess
import sys
import time
from dataclasses import dataclass, replace

from . import machine
from .bench import HERE, Failed
from .peers import Site
from .same_work import ONE_CIPHER

PATIENCE_SECONDS = 300
# HAProxy wants two descriptors for each.
IDLE_CONNECTIONS = min(10_000, machine.DESCRIPTORS // 2 - 100)


@dataclass(frozen=True)
class Turn:
    """One turn of one proxy. `cost` is what is compared: microseconds of processor time a request unless the workload says otherwise."""

    cost: float
    user: float = None
    system: float = None
    rate: float = None
    p50_us: float = None
    p99_us: float = None
    memory_kib: int = None


@dataclass(frozen=True)
class Workload:
    letter: str
    what: str
    unit: str = "us"
    site: Site = Site()
    # Memory hardly differs between turns.
    most_rounds: int = 1000
    # Bodies that tuning a proxy's buffers is for: the tuned peers take part.
    big: bool = False
    # Plain, on kept connections, to one route: a relay makes the same of it, and takes part.
    relayed: bool = False

    def prepared(self, scale):
        return self

    def begin(self, running):
        """What is to be there meanwhile, if anything: it is closed afterwards."""
        return None

    def socket_calls(self, running):
        """Requests and a function that makes them, to be counted; `None` where that tells nothing."""
        return None


@dataclass(frozen=True)
class Driven(Workload):
    """A fixed number of requests, made by a client program: `drive` makes them and tells how long each took."""

    requests: int = 0
    connections: int = 0
    # Those whose system calls are counted; 0: as many as `requests`.
    counted: int = 0

    def prepared(self, scale):
        return replace(self, requests=max(self.connections, int(self.requests * scale)), counted=self.requests)

    def turn(self, running):
        before, apart, begun = machine.cpu_ns(running.pid), machine.user_and_system(running.pid), time.monotonic()
        latencies = self.drive(running, self.requests)
        took = time.monotonic() - begun
        cost = (machine.cpu_ns(running.pid) - before) / 1000 / self.requests
        return Turn(cost, *split(cost, apart, machine.user_and_system(running.pid)), self.requests / took,
                    *percentiles(latencies), machine.pss_kib(running.pid))

    def socket_calls(self, running):
        requests = min(self.counted or self.requests, self.most_counted())
        return requests, lambda: self.drive(running, requests)

    def most_counted(self):
        """Enough for setting up connections to weigh little; traced, each takes longer."""
        return 20_000


@dataclass(frozen=True)
class Load(Driven):
    """Many requests on few connections, by h2load."""

    path: str = "100"
    arguments: tuple = ()
    tls: bool = False
    idle_beside: int = 0

    def begin(self, running):
        return IdleConnections(running, self.idle_beside, self.tls) if self.idle_beside else None

    def drive(self, running, requests):
        log = running.bench.directory / "h2load.log"
        log.unlink(missing_ok=True)
        url = f"{'https' if self.tls else 'http'}://127.0.0.1:{running.tls if self.tls else running.plain}/{self.path}"
        arguments = [argument.format(uploads=running.bench.directory / "uploads") for argument in self.arguments]
        command = ["h2load", "-t1", f"-n{requests}", f"-c{min(requests, self.connections)}", f"--log-file={log}", ONE_CIPHER, *arguments, url]
        output = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
        if f" {requests} succeeded" not in output or f"status codes: {requests} 2xx" not in output:
            raise Failed(f"{running.name}, {self.letter}: not every request succeeded:\n{output}")
        return [int(line.rpartition("\t")[2]) for line in log.read_text().splitlines()]


@dataclass(frozen=True)
class Handshakes(Driven):
    """A TLS connection for each request: h2load would resume the sessions."""

    connections: int = 8
    resumed: bool = False

    def drive(self, running, requests):
        kind = "resumed" if self.resumed else "full"
        command = [sys.executable, "-B", str(HERE / "clients/handshakes.py"), kind, str(running.tls), str(requests), str(self.connections)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        if done.returncode:
            raise Failed(f"{running.name}, {self.letter}: {done.stderr}")
        return [int(line) for line in done.stdout.split()]

    def most_counted(self):
        return 500


class IdleConnections:
    """Connections that have each made a request, and wait; closed by `close`."""

    def __init__(self, running, count, tls):
        port = running.tls if tls else running.plain
        command = [sys.executable, "-B", str(HERE / "clients/idle.py"), "tls" if tls else "plain", str(port), str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.bench.processes.append(self.process)
        self.bench = running.bench
        if self.process.stdout.readline() != "open\n":
            raise Failed(f"{running.name}: {count} idle connections: {self.process.stderr.read()}")

    def close(self):
        self.bench.stop(self.process)


@dataclass(frozen=True)
class Idle(Workload):
    """Memory of connections that wait for their next request."""

    unit: str = "B"
    site: Site = Site(connections=IDLE_CONNECTIONS + 50)
    most_rounds: int = 1
    connections: int = IDLE_CONNECTIONS
    tls: bool = False

    def turn(self, running):
        # Afresh: memory that an earlier turn has freed would hide some of it.
        fresh = running.again()
        before = settled_kib(fresh, 1)
        idle = IdleConnections(fresh, self.connections, self.tls)
        after = settled_kib(fresh, 8)
        idle.close()
        fresh.stop()
        return Turn((after - before) * 1024 / self.connections, memory_kib=after)


def settled_kib(running, quiet_seconds):
    """Memory once it has stayed the same for so long: connections may be put aside after some seconds."""
    at, since = machine.pss_kib(running.pid), time.monotonic()
    deadline = since + 6 * quiet_seconds
    while time.monotonic() < min(deadline, since + quiet_seconds):
        time.sleep(0.25)
        now = machine.pss_kib(running.pid)
        if abs(now - at) > at / 100:
            at, since = now, time.monotonic()
    return machine.pss_kib(running.pid)


@dataclass(frozen=True)
class Start(Workload):
    """From starting the program to its first response; the memory is that of the idle process after it."""

    unit: str = "ms"
    site: Site = Site(connections=1024)

    def turn(self, running):
        process, first_ms = running.timed_start()
        time.sleep(0.3)
        memory = machine.pss_kib(process.pid)
        running.bench.stop(process)
        return Turn(first_ms, memory_kib=memory)


def split(cost, before, after):
    """User and system share of a cost."""
    user, system = after[0] - before[0], after[1] - before[1]
    ticks = user + system
    return (cost * user / ticks, cost * system / ticks) if ticks else (None, None)


def percentiles(latencies):
    latencies.sort()
    return tuple(latencies[min(len(latencies) - 1, int(len(latencies) * part))] for part in (0.5, 0.99)) if latencies else (None, None)


H1, CLOSE = "--h1", ("-H", "Connection: close")
UPLOAD = ("-d", "{uploads}/64k")
WORKLOADS = {
    workload.letter: workload
    for workload in (
        Load("a", "HTTP/1.1 keep-alive, 64 connections, 100 B", relayed=True, requests=40_000, connections=64, arguments=(H1,)),
        Load("b16", "HTTP/1.1 keep-alive, 64 connections, 16 KiB", big=True, relayed=True, requests=30_000, connections=64, path="16k", arguments=(H1,)),
        Load("b1m", "HTTP/1.1 keep-alive, 16 connections, 1 MiB", big=True, relayed=True, requests=1_500, connections=16, path="1m", arguments=(H1,)),
        Load("c", "POST 64 KiB, 32 connections", big=True, relayed=True, requests=10_000, connections=32, path="post", arguments=(H1, *UPLOAD)),
        Load("d", "HTTPS/1.1 keep-alive, 64 connections, 100 B", requests=40_000, connections=64, tls=True, arguments=(H1,)),
        Load("d1m", "HTTPS/1.1 keep-alive, 16 connections, 1 MiB", big=True, requests=600, connections=16, path="1m", tls=True, arguments=(H1,)),
        Load("e", "HTTPS HTTP/2, 10 x 10 streams, 100 B", requests=40_000, connections=10, tls=True, arguments=("-m10",)),
        Load("e16", "HTTPS HTTP/2, 10 x 10 streams, 16 KiB", requests=20_000, connections=10, path="16k", tls=True, arguments=("-m10",)),
        Handshakes("f", "a full TLS 1.3 handshake for each request", requests=2_000),
        Load("g", "a new plain connection for each request", requests=15_000, connections=64, arguments=(H1, *CLOSE)),
        Load("k", "4,000 requests a second over 64 connections", relayed=True, requests=12_000, connections=64, arguments=(H1, "--rps=62.5")),
        Idle("h", f"an idle connection, {IDLE_CONNECTIONS:,} of them"),
        Idle("hs", f"an idle TLS connection, {IDLE_CONNECTIONS:,} of them", tls=True),
        Start("i", "start to first response; idle memory"),
        Load("jr", "as a, behind 1,000 routes", site=Site(routes=1_000), requests=40_000, connections=64, path="r999/100", arguments=(H1,)),
    )
}
