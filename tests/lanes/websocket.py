#!/usr/bin/env -S python3 -B
"""A WebSocket through an HTTP/2 upstream: HAProxy takes it by extended CONNECT (RFC 8441) and asks the echo service."""
import base64
import hashlib
import os
import socket

from lib import HEADWATER, Lane, curl, free_port

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{haproxy}"], protocol: h2c }}
routes:
  - upstream: app
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout tunnel 30s
listen edge
  bind 127.0.0.1:{haproxy} proto h2
  server echo 127.0.0.1:{echo}
"""
TEXT, CLOSE = 1, 8


def frame(kind, data):
    """As a client sends it: masked, and short."""
    mask = os.urandom(4)
    return bytes([0x80 | kind, 0x80 | len(data)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def handshake(stream, key):
    lines = ["GET /echo HTTP/1.1", "host: app.test", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
    stream.sendall("\r\n".join([*lines, f"sec-websocket-key: {key}", "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += stream.recv(1)
    return head.decode()


with Lane("websocket", "haproxy") as lane:
    http, haproxy, echo = (free_port() for _ in range(3))
    lane.start("echo", [HEADWATER, "whoami", "--listen", f"127.0.0.1:{echo}"], echo)
    (lane.dir / "haproxy.cfg").write_text(HAPROXY.format(haproxy=haproxy, echo=echo))
    lane.start("haproxy", ["haproxy", "-db", "-f", "haproxy.cfg"], haproxy)
    lane.headwater("headwater", CONFIG.format(http=http, haproxy=haproxy), http)
    key = base64.b64encode(os.urandom(16)).decode()
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    with socket.create_connection(("127.0.0.1", http), 10) as stream:
        head = handshake(stream, key)
        lane.check("the handshake, its status", head.split(" ")[1], "101")
        lane.check("the handshake, its answer to the key", accept in head, True)
        stream.sendall(frame(TEXT, b"through two proxies"))
        lane.check("a message comes back", stream.recv(1024), b"\x81\x13through two proxies")
        answer, = curl(f"http://127.0.0.1:{http}/")
        lane.check("another request meanwhile", answer.status, 200)
        stream.sendall(frame(CLOSE, b"\x03\xe8"))
        lane.check("the closing handshake", stream.recv(1024), b"\x88\x02\x03\xe8")
        lane.check("the end", stream.recv(1024), b"")
