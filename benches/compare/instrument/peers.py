"""The proxies: what each is told, so that all do the same work."""
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

from . import machine
from .bench import ROOT, START_SECONDS, Failed, fill, free_ports

ENVOY = ROOT / "target/compare/envoy/bin/envoy"
PINGORA = ROOT / "target/compare/pingora/release/pingora-peer"
RELAY = ROOT / "target/compare/relay/release/relay-peer"


@dataclass(frozen=True)
class Site:
    """What a proxy is to serve: round robin over the upstream's endpoints behind so many routes and trusted ranges."""

    routes: int = 1
    trusted_ranges: int = 0  # 0: private networks
    workers: int = 1
    endpoints: int = 3
    connections: int = 4096

    @property
    def route_names(self):
        """The routes beside the one for everything."""
        return [f"/r{number}" for number in range(1, self.routes)]


class Running:
    """A proxy at work."""

    def __init__(self, bench, peer, site):
        self.bench, self.peer, self.site = bench, peer, site
        label, ports, command, environment = self.prepare()
        self.plain, self.tls = ports
        self.process = bench.start(label, command, ports[:1] if peer.is_relay else ports, self.cpus, environment)

    def prepare(self):
        ports = free_ports(2)
        # Files of its own: headwater reads its configuration again when it changes.
        label = f"{self.name}-{ports[0]}"
        return label, ports, *self.peer.prepare(self.bench, self.site, label, *ports)

    @property
    def cpus(self):
        return machine.PROXY_CPU if self.site.workers == 1 else machine.PROXY_CPU | machine.LOAD_CPU

    @property
    def name(self):
        return self.peer.name

    @property
    def pid(self):
        return self.process.pid

    def again(self):
        """Another process of the same."""
        return Running(self.bench, self.peer, self.site)

    def timed_start(self):
        """Another process of the same, and the milliseconds to its first response."""
        label, (plain, _), command, environment = self.prepare()
        begun = time.monotonic()
        process = self.bench.spawn(label, command, self.cpus, environment)
        while not answers(plain):
            if process.poll() is not None or time.monotonic() > begun + START_SECONDS:
                raise Failed(f"{self.name} doesn't answer: {self.bench.output(label)}")
        return process, (time.monotonic() - begun) * 1000

    def stop(self):
        self.bench.stop(self.process)


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /100 HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


