#!/usr/bin/env -S python3 -B
"""What headwater takes, and what it doesn't: memory under big bodies and slow readers, idle HTTP/2 connections, descriptors that
run out, and clients that want too much."""
import selectors
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack

from certificates import Authority
from figures import calm, cpu_seconds, descriptors, forget_peak, mib, peak_kib, resident_kib, settled, table
from http2 import DATA, Http2
from lib import HERE, HOST, Lane, free_port

GIB = 1 << 30
# What buffers and the allocator may add while a GiB passes.
GROWTH_KIB = 8 << 10

IDLE = 1000
# One idle HTTP/2 connection: hyper's and h2's state, and rustls' where there is TLS.
# What each of them left, if it were 2 KiB, would show.
ROUNDS, AGAIN_KIB = 6, 4 << 10
IDLE_KIB = {"h2c": 32, "h2 over TLS": 48}

SLOW = {"h1": 100, "h2": 100, "h1 over TLS": 50}
SLOW_BYTES = 16 << 20
# RELIABILITY, section 4: buffers of 64 KiB per direction and stream, and one read of at most 128 KiB on HTTP/1.1.
SLOW_KIB = 256

# Low enough to run out of, for a process that needs some for itself.
DESCRIPTORS = 100
WAITING = 2 * DESCRIPTORS
# Two for each would be too many.
AT_ONCE = 60
SPIN_SECONDS = 3.0
# A hundredth of a processor would be noticed in a laptop's battery; spinning takes a whole one.
IDLE_CPU = 0.05

PER_CLIENT = 256

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  https: {{ address: "127.0.0.1:{https}", tls: {{ certificates: [{{ cert: front.crt, key: front.key }}] }} }}
upstreams:
  bodies: {{ endpoints: ["127.0.0.1:{bodies}"], pool: {{ idle_timeout: 1s }}, queue_timeout: 15s }}
  grpc: {{ endpoints: ["127.0.0.1:{grpc}"], protocol: h2c }}
  whoami: {{ builtin: whoami }}
routes:
  - {{ match: {{ path: /lane.Peer }}, upstream: grpc }}
  - {{ match: {{ path: /whoami }}, upstream: whoami }}
  - upstream: bodies
