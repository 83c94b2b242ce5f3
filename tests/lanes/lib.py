"""What the lanes share: processes that end with the lane, questions by curl, and checks that are printed and counted.

A lane runs the real program (`$HEADWATER`, else target/lanes/release/headwater) among real peers, on loopback or in
namespaces it makes itself. Where a lane asks for traefik/whoami it gets the program that `$WHOAMI` names, else echo.py.
"""
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HEADWATER = os.environ.get("HEADWATER") or str(ROOT / "target/lanes/release/headwater")
WHOAMI = os.environ.get("WHOAMI")
START_DEADLINE = 10.0
HOST = "whoami.example.com"


class Lane:
    """One lane: `with Lane("name", "tool", ...) as lane:`. Leaving it ends every process and exits with the result."""

    def __init__(self, name, *tools):
        self.name = name
        self.tools = tools
        self.passed = self.failed = 0
        self.processes = []
        self.dir = Path(tempfile.mkdtemp(prefix=f"lane-{name}-"))
        self.ends = [lambda: shutil.rmtree(self.dir)]

    def __enter__(self):
        signal.signal(signal.SIGTERM, interrupted)
        print(f"lane {self.name}: {HEADWATER}; whoami is {WHOAMI or 'the stand-in echo.py'}")
        missing = [tool for tool in (HEADWATER, "curl", *self.tools) if not shutil.which(tool)]
        self.check("the programs this lane needs are there", missing, [])
        if missing:
            self.finish()
        return self

    def __exit__(self, kind, error, trace):
        if error:
            traceback.print_exception(error, file=sys.stdout)
            self.failed += 1
            print(f"FAILED  the lane broke off: {error}")
        if self.failed:
            self.show_logs()
        self.finish()

    def finish(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for end in reversed(self.ends):
            end()
        print(f"lane {self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)

    def check(self, sent, came, wanted):
        """One line: what was sent, and what came of it; `wanted` may be a predicate."""
        good = wanted(came) if callable(wanted) else came == wanted
        if good:
            self.passed += 1
            print(f"ok      {sent}: {shown(came)}", flush=True)
        else:
            self.failed += 1
            hint = "" if callable(wanted) else f", not {shown(wanted)}"
            print(f"FAILED  {sent}: {shown(came)}{hint}", flush=True)

    def show_logs(self):
        for log in sorted(self.dir.glob("*.log")):
            text = log.read_text(errors="replace").strip()
            if text:
                print(f"--- the end of {log.name}\n{text[-2000:]}\n---")

    def start(self, name, command, port, address="127.0.0.1", netns=None, pass_fds=()):
        """A process of the lane, which listens when this returns."""
        log = open(self.dir / f"{name}.log", "wb")
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        process = subprocess.Popen(command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds)
        self.processes.append(process)
        poll(f"{name} to listen on {address}:{port}", lambda: listens(process, address, port, netns))
        return process

    def headwater(self, name, config, port, address="127.0.0.1", netns=None, wrapper=()):
        """The proxy under this configuration; `port` is one that it will listen on, `wrapper` a command that runs it."""
        path = self.dir / f"{name}.yaml"
        path.write_text(config)
        return self.start(name, [*wrapper, HEADWATER, "run", "--config", str(path)], port, address, netns)

    def echo(self, name, port, address="127.0.0.1", netns=None):
        """An upstream that tells what it was sent, byte by byte."""
        command = [sys.executable, "-B", str(HERE / "echo.py"), address, str(port), name]
        return self.start(name, command, port, address, netns)

    def whoami(self, name, port, address="127.0.0.1", netns=None):
        """traefik/whoami where there is one, else its stand-in."""
        if not WHOAMI:
            return self.echo(name, port, address, netns)
        return self.start(name, [WHOAMI, "--port", str(port), "--name", name], port, address, netns)


def interrupted(number, frame):
    # Not an OSError: a lane that counts those would go on.
    raise KeyboardInterrupt(signal.Signals(number).name)


def shown(value):
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        value = ", ".join(value) or "nothing"
    return str(value).encode("unicode_escape").decode()


def poll(what, ready, seconds=START_DEADLINE):
    """Waits until `ready` says so, for as long as a start may take."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)


def listens(process, address, port, netns):
    if process.poll() is not None:
        raise ChildProcessError(f"{process.args[0]} ended with {process.returncode}")
    if netns:
        command = ["ip", "netns", "exec", netns, "ss", "-Hltn", "sport", "=", str(port)]
        return bool(subprocess.run(command, capture_output=True, check=True).stdout)
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


taken = set()


def free_port():
    """A port nobody listens on; below the kernel's range for outgoing connections, so that none takes it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        if port not in taken:
            taken.add(port)
            return port


@dataclass(frozen=True)
class Answer:
    """What came back for one request; status 0 when nothing did."""

    status: int
    version: str
    connects: int
    error: str
    body: str
    told: dict = field(init=False)
    fields: list = field(init=False)

    def __post_init__(self):
        # The lines of whoami: what it tells of itself, the request line, the fields.
        told, fields, seen = {}, [], False
        for line in self.body.splitlines():
            if re.fullmatch(r"[A-Z]+ \S+ HTTP/1\.[01]", line):
                seen = True
            elif ":" in line:
                name, value = line.split(":", 1)
                if seen:
                    fields.append((name.lower(), value.strip()))
                else:
                    told[name] = value.strip()
        object.__setattr__(self, "told", told)
        object.__setattr__(self, "fields", fields)

    def values(self, name):
        """Every value of a field that the upstream was sent."""
        return [value for field_name, value in self.fields if field_name == name.lower()]

    @property
    def upstream(self):
        return self.told.get("Name", "")


MARK = "--answer--"
WRITE_OUT = f"\n{MARK}%{{http_code}} %{{http_version}} %{{num_connects}} %{{errormsg}}\n"


def curl(*arguments, netns=None):
    """Asks with curl; one answer a URL."""
    command = ["curl", "-q", "--silent", "--noproxy", "*", "--max-time", "20", "--write-out", WRITE_OUT, *arguments]
    if netns:
        command = ["ip", "netns", "exec", netns, *command]
    output = subprocess.run(command, capture_output=True, timeout=60).stdout.decode("latin-1")
    answers, body = [], []
    for line in output.split("\n"):
        if not line.startswith(MARK):
            body.append(line)
            continue
        status, version, connects, error = line[len(MARK):].split(" ", 3)
        answers.append(Answer(int(status), version, int(connects), error, "\n".join(body)))
        body = []
    return answers


def fields(*lines):
    """curl's arguments for these field lines."""
    return [argument for line in lines for argument in ("-H", line)]


def raw(port, data, source="127.0.0.1", address="127.0.0.1"):
    """Sends bytes from this source, and returns all that comes back until the other side closes or 5 s have passed."""
    with socket.create_connection((address, port), 5, source_address=(source, 0)) as connection:
        connection.settimeout(5)
        received = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
        except TimeoutError:
            return received + b" (and left open)"
        return received
