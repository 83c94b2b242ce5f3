#!/usr/bin/env -S python3 -B
"""Three upstreams behind headwater, asked by curl: who gets the request, with which fields, and who is believed."""
from collections import Counter

from lib import HOST, Lane, curl, fields, free_port

NAMES = ["one", "two", "three"]
WORKERS = 2
FORGED = [
    "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 6.6.6.6, 127.0.0.1", "X_Forwarded_For: 6.6.6.6", "X.Forwarded.For: 6.6.6.6",
    "X-Real-IP: 6.6.6.6", "X_Real_IP: 6.6.6.6", "Forwarded: for=6.6.6.6;proto=https;host=6.6.6.6",
    "X-Forwarded-Proto: 6.6.6.6", "X-Forwarded-Host: 6.6.6.6", "X-Forwarded-Port: 6666", "X-Forwarded-Server: 6.6.6.6",
    "X-Original-Forwarded-For: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6", "True-Client-IP: 6.6.6.6", "Client-IP: 6.6.6.6",
]
NOMINATED = "Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Host"

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  https:
    address: "127.0.0.1:{https}"
    tls: {{ certificates: [{{ cert: {name}.crt, key: {name}.key, self_signed: [{host}] }}] }}
client_ip: {{ trusted_proxies: [{trusted}], header: X-Forwarded-For }}
upstreams:
  app: {{ endpoints: [{endpoints}] }}
routes:
  - upstream: app
