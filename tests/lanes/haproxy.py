#!/usr/bin/env -S python3 -B
"""HAProxy sending PROXY v1 and v2 in front of headwater: its source is believed, a stranger's is not."""
import itertools
import socket
import struct

from lib import HOST, Lane, curl, fields, free_port, raw

HAPROXY = "127.0.0.9"
STRANGER = "127.0.0.2"
CLIENT = "127.0.0.20"
MODES = ["required", "optional"]
VERSIONS = ["v1", "v2"]
PROBES = 50

LISTENERS = """
  plain_{mode}:
    address: "127.0.0.1:{plain}"
    proxy_protocol: {{ mode: {mode}, from: [{haproxy}], timeout: 2s }}
  tls_{mode}:
    address: "127.0.0.1:{tls}"
    proxy_protocol: {{ mode: {mode}, from: [{haproxy}], timeout: 2s }}
    tls: {{ certificates: [{{ cert: lane.crt, key: lane.key, self_signed: [{host}] }}] }}
"""
UPSTREAM = """
client_ip: {{ trusted_proxies: [] }}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{echo}"] }}
routes:
  - upstream: app
"""
GLOBAL = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
"""
# `check` connects, sends a PROXY header of its own (v2: LOCAL, v1: UNKNOWN) and hangs up, again and again.
PAIR = """
listen {name}
  bind 127.0.0.1:{port}
  bind [::1]:{port}
  server headwater 127.0.0.1:{target} {send} source {haproxy} check inter 50ms rise 1 fall 2
