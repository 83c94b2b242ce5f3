#!/usr/bin/env -S python3 -B
"""Endpoints behind a name, as a headless Service has them: addresses come and go while requests are under way.

The name is one of a hosts file that only this proxy sees, in a mount namespace of its own; nobody answers for DNS.
"""
import socketserver
import threading
import time

from lib import HEADWATER, Lane, curl, free_port, poll

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
upstreams:
  app: {{ discovery: {{ dns: {{ name: api.lane.test, port: {port}, interval: 200ms }} }} }}
routes:
  - upstream: app
"""
PRIVATE = 'mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf && exec "$0" run --config dns.yaml'
ADDRESSES = ["127.0.8.1", "127.0.8.2", "127.0.8.3"]


class Endpoint(socketserver.ThreadingTCPServer):
    """Answers with its address; `/slow` waits in the middle of its body until it is let go."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, address, port, arrived):
        self.name = address
        self.slow, self.go = threading.Event(), threading.Event()
        self.arrived = arrived
        super().__init__((address, port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            name = self.server.name.encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(name)) + name)
            if b"/slow" in line:
                self.server.slow.set()
                self.server.arrived.release()
                self.server.go.wait(30)
            self.wfile.write(name)


with Lane("dns", "unshare") as lane:
    port, http = free_port(), free_port()
    arrived = threading.Semaphore(0)
    endpoints = [Endpoint(address, port, arrived) for address in ADDRESSES]
    hosts = lane.dir / "hosts"

    def resolves_to(*addresses):
        """In place: a file that is bound elsewhere can't be exchanged."""
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} api.lane.test\n" for address in addresses))

    def ask(requests=1, path="/"):
        return curl(f"http://127.0.0.1:{http}{path}?[1-{requests}]")

    def names(answers):
        """The endpoints that answered; a status where none did."""
        return sorted({answer.body[: len(answer.body) // 2] if answer.status == 200 else str(answer.status) for answer in answers})

    def served_by(*addresses):
        poll(f"requests to go to {addresses}", lambda: names(ask(6)) == sorted(addresses))
        return names(ask(60))

    resolves_to()
    (lane.dir / "resolv.conf").write_text("nameserver 127.0.8.250\noptions attempts:1 timeout:1\n")
    (lane.dir / "dns.yaml").write_text(CONFIG.format(http=http, port=port))
    private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE, HEADWATER]
    lane.start("headwater", private, http)

    answer, = ask()
    lane.check("a name without an address, status", answer.status, 503)
    resolves_to(ADDRESSES[0])
    lane.check("its first address", served_by(ADDRESSES[0]), [ADDRESSES[0]])
    resolves_to(*ADDRESSES[:2])
    lane.check("a second one, without a reload", served_by(*ADDRESSES[:2]), ADDRESSES[:2])

    # Requests until each of the two has one, as workers take turns of their own; then one of the two goes.
    slow, waiting = [], []
    for _ in range(16):
        if all(endpoint.slow.is_set() for endpoint in endpoints[:2]):
            break
        waiting.append(threading.Thread(target=lambda: slow.extend(ask(path="/slow"))))
        waiting[-1].start()
        arrived.acquire(timeout=10)
    for endpoint in endpoints[:2]:
        lane.check(f"{endpoint.name} is in the middle of a response", endpoint.slow.wait(10), True)
    resolves_to(*ADDRESSES[1:])
    lane.check("the first one goes, a third one comes", served_by(*ADDRESSES[1:]), ADDRESSES[1:])
    for endpoint in endpoints:
        endpoint.go.set()
    for thread in waiting:
        thread.join()
    whole = sorted({(answer.status, answer.body.strip()) for answer in slow})
    lane.check("requests that were answered", len(slow), len(waiting))
    lane.check("responses that were under way", whole, [(200, 2 * address) for address in ADDRESSES[:2]])

    # Answers stop altogether. Long enough for several look-ups, each of which takes a second to fail.
    resolves_to()
    until = time.monotonic() + 3
    seen = set()
    while time.monotonic() < until:
        seen.update(names(ask(10)))
    lane.check("a name that resolves no more keeps its addresses", sorted(seen), ADDRESSES[1:])
    resolves_to(ADDRESSES[2])
    lane.check("and follows when it does again", served_by(ADDRESSES[2]), [ADDRESSES[2]])
