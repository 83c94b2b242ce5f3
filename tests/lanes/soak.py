#!/usr/bin/env -S python3 -B
"""Everything at once for a while: HTTP/1.1, HTTP/2, TLS, WebSockets, uploads, slow readers, requests taken back in every state, and
a reload every two seconds. What must succeed does, and afterwards memory and descriptors are what they were.

usage: soak.py [SECONDS]    (default `$SOAK_SECONDS`, else 60)
"""
import asyncio
import os
import random
import re
import signal
import socket
import ssl
import struct
import sys
import time
from collections import Counter

from certificates import Authority
from figures import calm, descriptors, mib, resident_kib, settled, table
from http2 import END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PREFACE, RST_STREAM, SETTINGS, block, frame
from lib import HERE, HOST, Lane, free_port
from traffic import PATIENCE, Load, Origin, WebSocket, Wire, many_descriptors, within

SECONDS = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SOAK_SECONDS", 60))
WARM_UP = max(15, SECONDS // 10)
RELOAD_INTERVAL = 2.0
WEBSOCKETS = 20
BODY = 1 << 18
# Of the allocator, which gives back what it may, and not all that is free.
GROWTH_KIB = 4 << 10

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}", public_port: {public} }}
  https: {{ address: "127.0.0.1:{https}", tls: {{ certificates: [{{ cert: front.crt, key: front.key }}] }} }}
{more}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{origin}"], pool: {{ idle_timeout: 1s }} }}
  bodies: {{ endpoints: ["127.0.0.1:{bodies}"], pool: {{ idle_timeout: 1s }} }}
routes:
  - {{ match: {{ path: /generation }}, respond: {{ status: 200, body: "{generation}" }} }}
  - {{ match: {{ path: /bodies }}, upstream: bodies }}
  - upstream: app
