#!/usr/bin/env -S python3 -B
"""What ending, reloading and restarting costs: the same scenarios with headwater, nginx, HAProxy and Envoy, side by side.

headwater may lose nothing. What the others lose is printed; that the load was there is checked for all of them.
"""
import asyncio
import socket
import time

from figures import table
from lib import Lane, free_port, poll
from rivals import Activated, Envoy, Haproxy, Headwater, Nginx
from traffic import InFlight, Kept, Load, Origin, WebSocket, many_descriptors

KINDS = {"waiting": 600, "downloading": 200, "uploading": 200}
IN_FLIGHT = sum(KINDS.values())
CROSSING = 100
RELOADS, WEBSOCKETS = 20, 50
RESTARTS = 5
# At least so many requests between two reloads or restarts.
STRIDE = 100
RIVALS = [Headwater, Nginx, Haproxy, Envoy]


class Scene:
    """What the scenarios share."""

    def __init__(self, lane, origin, upstream):
        self.lane, self.origin, self.upstream = lane, origin, upstream
        self.count = 0

    def rival(self, kind, **more):
        self.count += 1
        ports = {"port": free_port(), "admin": free_port(), "upstream": self.upstream}
        return kind(self.lane, ports, self.lane.dir / f"{self.count}-{kind.name}", **more)


async def start(rival, **more):
    await asyncio.to_thread(rival.start, **more)


async def drain(scene, kind, how):
    """A thousand requests in flight, and more that cross the signal on connections kept from before."""
    lane, origin = scene.lane, scene.origin
    rival = scene.rival(kind)
    what = f"{rival.name}, {how}"
    await start(rival)
    port = rival.ports["port"]
    origin.hold()
    kept = [Kept() for _ in range(CROSSING)]
    await asyncio.gather(*(one.begin(port, number) for number, one in enumerate(kept)))
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    requests = [InFlight(kind, number) for number, kind in enumerate(kinds)]
    for at in range(0, IN_FLIGHT, 50):
        await asyncio.gather(*(request.begin(port) for request in requests[at:at + 50]))
    try:
        async with asyncio.timeout(20):
            while origin.halfway.total() < IN_FLIGHT:
                await asyncio.sleep(0.01)
    except TimeoutError:
        pass  # the check says it
    lane.check(f"{what}: requests that are halfway when the signal comes", dict(origin.halfway), KINDS)

    if issubclass(kind, Headwater):
        lane.check(f"{what}: /readyz before the signal", rival.readiness(), 200)
    signalled = time.monotonic()
    rival.process.send_signal({"SIGTERM": 15, "SIGQUIT": 3, "SIGUSR1": 10}[how])
    for one in kept:
        one.ask()
    noticed = await asyncio.to_thread(no_longer_listens, rival)
    lane.check(f"{what}: it no longer listens", noticed, True)
    if issubclass(kind, Headwater):
        lane.check(f"{what}: /readyz while requests are finished", rival.readiness(), 503)
    origin.released.set()
    answered = (await asyncio.gather(*(request.finish() for request in requests))).count(True)
    crossed = (await asyncio.gather(*(one.finish() for one in kept))).count(True)
    status = await asyncio.to_thread(rival.process.wait, 90)
    took = time.monotonic() - signalled
    if issubclass(kind, Headwater):
        lane.check(f"{what}: requests in flight that were lost", IN_FLIGHT - answered, 0)
        lane.check(f"{what}: requests that crossed the signal and were lost", CROSSING - crossed, 0)
        lane.check(f"{what}: exit status", status, 0)
    return [what, IN_FLIGHT, answered, IN_FLIGHT - answered, f"{CROSSING - crossed} of {CROSSING}", status, f"{took:.1f} s"]


def no_longer_listens(rival):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", rival.ports["port"]), 1).close()
        except OSError:
            return True
        time.sleep(0.01)
    return False


async def reloads(scene, kind):
    """Twenty other configurations under load, with WebSockets open all the time."""
    lane = scene.lane
    rival = scene.rival(kind, master=True)
    await start(rival)
    port = rival.ports["port"]
    sockets = [await WebSocket.open(port) for _ in range(WEBSOCKETS)]
    async with Load(port) as load:
        for generation in range(1, RELOADS + 1):
            await load.goes_on(STRIDE)
            await asyncio.to_thread(reload, rival, generation)
            await asyncio.gather(*(one.exchange(f"after reload {generation}") for one in sockets))
        await load.goes_on(STRIDE)
    broken = [one.broken for one in sockets if one.broken]
    for one in sockets:
        one.wire.close()
    lane.check(f"{rival.name}, {RELOADS} reloads: requests answered meanwhile", load.answered, lambda came: came > STRIDE * RELOADS)
    if issubclass(kind, Headwater):
        lane.check(f"{rival.name}, {RELOADS} reloads: requests that failed", dict(load.failures), {})
        lane.check(f"{rival.name}, {RELOADS} reloads: WebSockets that broke, of {WEBSOCKETS}", broken, [])
    rival.process.terminate()
    return [rival.name, load.answered, load.failures.total(), f"{len(broken)} of {WEBSOCKETS}", shown(load.failures)]