runtime: {{ worker_threads: {workers} }}
"""

# Source, X-Forwarded-For as sent (a line each), the client, X-Forwarded-For as it goes on.
CHAINS = [
    ("127.0.0.2", [], "127.0.0.2", "127.0.0.2"),
    ("127.0.0.2", ["198.51.100.7"], "198.51.100.7", "198.51.100.7, 127.0.0.2"),
    ("127.0.0.2", ["6.6.6.6, 198.51.100.7, 10.0.0.5"], "198.51.100.7", "198.51.100.7, 10.0.0.5, 127.0.0.2"),
    ("127.0.0.2", ["6.6.6.6", "198.51.100.7", "10.0.0.5"], "198.51.100.7", "198.51.100.7, 10.0.0.5, 127.0.0.2"),
    ("127.0.0.2", ["[2001:db8::7]:4711"], "2001:db8::7", "2001:db8::7, 127.0.0.2"),
    ("127.0.0.2", ["198.51.100.7, unreadable, 10.0.0.5"], "10.0.0.5", "10.0.0.5, 127.0.0.2"),
    ("127.0.0.2", ["10.0.0.9, 10.0.0.5"], "10.0.0.9", "10.0.0.9, 10.0.0.5, 127.0.0.2"),
    ("127.0.0.3", ["198.51.100.7"], "127.0.0.3", "127.0.0.3"),
    ("127.0.0.3", ["198.51.100.7, 127.0.0.2"], "127.0.0.3", "127.0.0.3"),
]


class Way:
    """One way to ask: a scheme, a version, and the proxy it leads to."""

    def __init__(self, lane, proxy, scheme, version, flag):
        name, http, https = proxy
        self.name = f"{scheme}, HTTP/{version}"
        self.scheme, self.version = scheme, version
        self.port = https if scheme == "https" else http
        self.arguments = [flag, "--connect-to", f"::127.0.0.1:{self.port}", "--cacert", str(lane.dir / f"{name}.crt")]

    def ask(self, *arguments, path="/"):
        return curl(*self.arguments, *arguments, f"{self.scheme}://{HOST}{path}")


def ways(lane, proxy):
    return [
        Way(lane, proxy, "http", "1.1", "--http1.1"),
        Way(lane, proxy, "http", "2", "--http2-prior-knowledge"),
        Way(lane, proxy, "https", "1.1", "--http1.1"),
        Way(lane, proxy, "https", "2", "--http2"),
    ]


def start(lane, name, trusted, ports, weights=(1, 1, 1)):
    http, https = free_port(), free_port()
    endpoints = [f'{{ address: "127.0.0.1:{port}", weight: {weight} }}' for port, weight in zip(ports, weights)]
    config = CONFIG.format(
        name=name, http=http, https=https, host=HOST, trusted=trusted, workers=WORKERS,
        endpoints=", ".join(endpoints),
    )
    lane.headwater(name, config, http)
    return name, http, https


def balance(lane, way):
    if (way.scheme, way.version) == ("http", "2"):
        return  # Debian 12's curl can't use such a connection twice; h2.py asks many times over one.
    kept = way.ask(path="/[1-300]")
    lane.check(f"{way.name}: 300 requests, statuses and versions", {(a.status, a.version) for a in kept}, {(200, way.version)})
    lane.check(f"{way.name}: connections used for them", sum(a.connects for a in kept), 1)
    lane.check(f"{way.name}: upstreams that got them", counted(kept), dict.fromkeys(NAMES, 100))
    if way.version == "1.1":
        single = way.ask("-H", "Connection: close", path="/[1-60]")
    else:
        single = [answer for _ in range(60) for answer in way.ask()]
    lane.check(f"{way.name}: connections used for 60 more", sum(a.connects for a in single), 60)
    lane.check(f"{way.name}: upstreams that got them, at most {WORKERS} apart", counted(single), even)


def counted(answers):
    counts = Counter(answer.upstream for answer in answers)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (NAMES + [name]).index(name))}


def even(counts):
    return sorted(counts) == sorted(NAMES) and sum(counts.values()) == 60 and max(counts.values()) - min(counts.values()) <= WORKERS


def own_fields(lane, way, *lines):
    """What an upstream must be told when nobody is trusted, whatever was sent."""
    answer, = way.ask(*fields(*lines))
    what = f"{way.name}: {'forged fields' if lines else 'a plain request'}"
    if NOMINATED in lines:
        what += ", nominated by Connection"
    for name, wanted in [
        ("Host", HOST), ("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("X-Forwarded-Proto", way.scheme),
        ("X-Forwarded-Host", HOST), ("X-Forwarded-Port", str(way.port)), ("Accept", "*/*"),
    ]:
        lane.check(f"{what}, {name}", answer.values(name), [wanted])
    lane.check(f"{what}, Forwarded", answer.values("Forwarded"), [])
    left = [f"{name}: {value}" for name, value in answer.fields if "6.6.6.6" in value or "6666" in value or "_" in name]
    lane.check(f"{what}, what is left of the forgery", left, [])


def believed(lane, way):
    for source, lines, client, chain in CHAINS:
        answer, = way.ask("--interface", source, *fields(*(f"X-Forwarded-For: {line}" for line in lines)))
        what = f"{way.name}: {source} sends X-Forwarded-For {' / '.join(lines) or '(none)'}"
        lane.check(f"{what}, the client", answer.values("X-Real-IP"), [client])
        lane.check(f"{what}, the chain that goes on", answer.values("X-Forwarded-For"), [chain])
    sent = fields("X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", "X-Forwarded-Port: 444")
    for source, wanted in [("127.0.0.2", ["https", "shop.example", "444"]), ("127.0.0.3", [way.scheme, HOST, str(way.port)])]:
        answer, = way.ask("--interface", source, *sent)
        came = [value for name in ("Proto", "Host", "Port") for value in answer.values(f"X-Forwarded-{name}")]
        lane.check(f"{way.name}: {source} sends https, shop.example, 444 as Proto, Host, Port", came, wanted)


with Lane("whoami") as lane:
    ports = [free_port() for _ in NAMES]
    for name, port in zip(NAMES, ports):
        lane.whoami(name, port)
    for way in ways(lane, start(lane, "nobody-trusted", "", ports)):
        balance(lane, way)
        own_fields(lane, way)
        own_fields(lane, way, *FORGED)
        if way.version == "1.1":
            own_fields(lane, way, *FORGED, NOMINATED)
    for way in ways(lane, start(lane, "some-trusted", "127.0.0.2, 10.0.0.0/8", ports)):
        believed(lane, way)
    way = ways(lane, start(lane, "weighted", "", ports, (3, 2, 1)))[0]
    lane.check("weights 3, 2, 1: upstreams that got 60 requests", counted(way.ask(path="/[1-60]")), dict(zip(NAMES, (30, 20, 10))))