@dataclass(frozen=True)
class Peer:
    """A proxy program under one configuration."""

    name: str
    program: str
    template: str = ""
    tuning: tuple = ()
    command: tuple = ()
    version: tuple = ()
    # Whether a client on the loopback interface is named as such.
    names_loopback: bool = True
    # Passes bytes on and knows neither HTTP nor TLS.
    is_relay: bool = False

    @property
    def is_there(self):
        return bool(shutil.which(self.program))

    def told_version(self):
        done = subprocess.run([self.program, *self.version], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
        return next((line.strip().removeprefix(self.program).strip() for line in done.stdout.splitlines() if line.strip()), "")[:80]

    def prepare(self, bench, site, label, plain, tls):
        """Writes the configuration; the command and what its environment adds."""
        values = {
            "label": label, "directory": bench.directory, "descriptors": machine.DESCRIPTORS, "plain": plain, "tls": tls,
            "workers": site.workers, "connections": site.connections, "tuning": list(self.tuning), **self.lines(bench, site, label),
        }
        config = bench.write(f"{label}-{self.template}", fill(self.template, **values))
        return [self.program, *(word.format(config=config, workers=site.workers) for word in self.command)], self.environment(bench, site)

    def environment(self, bench, site):
        return {}


class Nginx(Peer):
    def lines(self, bench, site, label):
        return {
            "servers": [f"server {endpoint};" for endpoint in bench.endpoints[:site.endpoints]],
            "routes": [f"location {name}/ {{ proxy_pass http://app; }}" for name in site.route_names],
        }


class Haproxy(Peer):
    def lines(self, bench, site, label):
        # A tree of prefixes, as HAProxy's manual advises for many.
        routes = bench.write(f"{label}.routes", "".join(f"{name}/ app\n" for name in site.route_names))
        return {
            "servers": [f"server s{number} {endpoint}" for number, endpoint in enumerate(bench.endpoints[:site.endpoints])],
            "routes": [f"use_backend %[path,map_beg({routes},app)]"] if site.route_names else [],
        }


class Envoy(Peer):
    def lines(self, bench, site, label):
        endpoint = "- endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}"
        return {
            "servers": [endpoint.format(*e.split(":")) for e in bench.endpoints[:site.endpoints]],
            "routes": [f"- {{ match: {{ path_separated_prefix: {name} }}, route: {{ cluster: app }} }}" for name in site.route_names],
        }


class Caddy(Peer):
    def lines(self, bench, site, label):
        return {"servers": " ".join(bench.endpoints[:site.endpoints]), "routes": []}

    def environment(self, bench, site):
        return {"GOMAXPROCS": str(site.workers), "HOME": str(bench.directory)}


class Pingora(Peer):
    def prepare(self, bench, site, label, plain, tls):
        files = [str(bench.directory / name) for name in ("cert.pem", "key.pem")]
        return [self.program, f"127.0.0.1:{plain}", f"127.0.0.1:{tls}", *files, str(site.workers), *bench.endpoints[:site.endpoints]], {}


class Relay(Peer):
    def prepare(self, bench, site, label, plain, tls):
        return [self.program, f"127.0.0.1:{plain}", *bench.endpoints[:site.endpoints]], {}


class Headwater(Peer):
    # Keys that younger programs know. Where one is unknown it is left out, and `left_out` says so.
    OPTIONAL = {"access_log": "access_log: {{ output: off }}", "admin": 'admin: {{ address: "127.0.0.1:{admin}" }}'}

    def lines(self, bench, site, label):
        admin = free_ports(1)[0]
        return {
            "servers": ", ".join(f'"{endpoint}"' for endpoint in bench.endpoints[:site.endpoints]),
            "routes": [f"- {{ match: {{ path: {name} }}, upstream: app }}" for name in site.route_names],
            "trust": self.trust(bench, site.trusted_ranges),
            "optional": [line.format(admin=admin) for key, line in self.OPTIONAL.items() if self.knows(bench, line.format(admin=admin))],
        }

    def knows(self, bench, line):
        """Whether this program takes the line."""
        probe = bench.write("probe.yaml", f'listeners: {{ http: {{ address: "127.0.0.1:1" }} }}\nroutes: [{{ respond: {{ status: 404 }} }}]\n{line}\n')
        return subprocess.run([self.program, "check", probe], capture_output=True, timeout=20).returncode == 0

    def left_out(self, bench):
        return [key for key, line in self.OPTIONAL.items() if not self.knows(bench, line.format(admin=2))]

    def reads_ranges_from_files(self, bench):
        return self.knows(bench, f"client_ip: {{ trusted_proxies_files: [{bench.write('one.txt', '10.0.0.0/8')}] }}")

    def trust(self, bench, count):
        if not count:
            return "trusted_proxies: [private, loopback]"
        # Apart from one another, or they would become one range.
        ranges = [f"{a}.{b}.{c}.{d}" for a in (11, *range(1, 10)) for b in range(10) for c in range(10) for d in range(0, 256, 2)]
        ranges = ["127.0.0.0/8", *ranges][:count]
        if self.reads_ranges_from_files(bench):
            bench.write(f"{count}.txt", "\n".join(ranges))
            return f"trusted_proxies_files: [{count}.txt]"
        return f"trusted_proxies: [{','.join(ranges)}]"


class LoggedHeadwater(Headwater):
    """The same, with every request recorded."""

    OPTIONAL = Headwater.OPTIONAL | {"access_log": "access_log: {{ output: access.log, format: json }}"}


TUNED_NGINX = ("proxy_buffers 16 64k;", "proxy_buffer_size 64k;", "client_body_buffer_size 128k;")


def peers(headwater, baseline=None):
    """All peers there could be, by name."""
    # They are started in another directory.
    headwater, baseline = os.path.abspath(headwater), baseline and os.path.abspath(baseline)
    run, version = ("run", "--config", "{config}"), ("--version",)
    nginx = {"program": "nginx", "template": "nginx.conf", "command": ("-c", "{config}"), "version": ("-v",)}
    haproxy = {"program": "haproxy", "template": "haproxy.cfg", "command": ("-db", "-f", "{config}"), "version": ("-v",)}
    known = [
        Headwater("headwater", headwater, "headwater.yaml", (), run, version),
        LoggedHeadwater("headwater-logged", headwater, "headwater.yaml", (), run, version),
        *([Headwater("baseline", baseline, "headwater.yaml", (), run, version)] if baseline else []),
        Nginx("nginx", **nginx),
        Nginx("nginx-tuned", tuning=TUNED_NGINX, **nginx),
        Haproxy("haproxy", **haproxy),
        Haproxy("haproxy-tuned", tuning=("option splice-auto",), **haproxy),
        Envoy("envoy", str(ENVOY), "envoy.yaml", (),
              ("-c", "{config}", "--concurrency", "{workers}", "--disable-hot-restart", "--log-level", "error"), version,
              names_loopback=False),
        Pingora("pingora", str(PINGORA), version=("--version",)),
        Caddy("caddy", "caddy", "Caddyfile", (), ("run", "--adapter", "caddyfile", "--config", "{config}"), ("version",)),
        Relay("relay", str(RELAY), is_relay=True),
    ]
    return {peer.name: peer for peer in known}


def chosen(names, headwater, baseline=None):
    known = peers(headwater, baseline)
    for name in names:
        if name not in known:
            raise Failed(f"no such peer: {name}; there are {', '.join(known)}")
        if not known[name].is_there:
            raise Failed(f"{name}: {known[name].program} is not there (README.md says how to get it)")
    return [known[name] for name in names]
