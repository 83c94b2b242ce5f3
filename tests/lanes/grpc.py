#!/usr/bin/env -S python3 -B
"""grpc-go at both ends of headwater: every kind of call, in the clear and over TLS, and servers that say goodbye."""
import json
import re
import signal
import subprocess

from certificates import Authority
from lib import Lane, free_port, poll

PEER = "lane-grpc"
HOST = "grpc.example.com"
WORKERS = 32
ROUNDS = 4

CONFIG = """
listeners:
  h2c: {{ address: "127.0.0.1:{h2c}" }}
  https: {{ address: "127.0.0.1:{https}", tls: {{ certificates: [{{ cert: front.crt, key: front.key }}] }} }}
upstreams:
  plain: {{ endpoints: ["127.0.0.1:{plain}"], protocol: h2c }}
  tls: {{ endpoints: ["127.0.0.1:{tls}"], protocol: h2, tls: {{ server_name: back.example.com, ca: back-ca.crt }} }}
  unproven: {{ endpoints: ["127.0.0.1:{tls}"], protocol: h2, tls: {{ server_name: back.example.com, ca: front-ca.crt }} }}
  misnamed: {{ endpoints: ["127.0.0.1:{tls}"], protocol: h2, tls: {{ server_name: {host}, ca: back-ca.crt }} }}
  nobody: {{ endpoints: ["127.0.0.1:{nobody}"], protocol: h2c }}
routes:
  - {{ upstream: {upstream} }}
"""
PAIR = """
listeners:
  h2c: {{ address: "127.0.0.1:{h2c}" }}
upstreams:
  pair: {{ endpoints: ["127.0.0.1:{one}", "127.0.0.1:{two}"], protocol: h2c }}
routes:
  - upstream: pair
"""

# The statuses of gRPC from 1 on, in order.
STATUSES = [
    "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
    "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
]


def soon(milliseconds):
    """Well below the second that RELIABILITY allows, and well above what a busy machine takes."""
    return 0 <= milliseconds < 1000


# A case, what it is, and what must come of it.
CASES = [
    ("unary", "a unary call: message, status, header, trailers", ["hello", "OK", "[{name}]", "[5]", '["\\x00\\xff"]']),
    ("large", "16 MiB there and back: bytes, unchanged, status", [16 << 20, True, "OK"]),
    ("server-stream", "1,000 messages down: how many, in order, status, trailer", [1000, True, "OK", "[1000]"]),
    ("client-stream", "1,000 messages up: the answer, status", [["1000 messages, 1000000 bytes"], "OK"]),
    ("bidi", "200 messages up, each answered before the next: answered, left over, status", [200, 0, "OK"]),
    ("status", "every status there is, in trailers alone, with metadata",
     [f"{status}: as asked: 100 % of über, [asked for]" for status in STATUSES]),
    ("late-status", "a status behind 3 messages: messages, status, trailer", [["1", "2", "3"], "DataLoss: after the last message", "[3]"]),
    ("early-status", "a status while the client still sends: its end, messages, status", ["EOF", 0, "ResourceExhausted: one is enough"]),
    ("deadline", "a deadline of 1 s: messages, status, the server's view, ms later",
     lambda came: came[0] == ["begun"] and came[1] in IN_TIME and came[2] in ENDED_IN_TIME and soon(came[3])),
    ("cancel", "a call taken back: message, the server's view, ms later",
     lambda came: came[:2] == ["begun", "context canceled, of 1m0s"] and soon(came[2])),
    ("vanish", "a client that vanishes: message, the server's view, ms later",
     lambda came: came[:2] == ["begun", "context canceled, of 1m0s"] and soon(came[2])),
    ("concurrent", "500 calls at once on one connection: statuses", {"OK": 500}),
]
# Whoever is first: the client's deadline, or the server's, which gives the call up. So it is without a proxy.
IN_TIME = ["DeadlineExceeded: context deadline exceeded", *(f"{status}: stream terminated by RST_STREAM with error code: CANCEL"
                                                            for status in ("DeadlineExceeded", "Canceled"))]
ENDED_IN_TIME = ["context deadline exceeded, of 1s", "context canceled, of 1s"]


def serve(lane, name, port, *options):
    return lane.start(f"grpc-{name}", [PEER, "serve", "-listen", f"127.0.0.1:{port}", "-name", name, *options], port)


def ask(target, *cases):
    """What came of each case."""
    done = subprocess.run([PEER, "ask", *target, *cases], capture_output=True, text=True, timeout=120)
    came = {line["case"]: line["came"] for line in map(json.loads, done.stdout.splitlines())}
    return {case: came.get(case, f"nothing; {done.stderr.strip()}") for case in cases}


def calls(lane, way, target, server):
    came = ask(target, *(case for case, _, _ in CASES))
    for case, what, wanted in CASES:
        if isinstance(wanted, list):
            wanted = [text.format(name=server) if text == "[{name}]" else text for text in wanted]
        lane.check(f"{way}: {what}", came[case], wanted)