"""


class Proxy:
    """headwater with both listeners, and the upstreams behind it."""

    def __init__(self, lane, name, ports, descriptors=None):
        self.http, self.https = free_port(), free_port()
        config = CONFIG.format(http=self.http, https=self.https, **ports)
        limited = ["prlimit", f"--nofile={descriptors}:{descriptors}"] if descriptors else []
        self.pid = lane.headwater(name, config, self.https, wrapper=limited).pid
        self.trust = ssl.create_default_context(cafile=lane.dir / "ca.crt")

    def connect(self, source="127.0.0.1", alpn=None, receive_buffer=None):
        """A connection; over TLS if a protocol is asked for."""
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.https if alpn else self.http))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not alpn:
            return connection
        self.trust.set_alpn_protocols([alpn])
        return self.trust.wrap_socket(connection, server_hostname=HOST)

    def descriptors(self):
        return descriptors(self.pid)

    def resident(self):
        return resident_kib(self.pid)


def source(number):
    """A loopback address for every so many connections, so that no client has too many."""
    return f"127.0.{number // (PER_CLIENT // 2) + 1}.1"


def transfers(lane, proxy):
    sparse = lane.dir / "gib"
    with open(sparse, "wb") as file:
        file.truncate(GIB)
    small = lane.dir / "mib"
    small.write_bytes(bytes(16 << 20))
    rows = []

    def measured(way, direction, move):
        """Moves a little, then much: what the much added at its worst, and in the end."""
        move(16 << 20)
        before = calm(proxy.resident, 64, 0.3)
        forget_peak(proxy.pid)
        begun = time.monotonic()
        came = move(GIB)
        took = time.monotonic() - begun
        peak, after = peak_kib(proxy.pid), proxy.resident()
        lane.check(f"{way}, 1 GiB {direction}: bytes that arrived", came, GIB)
        lane.check(f"{way}, 1 GiB {direction}: KiB it grew by, at most and in the end", (peak - before, after - before),
                   lambda grown: max(grown) <= GROWTH_KIB)
        rows.append([f"{way}, {direction}", mib(before), mib(peak), mib(after), f"{GIB / took / (1 << 20):.0f} MiB/s"])

    for way, url, *options in [
        ("HTTP/1.1", f"http://{HOST}:{proxy.http}", "--http1.1"),
        ("HTTP/2 in the clear", f"http://{HOST}:{proxy.http}", "--http2-prior-knowledge"),
        ("HTTP/1.1 over TLS", f"https://{HOST}:{proxy.https}", "--http1.1"),
        ("HTTP/2 over TLS", f"https://{HOST}:{proxy.https}", "--http2"),
    ]:
        arguments = [*options, "--cacert", str(lane.dir / "ca.crt"), "--resolve", f"{HOST}:{url.rsplit(':', 1)[1]}:127.0.0.1"]
        measured(way, "down", lambda length: int(transfer(*arguments, "-w", "%{size_download}", "-o", "/dev/null", f"{url}/down/{length}")))
        # The upstream's answer is what it got.
        measured(way, "up", lambda length: int(transfer(*arguments, "-T", str(sparse if length == GIB else small), f"{url}/")))

    for direction, shown in [("down", '[{},"OK"]'), ("up", "{} bytes")]:
        call = lambda length: length if shown.format(length) in grpc(proxy, f"{'gib' if length == GIB else '16-mib'}-{direction}") else 0
        measured("gRPC, HTTP/2 on both sides", direction, call)
    print()
    table(["moved 1 GiB", "RSS before", "at most", "after", "rate"], rows)
    print()


def transfer(*arguments):
    command = ["curl", "-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "100", "--fail", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110).stdout or "0"


def grpc(proxy, case):
    """What came of a case of our gRPC client, as it prints it."""
    command = ["lane-grpc", "ask", "-target", f"127.0.0.1:{proxy.http}", case]
    return subprocess.run(command, capture_output=True, text=True, timeout=100).stdout


def idle_http2(lane, ports):
    for way, alpn in [("h2c", None), ("h2 over TLS", "h2")]:
        # A process each: what the first left would hide what the second takes.
        proxy = Proxy(lane, f"idle-{alpn or 'h2c'}", ports)
        before, before_descriptors = calm(proxy.resident, 64), calm(proxy.descriptors)
        rounds = []
        for number in range(1, ROUNDS + 1):
            good, more, resident = idle_connections(proxy, alpn)
            rounds.append(resident)
            left = settled(proxy.descriptors, before_descriptors)
            lane.check(f"{way}, round {number}: answers, descriptors more, and more than before when all are closed",
                       (good, more - before_descriptors, left - before_descriptors), (IDLE, IDLE, 0))
        each = (rounds[0] - before) / IDLE
        lane.check(f"{way}, {IDLE} idle connections: RSS before, with them, KiB each", [mib(before), mib(rounds[0]), f"{each:.1f}"],
                   lambda _: each <= IDLE_KIB[way])
        # All of it is free when they have gone, but the allocator keeps it for the next ones, and needs a few rounds for that.
        lane.check(f"{way}, {ROUNDS} times {IDLE} connections: RSS in each round", [mib(resident) for resident in rounds],
                   lambda _: rounds[-1] - rounds[-3] <= AGAIN_KIB)


def idle_connections(proxy, alpn):
    """A request on each of so many; answers, descriptors and memory while all are idle."""
    good = 0
    with ExitStack() as open_ones:
        for number in range(IDLE):
            client = Http2(open_ones.enter_context(proxy.connect(source(number), alpn)))
            client.ask(1, "/whoami", HOST)
            good += client.response(1)[0]
        return good, proxy.descriptors(), calm(proxy.resident, 64)


def slow_readers(lane, proxy):
    before, before_descriptors = calm(proxy.resident, 64), calm(proxy.descriptors)
    count = sum(SLOW.values())
    readers = []
    with ExitStack() as open_ones:
        request = f"GET /down/{SLOW_BYTES} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        for number in range(SLOW["h1"]):
            connection = open_ones.enter_context(proxy.connect(receive_buffer=65536))
            connection.sendall(request)
            readers.append(lambda connection=connection: read_h1(connection))
        for number in range(SLOW["h1 over TLS"]):
            connection = open_ones.enter_context(proxy.connect("127.0.0.2", "http/1.1", 65536))
            connection.sendall(request)
            readers.append(lambda connection=connection: read_h1(connection))
        # All streams of a connection, and each has its window.
        client = Http2(open_ones.enter_context(proxy.connect("127.0.0.3", receive_buffer=65536)), 1 << 20)
        for number in range(SLOW["h2"]):
            client.ask(2 * number + 1, f"/down/{SLOW_BYTES}", HOST)
        stalled = calm(proxy.resident, 256, 2.0)
        lane.check(f"{count} readers that read nothing: descriptors more", proxy.descriptors() - before_descriptors,
                   SLOW["h1"] + SLOW["h1 over TLS"] + 1 + count)
        each = (stalled - before) / count
        lane.check(f"{count} readers that read nothing: RSS before, with them, KiB each", [mib(before), mib(stalled), f"{each:.1f}"],
                   lambda _: each <= SLOW_KIB)
        done = [read() for read in readers[::10]]
        lane.check("every tenth HTTP/1.1 reader reads on: those that got it all", done.count(SLOW_BYTES), len(done))
        lane.check("an HTTP/2 reader reads on: bytes", read_h2(client, 1), SLOW_BYTES)
    left = settled(proxy.descriptors, before_descriptors)
    lane.check("slow readers gone: descriptors more than before", left - before_descriptors, 0)
    print(f"  slow readers gone: RSS {mib(calm(proxy.resident, 64))}", flush=True)


def read_h1(connection):
    """How many bytes of a body come."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    length = len(data.partition(b"\r\n\r\n")[2])
    piece = bytearray(1 << 18)
    while length < SLOW_BYTES and (part := connection.recv_into(piece)):
        length += part
    return length