log: {{ level: warn }}
access_log: {{ output: /dev/null, format: json }}
"""


class Soak:
    """The proxy and what is done to it."""

    def __init__(self, lane):
        self.lane = lane
        self.ports = {name: free_port() for name in ("http", "https", "origin", "bodies", "more")}
        self.generation = 0
        self.done, self.failed = Counter(), Counter()
        self.over = False
        self.origin = Origin()
        self.trust = ssl.create_default_context(cafile=lane.dir / "ca.crt")
        self.pid = None

    async def start(self):
        await self.origin.listen(self.ports["origin"])
        port = self.ports["bodies"]
        self.lane.start("bodies", [sys.executable, "-B", str(HERE / "bodies.py"), "127.0.0.1", str(port)], port)
        process = await asyncio.to_thread(self.lane.headwater, "headwater", self.config(), self.ports["https"])
        self.pid = process.pid

    def config(self):
        """Another one each time; every second has a listener more."""
        more = f'  more: {{ address: "127.0.0.1:{self.ports["more"]}" }}' if self.generation % 2 else ""
        return CONFIG.format(generation=self.generation, public=1 + self.generation, **self.ports | {"more": more})

    async def run(self, seconds):
        """All of it, so long; returns what memory and descriptors were on the way."""
        self.over = False
        self.done.clear()
        self.failed.clear()
        port, https = self.ports["http"], self.ports["https"]
        workers = [self.h2load("HTTP/2 over TLS", f"https://127.0.0.1:{https}/"), self.h2load("h2c", f"http://127.0.0.1:{port}/")]
        workers += [self.h2load("HTTP/1.1 over TLS", f"https://127.0.0.1:{https}/", "--h1"), self.reloads()]
        workers += [self.again("uploads", self.upload) for _ in range(3)]
        workers += [self.again("slow readers", self.slow_reader) for _ in range(6)]
        workers += [self.again("short WebSockets", self.short_websocket) for _ in range(3)]
        workers += [self.again(f"aborted: {abort.__name__}", abort) for abort in ABORTS]
        workers += [self.websocket(number) for number in range(WEBSOCKETS)]
        async with Load(port, kept=6, anew=3) as load:
            tasks = [asyncio.create_task(worker) for worker in workers]
            samples = await self.sample(seconds)
            self.over = True
            await asyncio.gather(*tasks)
        self.done["HTTP/1.1"] += load.answered
        self.failed.update({f"HTTP/1.1: {what}": count for what, count in load.failures.items()})
        return samples

    async def sample(self, seconds):
        samples, begun = [], time.monotonic()
        for step in range(1, 11):
            await asyncio.sleep(max(0, begun + seconds * step / 10 - time.monotonic()))
            samples.append((round(seconds * step / 10), resident_kib(self.pid), descriptors(self.pid)))
        return samples

    async def again(self, what, work):
        """Does it until the end, and counts."""
        number = 0
        while not self.over:
            number += 1
            try:
                await asyncio.wait_for(work(self, number) if work in ABORTS else work(number), 2 * PATIENCE)
                self.done[what] += 1
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.failed[f"{what}: {error!r}"] += 1
                await asyncio.sleep(0.1)

    async def h2load(self, what, url, *options):
        while not self.over:
            command = ["h2load", "-n400", "-c4", "-m5", "--rps=50", *options, url]
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
            output, _ = await process.communicate()
            good = re.search(rb"requests: 400 total, .* 400 succeeded", output) and b"400 2xx" in output
            if good:
                self.done[what] += 400
            else:
                line = re.search(rb"requests: .*", output)
                self.failed[f"{what}: {line and line[0].decode()}"] += 1

    async def reloads(self):
        while not self.over:
            await asyncio.sleep(RELOAD_INTERVAL)
            self.generation += 1
            path = self.lane.dir / "headwater.yaml"
            path.with_suffix(".new").write_text(self.config())
            path.with_suffix(".new").rename(path)
            os.kill(self.pid, signal.SIGHUP)
            try:
                async with asyncio.timeout(PATIENCE):
                    while await self.current() != self.generation:
                        await asyncio.sleep(0.02)
                self.done["reloads"] += 1
            except (OSError, TimeoutError) as error:
                self.failed[f"reloads: {error!r}"] += 1

    async def current(self):
        wire = await Wire.connect(self.ports["http"], "127.0.100.1")
        await wire.send(b"GET /generation HTTP/1.1\r\nhost: lane.test\r\nconnection: close\r\n\r\n")
        _, body = await within(wire.response())
        wire.close()
        return int(body)

    async def upload(self, number):
        """Of a known length, and in chunks, in turns; plain and over TLS."""
        wire = await self.connect(number, "127.0.101.1")
        if number % 3:
            await wire.send(b"POST /bodies HTTP/1.1\r\nhost: lane.test\r\ncontent-length: %d\r\n\r\n" % BODY)
            await wire.send(bytes(BODY))
        else:
            await wire.send(b"POST /bodies HTTP/1.1\r\nhost: lane.test\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(BODY >> 12):
                await wire.send(b"1000\r\n%s\r\n" % bytes(4096))
            await wire.send(b"0\r\n\r\n")
        _, body = await within(wire.response())
        wire.close()
        if int(body) != BODY:
            raise ValueError(f"{body} bytes arrived")

    async def connect(self, number, source, **more):
        if number % 2:
            return await Wire.connect(self.ports["http"], source, **more)
        return await Wire.connect(self.ports["https"], source, ssl=self.trust, server_hostname=HOST, **more)

    async def slow_reader(self, number):
        wire = await self.connect(number, "127.0.102.1", receive_buffer=16384)
        await wire.send(b"GET /bodies/down/%d HTTP/1.1\r\nhost: lane.test\r\n\r\n" % (8 * BODY))
        await within(wire.head())
        left = 8 * BODY
        while left:
            left -= len(await wire.take(min(left, 1 << 16)))
            await asyncio.sleep(0.05)
        wire.close()

    async def short_websocket(self, number):
        one = await WebSocket.open(self.ports["http"], "127.0.103.1")
        if not await one.exchange(f"message {number}"):
            raise ConnectionError(one.broken)
        abort(one.wire) if number % 2 else one.wire.close()

    async def websocket(self, number):
        """Open all the time, across every reload."""
        one = await WebSocket.open(self.ports["http"], "127.0.104.1")
        while not self.over:
            if not await one.exchange(f"still here {number}"):
                self.failed[f"WebSockets: {one.broken}"] += 1
                return
            self.done["messages on lasting WebSockets"] += 1
            await asyncio.sleep(0.5)
        one.wire.close()


def abort(wire):
    """Closes so that the other end is reset."""
    wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.writer.transport.abort()


async def in_the_head(soak, number):
    wire = await soak.connect(number, "127.0.110.1")
    await wire.send(b"GET / HTTP/1.1\r\nhost: la")
    abort(wire)


async def in_the_handshake(soak, number):
    wire = await Wire.connect(soak.ports["https"], "127.0.111.1")
    # The beginning of a ClientHello.
    await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    abort(wire)


async def before_the_response(soak, number):
    wire = await soak.connect(number, "127.0.112.1")
    await wire.send(b"GET /bodies/hold/200 HTTP/1.1\r\nhost: lane.test\r\n\r\n")
    await asyncio.sleep(0.05)
    abort(wire)


async def in_the_upload(soak, number):
    wire = await soak.connect(number, "127.0.113.1")
    await wire.send(b"POST /bodies HTTP/1.1\r\nhost: lane.test\r\ncontent-length: %d\r\n\r\n%s" % (BODY, bytes(BODY // 2)))
    abort(wire)


async def in_the_download(soak, number):
    wire = await soak.connect(number, "127.0.114.1")
    await wire.send(b"GET /bodies/down/%d HTTP/1.1\r\nhost: lane.test\r\n\r\n" % (16 * BODY))
    await within(wire.head())
    await wire.take(BODY)
    abort(wire)


async def streams(soak, number):
    """Twenty HTTP/2 streams, of which half are reset; then the connection goes without a word."""
    wire = await Wire.connect(soak.ports["http"], "127.0.115.1")
    fields = block((":method", "GET"), (":scheme", "http"), (":path", f"/bodies/down/{BODY}"), (":authority", HOST))
    requests = [frame(HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, fields) for index in range(20)]
    resets = [frame(RST_STREAM, 0, 4 * index + 1, struct.pack("!I", 8)) for index in range(10)]
    window = struct.pack("!HI", INITIAL_WINDOW_SIZE, 65535)
    await wire.send(PREFACE + frame(SETTINGS, payload=window) + b"".join(requests))
    await within(wire.take(1024))
    await wire.send(b"".join(resets))
    await within(wire.take(4096))
    abort(wire)


ABORTS = [in_the_head, in_the_handshake, before_the_response, in_the_upload, in_the_download, streams]
# What must have been there, each so often a second at least.
WANTED = {
    "HTTP/1.1": 20, "HTTP/2 over TLS": 10, "h2c": 10, "HTTP/1.1 over TLS": 10, "uploads": 1, "slow readers": 0.5, "short WebSockets": 1,
    "messages on lasting WebSockets": 10, "reloads": 0.2, **{f"aborted: {abort.__name__}": 1 for abort in ABORTS},
}


async def quiet(soak, before):
    """Descriptors and memory once all have gone."""
    figure = lambda: descriptors(soak.pid)
    left = await asyncio.to_thread(settled, figure, before, 60)
    return left, await asyncio.to_thread(calm, lambda: resident_kib(soak.pid), 64)


async def soaked(lane):
    soak = Soak(lane)
    await soak.start()
    # A listener is a descriptor more for each worker.
    before, fresh = calm(lambda: descriptors(soak.pid)), resident_kib(soak.pid)
    await soak.run(WARM_UP)
    await settle_generation(soak)
    warm_descriptors, warm = await quiet(soak, before)
    lane.check(f"after a warm-up of {WARM_UP} s: descriptors more than at the start", warm_descriptors - before, 0)
    samples = await soak.run(SECONDS)
    await settle_generation(soak)
    end_descriptors, end = await quiet(soak, before)
    for what, least in WANTED.items():
        lane.check(f"{SECONDS} s: {what}", soak.done[what], lambda came: came >= least * SECONDS)
    lane.check(f"{SECONDS} s: what failed of what must not", dict(soak.failed), {})
    lane.check(f"after {SECONDS} s: descriptors more than after the warm-up", end_descriptors - warm_descriptors, 0)
    lane.check(f"after {SECONDS} s: KiB more than after the warm-up", end - warm, lambda grown: grown <= GROWTH_KIB)
    print()
    rows = [["fresh", mib(fresh), before], ["after the warm-up, at rest", mib(warm), warm_descriptors]]
    rows += [[f"{second} s, under load", mib(kib), count] for second, kib, count in samples]
    rows += [[f"after {SECONDS} s, at rest", mib(end), end_descriptors]]
    table(["", "RSS", "descriptors"], rows)
    print()
    await soak.origin.close()


async def settle_generation(soak):
    """Back to a configuration without the listener that comes and goes."""
    if soak.generation % 2:
        soak.over = False
        reloading = asyncio.create_task(soak.reloads())
        await asyncio.sleep(RELOAD_INTERVAL / 2)
        soak.over = True
        await reloading


with Lane("soak", "h2load", "openssl") as lane:
    many_descriptors()
    Authority(lane.dir).issue("front", HOST)
    asyncio.run(soaked(lane))