def identity(lane, way, target, scheme, port):
    """Metadata is what a server reads fields of the request from: who asks is ours to say."""
    came = ask(target, "metadata")["metadata"]
    for name, wanted in [
        ("x-forwarded-for", ["127.0.0.1"]), ("x-real-ip", ["127.0.0.1"]), ("x-forwarded-proto", [scheme]),
        ("x-forwarded-host", [HOST]), ("x-forwarded-port", [str(port)]), (":authority", [HOST]),
        ("x-many", ["one", "two"]), ("authorization", ["Bearer t"]), ("content-type", ["application/grpc"]),
    ]:
        lane.check(f"{way}: metadata with forged addresses, {name}", came.get(name), wanted)
    left = [name for name, values in came.items() if "6.6.6.6" in values or "_" in name]
    lane.check(f"{way}: what is left of the forgery", left, [])


def peers(lane):
    back, front, other = (Authority(lane.dir, name) for name in ("back-ca", "front-ca", "other-ca"))
    back.issue("back", "back.example.com")
    front.issue("front", HOST)
    ports = {name: free_port() for name in ("plain", "tls", "nobody")}
    serve(lane, "plain", ports["plain"])
    serve(lane, "tls", ports["tls"], "-cert", "back.crt", "-key", "back.key")

    def proxy(upstream):
        h2c, https = free_port(), free_port()
        lane.headwater(upstream, CONFIG.format(h2c=h2c, https=https, host=HOST, upstream=upstream, **ports), https)
        believing = lambda ca: ["-target", f"127.0.0.1:{https}", "-ca", str(ca.certificate), "-server-name", HOST]
        return h2c, https, ["-target", f"127.0.0.1:{h2c}"], believing

    return proxy, front, other


def refused(lane, proxy):
    """An endpoint that isn't there, or isn't who it should be: no call reaches it, and the client is told."""
    for upstream, what in [
        ("nobody", "an endpoint that isn't there"), ("unproven", "a certificate of another authority"),
        ("misnamed", "a certificate for another name"),
    ]:
        _, _, plain, _ = proxy(upstream)
        came = ask(plain, "unary")["unary"]
        lane.check(f"{what}: message, status", came[:2], lambda came: came[0] == "" and came[1].startswith("Unavailable: "))


def begun(load):
    """Waits until a load is under way."""
    line = load.stdout.readline().strip()
    if line != "begun":
        raise ChildProcessError(f"the load did not begin: {line!r}")


def goodbye(lane):
    """Servers stop gracefully, one after the other, and come back, under load."""
    ports = {name: free_port() for name in ("one", "two")}
    servers = {name: serve(lane, name, port) for name, port in ports.items()}
    h2c = free_port()
    lane.headwater("pair", PAIR.format(h2c=h2c, **ports), h2c)
    command = [PEER, "load", "-target", f"127.0.0.1:{h2c}", "-workers", str(WORKERS)]
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lane.processes.append(load)
    begun(load)
    for number in range(ROUNDS):
        name = ("one", "two")[number % 2]
        servers[name].send_signal(signal.SIGTERM)
        status = servers[name].wait(30)
        lane.check(f"server {name} stops with GOAWAY under load, exit status", status, 0)
        servers[name] = serve(lane, f"{name}", ports[name])
        # Load reaches it again: only then is it the other's turn.
        poll(f"calls to server {name}", lambda: established(servers[name].pid, ports[name]))
    output, _ = load.communicate(timeout=60)
    came = json.loads(output)
    lane.check(f"{ROUNDS} servers gone under load, {WORKERS} calls at a time: calls that failed", came["failed"], [])
    enough = lambda came: sum(came.values()) > 2000 and all(came.get(name, 0) > 100 for name in ("[one]", "[two]", "streams"))
    lane.check("calls that were answered, by whom", came["answered"], enough)


def established(pid, port):
    """Whether anybody has a connection to this port."""
    lines = open(f"/proc/{pid}/net/tcp").read().splitlines()[1:]
    local = f":{port:04X}"
    return any(fields[1].endswith(local) and fields[3] == "01" for fields in map(str.split, lines))


with Lane("grpc", PEER, "openssl") as lane:
    proxy, front, other = peers(lane)
    h2c, https, plain, _ = proxy("plain")
    calls(lane, "h2c to h2c", plain, "plain")
    identity(lane, "h2c to h2c", plain, "http", h2c)
    h2c, https, plain, believing = proxy("tls")
    calls(lane, "TLS to TLS", believing(front), "tls")
    identity(lane, "TLS to TLS", believing(front), "https", https)
    came = ask(believing(other), "unary")["unary"]
    lane.check("TLS to TLS: a client that believes another authority: message, status", came[:2],
               lambda came: came[0] == "" and re.match("Unavailable: .*unknown authority", came[1]))
    refused(lane, proxy)
    goodbye(lane)
