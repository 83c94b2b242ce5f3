#!/usr/bin/env -S python3 -B
"""HTTP/2 as nghttp2's tools speak it: many streams at once, over TLS and in the clear, and what follows a body."""
import re
import subprocess

from lib import HOST, Lane, free_port

REQUESTS, CONNECTIONS, STREAMS = 3000, 4, 32

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  https:
    address: "127.0.0.1:{https}"
    tls: {{ certificates: [{{ cert: lane.crt, key: lane.key, self_signed: [{host}, 127.0.0.1] }}] }}
upstreams:
  app: {{ endpoints: [{endpoints}] }}
routes:
  - upstream: app
"""


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode("latin-1")


def load(lane, name, url, *options):
    text = output("h2load", f"-n{REQUESTS}", f"-c{CONNECTIONS}", f"-m{STREAMS}", *options, url)
    done = re.search(r"^requests: .*", text, re.M)
    statuses = re.search(r"^status codes: .*", text, re.M)
    wanted = f"requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"
    lane.check(f"{name}, {REQUESTS} requests on {CONNECTIONS} connections", done[0] if done else text, wanted)
    wanted = f"status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx"
    lane.check(f"{name}, their status codes", statuses[0] if statuses else text, wanted)


def received(text):
    """What nghttp received: frames as (name, flags), and fields."""
    frames = re.findall(r"recv (\w+) frame <length=\d+, flags=0x(\w\w), stream_id=[1-9]", text)
    got = re.findall(r"recv \(stream_id=\d+(?:, \w+)?\) ([^ ]+): (.*)", text)
    return [(name, int(flags, 16) & 1) for name, flags in frames], [(name, value.strip()) for name, value in got]


def trailers(lane, name, url):
    """A chunked body with a trailer field behind it must end with a block of fields, not with the data."""
    frames, got = received(output("nghttp", "--no-verify-peer", "--no-dep", "--null-out", "--verbose", url))
    kinds = [kind for kind, _ in frames if kind in ("HEADERS", "DATA")]
    lane.check(f"{name}, a response with trailers, the frames of the stream", kinds, lambda came: came[:1] + came[-1:] == ["HEADERS"] * 2)
    lane.check(f"{name}, a response with trailers, the last frame ends the stream", [kind for kind, ended in frames if ended], ["HEADERS"])
    lane.check(f"{name}, a response with trailers, :status", [v for n, v in got if n == ":status"], ["200"])
    checksum = [value for field, value in got if field == "x-checksum"]
    lane.check(f"{name}, a response with trailers, x-checksum", checksum, lambda came: len(came) == 1 and came[0].isdigit())
    connection = [field for field, _ in got if field in ("connection", "transfer-encoding", "keep-alive")]
    lane.check(f"{name}, a response with trailers, fields of HTTP/1.1 connections", connection, [])


def upload(lane, name, url, size):
    body = lane.dir / "body"
    body.write_bytes(bytes(size))
    text = output("nghttp", "--no-verify-peer", "--no-dep", f"--data={body}", url)
    lane.check(f"{name}, {size} bytes uploaded, those that arrived", re.findall(r"^BodyBytes: (\d+)", text, re.M), [str(size)])


with Lane("h2", "h2load", "nghttp") as lane:
    ports = [free_port() for _ in range(3)]
    for port in ports:
        lane.echo(f"echo-{port}", port)
    http, https = free_port(), free_port()
    endpoints = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    lane.headwater("headwater", CONFIG.format(http=http, https=https, host=HOST, endpoints=endpoints), https)
    for name, url in [("h2 over TLS", f"https://127.0.0.1:{https}"), ("h2c by prior knowledge", f"http://127.0.0.1:{http}")]:
        load(lane, name, f"{url}/")
        trailers(lane, name, f"{url}/trailers")
        for size in (0, 1, 1 << 20):
            upload(lane, name, f"{url}/", size)
    load(lane, "HTTP/1.1 over TLS", f"https://127.0.0.1:{https}/", "--h1")
    load(lane, "HTTP/1.1 in the clear", f"http://127.0.0.1:{http}/", "--h1")