def reload(rival, generation):
    """Until it serves the new configuration. A rival may be told again: one that is about to reload hears no signal."""
    for attempts_left in ([0] if isinstance(rival, Headwater) else [2, 1, 0]):
        rival.reload(generation)
        try:
            return poll(f"generation {generation} of {rival.name}", lambda: serves(rival.ports["port"], generation))
        except TimeoutError:
            if not attempts_left:
                raise


def serves(port, generation):
    """Whether a new connection finds this configuration."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /generation HTTP/1.1\r\nhost: lane.test\r\nconnection: close\r\n\r\n")
            connection.settimeout(5)
            came = b""
            while part := connection.recv(4096):
                came += part
    except OSError:
        return False
    return came.endswith(b"generation %d" % generation) or b"generation %d\r\n" % generation in came


def shown(failures):
    return ", ".join(f"{count} x {what}" for what, count in failures.items()) or "-"


async def restarts(scene, kind, how, **more):
    """One process follows another under load."""
    lane = scene.lane
    rival = scene.rival(kind, **more)
    what = f"{rival.name}, {how}"
    await start(rival)
    statuses = []
    async with Load(rival.ports["port"]) as load:
        for generation in range(1, RESTARTS + 1):
            await load.goes_on(STRIDE)
            old = await asyncio.to_thread(rival.replace, generation)
            statuses.append(await asyncio.to_thread(old.wait, 60))
            await asyncio.to_thread(poll, f"generation {generation} of {what}", lambda: serves(rival.ports["port"], generation))
        await load.goes_on(STRIDE)
    lane.check(f"{what}, {RESTARTS} restarts: requests answered meanwhile", load.answered, lambda came: came > STRIDE * RESTARTS)
    if issubclass(kind, Headwater):
        lane.check(f"{what}, {RESTARTS} restarts: requests and connects that failed", dict(load.failures), {})
        lane.check(f"{what}, {RESTARTS} restarts: exit statuses", statuses, [0] * RESTARTS)
    rival.process.terminate()
    refused = load.failures["connect: ConnectionRefusedError"]
    return [what, load.answered, refused, load.failures.total() - refused, shown(load.failures), ", ".join(sorted({"-" if status is None else str(status) for status in statuses}))]


async def scenarios(lane):
    origin, upstream = Origin(), free_port()
    await origin.listen(upstream)
    scene = Scene(lane, origin, upstream)
    rows = [await drain(scene, kind, how) for kind, how in [
        (Headwater, "SIGTERM"), (Nginx, "SIGTERM"), (Nginx, "SIGQUIT"), (Haproxy, "SIGTERM"), (Haproxy, "SIGUSR1"), (Envoy, "SIGTERM"),
    ]]
    say(f"{IN_FLIGHT} requests in flight, and {CROSSING} that cross the signal on kept connections",
        ["told to end by", "sent", "answered", "lost", "crossing: lost", "exit", "took"], rows)
    rows = [await reloads(scene, kind) for kind in RIVALS]
    say(f"{RELOADS} reloads under load, {WEBSOCKETS} WebSockets open", ["", "answered", "failed", "WebSockets broken", "why"], rows)
    rows = [await restarts(scene, kind, how, **more) for kind, how, more in [
        (Headwater, "SO_REUSEPORT", {"shared": "true"}),
        (Activated, "LISTEN_FDS", {}),
        (Nginx, "SIGUSR2, SIGQUIT", {"orphan": True}),
        (Haproxy, "-x, -sf", {}),
        (Envoy, "hot restart", {"epochs": True}),
    ]]
    say(f"{RESTARTS} restarts under load", ["by", "answered", "refused", "failed otherwise", "why", "exit"], rows)
    await origin.close()


def say(title, heads, rows):
    print(f"\n{title}", flush=True)
    table(heads, rows)
    print(flush=True)


with Lane("drain", "nginx", "haproxy", "envoy") as lane:
    many_descriptors()
    asyncio.run(scenarios(lane))