"""

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
V1 = b"PROXY TCP4 6.6.6.6 127.0.0.1 4711 80\r\n"
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = V2_SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 12, bytes([6] * 4), bytes([127, 0, 0, 1]), 4711, 80)
V2_LOCAL = V2_SIGNATURE + b"\x20\0\0\0"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"


def believed(lane, scheme, mode, version, port):
    """Through HAProxy the client is whoever connected to HAProxy."""
    for source, address in [(CLIENT, "127.0.0.1"), ("::1", "[::1]")]:
        arguments = ["--interface", source, "--connect-to", f"::{address}:{port}", "--cacert", str(lane.dir / "lane.crt")]
        answer, = curl(*arguments, *fields("X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6"), f"{scheme}://{HOST}/")
        what = f"{scheme} {mode}, {version} from HAProxy for {source}"
        lane.check(f"{what}, status", answer.status, 200)
        for name, wanted in [
            ("X-Real-IP", source), ("X-Forwarded-For", source), ("X-Forwarded-Proto", scheme), ("X-Forwarded-Port", str(port)),
        ]:
            lane.check(f"{what}, {name}", answer.values(name), [wanted])
    if scheme == "https":
        answer, = curl("--http2", *arguments, f"{scheme}://{HOST}/")
        lane.check(f"{what} over HTTP/{answer.version}, X-Real-IP", answer.values("X-Real-IP"), ["::1"])


def strangers(lane, mode, plain, tls):
    """A source that is not in `from` may speak without a header, and gains nothing by one."""
    for version, header in [("v1", V1), ("v2", V2)]:
        came = raw(plain, header + GET, STRANGER)
        lane.check(f"http {mode}, {version} from a stranger", first_line(came), "HTTP/1.1 400 Bad Request")
        lane.check(f"http {mode}, {version} from a stranger, what the upstream saw", b"RemoteAddr" in came or b"6.6.6.6" in came, False)
        came = raw(tls, header + GET, STRANGER)
        lane.check(f"https {mode}, {version} from a stranger", first_line(came), no_answer)
    for scheme, port in [("http", plain), ("https", tls)]:
        arguments = ["--interface", STRANGER, "--connect-to", f"::127.0.0.1:{port}", "--cacert", str(lane.dir / "lane.crt")]
        answer, = curl(*arguments, f"{scheme}://{HOST}/")
        lane.check(f"{scheme} {mode}, no header from a stranger, X-Real-IP", answer.values("X-Real-IP"), [STRANGER])
        answer, = curl("--haproxy-protocol", *arguments, f"{scheme}://{HOST}/")
        wanted = 400 if scheme == "http" else 0
        lane.check(f"{scheme} {mode}, curl --haproxy-protocol from a stranger, status", answer.status, wanted)


def listed(lane, mode, plain, tls):
    """A source in `from`, by hand: without a header, with one that names nobody, with a broken one."""
    came = raw(plain, GET, HAPROXY)
    if mode == "required":
        lane.check("http required, no header from a listed sender", came, b"")
    else:
        lane.check("http optional, no header from a listed sender", seen(came), HAPROXY)
    for what, header in [("v2 LOCAL", V2_LOCAL), ("v1 UNKNOWN", V1_UNKNOWN)]:
        lane.check(f"http {mode}, {what} from a listed sender", seen(raw(plain, header + GET, HAPROXY)), HAPROXY)
    for what, header in [
        ("v1 with leading zeroes", b"PROXY TCP4 006.6.6.6 127.0.0.1 4711 80\r\n"), ("v1 with port 70000", b"PROXY TCP4 6.6.6.6 127.0.0.1 70000 80\r\n"),
        ("v2 of a datagram", V2.replace(b"\x21\x11", b"\x21\x12")), ("two headers", V1 + V1),
    ]:
        came = raw(plain, header + GET, HAPROXY)
        lane.check(f"http {mode}, {what} from a listed sender, believed", b"6.6.6.6" in came or b"RemoteAddr" in came, False)
    half = raw(plain, V1[:20], HAPROXY)
    lane.check(f"http {mode}, half a header and no more", half, lambda came: b"left open" not in came and b"6.6.6.6" not in came)


def probes(lane, mode, *ports):
    for port, source in itertools.product(ports, (HAPROXY, STRANGER)):
        for _ in range(PROBES):
            socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0)).close()
    came = seen(raw(ports[0], V1 + GET, HAPROXY))
    lane.check(f"http {mode}, v1 after {PROBES} connections that said nothing, X-Real-IP", came, "6.6.6.6")


def first_line(came):
    return came.split(b"\r\n")[0].decode("latin-1")


def no_answer(line):
    return "HTTP/" not in line and "left open" not in line


def seen(came):
    """X-Real-IP in an answer as it came over the wire."""
    values = [line[10:].strip() for line in came.decode("latin-1").splitlines() if line.lower().startswith("x-real-ip:")]
    return values[0] if len(values) == 1 else f"{values} in {came!r}"


with Lane("haproxy", "haproxy") as lane:
    echo = free_port()
    lane.echo("echo", echo)
    listeners = {(scheme, mode): free_port() for scheme in ("http", "https") for mode in MODES}
    config = "listeners:"
    for mode in MODES:
        plain, tls = listeners["http", mode], listeners["https", mode]
        config += LISTENERS.format(mode=mode, plain=plain, tls=tls, haproxy=HAPROXY, host=HOST)
    headwater = lane.headwater("headwater", config + UPSTREAM.format(echo=echo), listeners["https", "optional"])

    pairs, haproxy = {}, GLOBAL
    for (scheme, mode), version in itertools.product(listeners, VERSIONS):
        pairs[scheme, mode, version] = port = free_port()
        send = {"v1": "send-proxy", "v2": "send-proxy-v2"}[version]
        haproxy += PAIR.format(name=f"{scheme}-{mode}-{version}", port=port, target=listeners[scheme, mode], send=send, haproxy=HAPROXY)
    (lane.dir / "haproxy.cfg").write_text(haproxy)
    lane.start("haproxy", ["haproxy", "-db", "-f", "haproxy.cfg"], port)

    for (scheme, mode, version), port in pairs.items():
        believed(lane, scheme, mode, version, port)
    for mode in MODES:
        ports = listeners["http", mode], listeners["https", mode]
        strangers(lane, mode, *ports)
        listed(lane, mode, *ports)
        probes(lane, mode, *ports)
    errors = [line for line in (lane.dir / "headwater.log").read_text().splitlines() if "ERROR" in line]
    lane.check("errors in headwater's log after all this", errors, [])
    lane.check("headwater's exit status", headwater.poll(), None)
    checks = (lane.dir / "haproxy.log").read_text().count("is DOWN")
    lane.check("HAProxy's health checks that failed", checks, 0)