def read_h2(client, stream):
    """How many bytes come on one stream; the others of the connection get no further window."""
    length = 0
    for kind, payload in client.frames(stream):
        if kind == DATA and payload:
            length += len(payload)
            client.grant(stream, len(payload))
    return length


def ask(connection, path="/whoami"):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())


def answered(connection, seconds):
    """The status of the next response; 0: closed; None: nothing came."""
    connection.settimeout(seconds)
    try:
        head = connection.recv(65536)
    except TimeoutError:
        return None
    except ConnectionError:
        return 0
    return int(head.split()[1]) if head else 0


def spinning(proxy):
    """How much of a processor it uses while nothing can be done."""
    before = cpu_seconds(proxy.pid)
    time.sleep(SPIN_SECONDS)
    return (cpu_seconds(proxy.pid) - before) / SPIN_SECONDS


def answers(clients, seconds, then=lambda client: None):
    """The statuses of clients that get an answer within this time, and what is done with each client then."""
    statuses = {}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            waiting.register(client, selectors.EVENT_READ)
        while len(statuses) < len(clients) and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                waiting.unregister(key.fileobj)
                statuses[key.fileobj] = answered(key.fileobj, 1)
                then(key.fileobj)
    return statuses


def exhaustion(lane, ports):
    """More connections than there are descriptors: some are served, the others wait in the kernel's queue."""
    proxy = Proxy(lane, "exhausted", ports, DESCRIPTORS)
    before = calm(proxy.descriptors)
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(proxy.connect(source(number))) for number in range(WAITING)]
        for client in clients:
            ask(client)
        served = answers(clients, 2)
        waiting = [client for client in clients if client not in served]
        lane.check(f"{WAITING} connections, {DESCRIPTORS} descriptors: answers", count(list(served.values())),
                   lambda came: list(came) == [200] and DESCRIPTORS // 2 <= came[200] <= DESCRIPTORS)
        lane.check("meanwhile: descriptors in use", proxy.descriptors(), lambda came: came <= DESCRIPTORS)
        lane.check(f"meanwhile: share of a processor, over {SPIN_SECONDS:.0f} s", round(spinning(proxy), 4), lambda came: came < IDLE_CPU)
        lane.check("meanwhile: answers to those that wait", count(list(answers(waiting, 0.1).values())), {})
        for client in served:
            client.close()
        # Whoever is answered goes, and makes room for another.
        came = answers(waiting, 30, socket.socket.close)
        lane.check("as others go, answers to those that waited", count(list(came.values())), {200: len(waiting)})
    lane.check("all gone: descriptors more than before", settled(proxy.descriptors, before) - before, 0)
    with proxy.connect() as client:
        ask(client)
        lane.check("and a new connection: its answer", answered(client, 5), 200)


def exhaustion_by_upstreams(lane, ports):
    """Requests that need a descriptor more each, all at once: those that get none wait for one."""
    proxy = Proxy(lane, "exhausted-by-upstreams", ports, DESCRIPTORS)
    before = calm(proxy.descriptors)
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(proxy.connect(source(number))) for number in range(AT_ONCE)]
        for client in clients:
            ask(client, "/hold/500")
        came = answers(clients, 20)
        lane.check(f"{AT_ONCE} requests at once, 0.5 s each at the upstream, {DESCRIPTORS} descriptors: answers",
                   count(list(came.values())), {200: AT_ONCE})
    lane.check("all gone: descriptors more than before", settled(proxy.descriptors, before) - before, 0)


