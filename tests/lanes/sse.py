#!/usr/bin/env -S python3 -B
"""Server-sent events: how much later they arrive through headwater than directly, and than through nginx without buffering.

Each event is sent only when the one before it has arrived, so whoever holds one back hangs; and the ways take turns with every
event, so all of them meet the same machine.
"""
import socket
import ssl
import statistics
import time

from certificates import Authority
from figures import table
from http2 import DATA, HEADERS, OK, Http2
from lib import HOST, Lane, free_port
from rivals import Headwater, Nginx

EVENTS, WARM_UP = 2000, 100
PATIENCE = 10
# How long a response may be kept waiting for its first event.
HEAD_PATIENCE = 2
# What a timer that waits for more would show: Nagle's algorithm against delayed acknowledgements takes 40 ms.
MOST_ADDED_MS = 5.0

CHUNKED, UNTIL_CLOSE = "chunked", "until close"
FRAMINGS = {
    CHUNKED: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n",
    UNTIL_CLOSE: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: close\r\n\r\n",
}


class Stream:
    """A stream of events: both ends, and whatever lies between."""

    def __init__(self, upstream, client, framing):
        self.framing = framing
        client.ask()
        self.upstream, _ = upstream.accept()
        self.upstream.settimeout(PATIENCE)
        self.upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.upstream.recv(65536)
        self.upstream.sendall(FRAMINGS[framing])
        self.client = client
        self.latencies = []
        self.alone = 0
        self.head_alone = True
        client.socket.settimeout(HEAD_PATIENCE)
        try:
            client.begin()
        except TimeoutError:
            self.head_alone = False
        client.socket.settimeout(PATIENCE)

    def event(self, number):
        text = b"id: %d\ndata: something happened\n\n" % number
        sent = b"%x\r\n%s\r\n" % (len(text), text) if self.framing == CHUNKED else text
        began = time.perf_counter_ns()
        self.upstream.sendall(sent)
        if not self.head_alone and not number:
            self.client.begin()
        came = self.client.event()
        self.latencies.append((time.perf_counter_ns() - began) / 1e6)
        self.alone += came == text

    def end(self):
        """Whether the client sees it."""
        if self.framing == CHUNKED:
            self.upstream.sendall(b"0\r\n\r\n")
        self.upstream.close()
        return self.client.ended()

    def measured(self):
        measured = sorted(self.latencies[WARM_UP:])
        return statistics.median(measured), measured[len(measured) * 99 // 100]


class Http1Client:
    """Reads a body as it comes, chunked or not."""

    def __init__(self, connection):
        self.socket = connection
        self.buffer = b""

    def ask(self):
        self.socket.sendall(f"GET /events HTTP/1.1\r\nhost: {HOST}\r\naccept: text/event-stream\r\n\r\n".encode())

    def begin(self):
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head.decode("latin-1"))
        self.chunked = b"transfer-encoding: chunked" in head.lower()

    def more(self):
        part = self.socket.recv(65536)
        if not part:
            raise EOFError
        return part

    def event(self):
        """All that is there once an event is complete."""
        while not self.buffer.endswith(b"\n\n\r\n" if self.chunked else b"\n\n"):
            self.buffer += self.more()
        came, self.buffer = self.buffer, b""
        return came if not self.chunked else b"".join(chunks(came))

    def ended(self):
        try:
            while self.buffer != b"0\r\n\r\n":
                self.buffer += self.more()
        except EOFError:
            return not self.chunked and not self.buffer
        return self.chunked


def chunks(data):
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        data = rest[length + 2:]


class Http2Client:
    """The same over HTTP/2."""

    def __init__(self, connection):
        self.socket = connection
        self.http2 = Http2(connection, 1 << 20)

    def ask(self):
        self.http2.ask(1, "/events", HOST, "https")

    def begin(self):
        self.frames = self.http2.frames(1)
        kind, payload = next(self.frames)
        if kind != HEADERS or payload[0] != OK:
            raise ConnectionError(f"frame {kind}, {payload[:16]!r}")

    def event(self):
        came = b""
        while not came.endswith(b"\n\n"):
            kind, payload = next(self.frames)
            if kind == DATA:
                came += payload
        return came

    def ended(self):
        """No frame but an empty one, or trailers, and then the end."""
        return all(not payload for _, payload in self.frames)


def connect(port, trust=None):
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trust.wrap_socket(connection, server_hostname=HOST) if trust else connection


def measure(lane, upstream, ways, framing):
    streams = {name: Stream(upstream, make(), framing) for name, make in ways.items()}
    for number in range(WARM_UP + EVENTS):
        for stream in streams.values():
            stream.event(number)
    for name, stream in streams.items():
        what = f"{name}, {framing}"
        ended = stream.end()
        if not name.startswith("nginx"):
            lane.check(f"{what}: the head arrives before there is an event", stream.head_alone, True)
            lane.check(f"{what}: events that arrived one by one, of {WARM_UP + EVENTS}", stream.alone, WARM_UP + EVENTS)
            lane.check(f"{what}: the end arrives", ended, True)
    direct, _ = streams["direct, HTTP/1.1"].measured()
    rows = []
    for name, stream in streams.items():
        median, late = stream.measured()
        rows.append([f"{name}, {framing}", f"{median:.3f}", f"{late:.3f}", f"{median - direct:+.3f}", "alone" if stream.head_alone else "with an event"])
        if name.startswith("headwater"):
            lane.check(f"{name}, {framing}: ms that the median event arrives later than directly", round(median - direct, 3),
                       lambda added: added < MOST_ADDED_MS)
    return rows


with Lane("sse", "nginx", "openssl") as lane:
    authority = Authority(lane.dir)
    authority.issue("front", HOST)
    upstream = socket.create_server(("127.0.0.1", 0))
    upstream.settimeout(PATIENCE)
    address = upstream.getsockname()[1]
    trust = ssl.create_default_context(cafile=authority.certificate)
    trust.set_alpn_protocols(["h2"])
    ways = {"direct, HTTP/1.1": lambda: Http1Client(connect(address))}
    for kind in (Headwater, Nginx):
        ports = {"port": free_port(), "tls": free_port(), "upstream": address}
        rival = kind(lane, ports, lane.dir / kind.name)
        for file in ("front.crt", "front.key"):
            rival.directory.joinpath(file).write_bytes((lane.dir / file).read_bytes())
        rival.start()
        ways[f"{rival.name}, HTTP/1.1"] = lambda port=ports["port"]: Http1Client(connect(port))
        ways[f"{rival.name}, HTTP/2 over TLS"] = lambda port=ports["tls"]: Http2Client(connect(port, trust))
    rows = [row for framing in FRAMINGS for row in measure(lane, upstream, ways, framing)]
    print()
    table(["ms from upstream to client", "median", "p99", "later than directly", "head"], rows)
    print()