def count(items):
    return {item: items.count(item) for item in sorted(set(items), key=str)}


def per_client(lane, proxy):
    """One address may have so many connections; the next is closed without an answer, and others don't notice."""
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(proxy.connect("127.0.9.1")) for _ in range(PER_CLIENT)]
        for client in clients:
            ask(client)
        statuses = [answered(client, 10) for client in clients]
        lane.check(f"{PER_CLIENT} connections of one client: answers", count(statuses), {200: PER_CLIENT})
        refused = []
        for _ in range(3):
            with proxy.connect("127.0.9.1") as one_more:
                try:
                    ask(one_more)
                    refused.append(answered(one_more, 5))
                except ConnectionError:
                    refused.append(0)
        lane.check("3 more of it: answers (0: closed)", refused, [0, 0, 0])
        with proxy.connect("127.0.9.2") as other:
            ask(other)
            lane.check("another client's: answer", answered(other, 5), 200)
        clients[0].close()
        lane.check("one of the first closed, and another of that client: served", settled(lambda: is_served(proxy, "127.0.9.1"), True, 10), True)


def is_served(proxy, address):
    with proxy.connect(address) as client:
        try:
            ask(client)
            return answered(client, 5) == 200
        except ConnectionError:
            return False


with Lane("limits", "lane-grpc", "prlimit") as lane:
    Authority(lane.dir).issue("front", HOST)
    ports = {name: free_port() for name in ("bodies", "grpc")}
    lane.start("bodies", [sys.executable, "-B", str(HERE / "bodies.py"), "127.0.0.1", str(ports["bodies"])], ports["bodies"])
    lane.start("grpc", ["lane-grpc", "serve", "-listen", f"127.0.0.1:{ports['grpc']}", "-name", "peer"], ports["grpc"])
    if "skip" not in sys.argv:     transfers(lane, Proxy(lane, "transfers", ports))
    idle_http2(lane, ports)
    proxy = Proxy(lane, "slow-readers", ports)
    slow_readers(lane, proxy)
    per_client(lane, proxy)
    exhaustion(lane, ports)
    exhaustion_by_upstreams(lane, ports)
