"""headwater and those it is compared with, each with the same work: one listener, one upstream over HTTP/1.1, WebSockets, nothing
buffered whole, requests in flight finished as far as it can be asked to, and `/generation` answered by the proxy itself."""
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from lib import HEADWATER, HERE, poll

HEADWATER_CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{port}", reuse_port: {shared} }}
  {https}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{upstream}"], max_connections_per_endpoint: 4096 }}
routes:
  - {{ match: {{ path: /generation }}, respond: {{ status: 200, body: "generation {generation}" }} }}
  - upstream: app
reload: {{ watch: false }}
shutdown: {{ readiness_delay: 0s, grace_period: 60s }}
admin: {{ address: "unix:admin-{generation}.sock" }}
"""
HTTPS = 'https: {{ address: "127.0.0.1:{tls}", tls: {{ certificates: [{{ cert: front.crt, key: front.key }}] }} }}'

NGINX_CONFIG = """
daemon {daemon}; {user} worker_processes 2; worker_rlimit_nofile 8192; error_log {directory}/error.log warn; pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    {https}
    location = /generation {{ return 200 "generation {generation}"; }}
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_read_timeout 120s;
      proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_request_buffering off; proxy_buffering off;
    }}
  }}
}}
"""
NGINX_HTTPS = "listen 127.0.0.1:{tls} ssl http2; ssl_certificate front.crt; ssl_certificate_key front.key;"

HAPROXY_CONFIG = """
global
  maxconn 8192
  nbthread 2
  stats socket {directory}/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  timeout tunnel 1h
frontend in
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string "generation {generation}" if {{ path /generation }}
  default_backend app
backend app
  http-reuse safe
  server app 127.0.0.1:{upstream}
"""

ENVOY_CONFIG = """
node: {{ id: lane, cluster: lane }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          upgrade_configs: [{{ upgrade_type: websocket }}]
          stream_idle_timeout: 120s
          rds: {{ route_config_name: routes, config_source: {{ path_config_source: {{ path: "{directory}/routes.yaml" }} }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: app
    type: STATIC
    circuit_breakers: {{ thresholds: [{{ max_connections: 8192, max_pending_requests: 8192, max_requests: 8192 }}] }}
    load_assignment:
      cluster_name: app
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }} }}] }}]
"""
ENVOY_ROUTES = """
resources:
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: routes
  virtual_hosts:
  - name: any
    domains: ["*"]
    routes:
    - {{ match: {{ path: /generation }}, direct_response: {{ status: 200, body: {{ inline_string: "generation {generation}" }} }} }}
    - {{ match: {{ prefix: / }}, route: {{ cluster: app, timeout: 0s }} }}
"""


class Rival:
    """One of them. `soft` is the signal by which its manual has it finish what it has begun, if that isn't SIGTERM."""

    soft = None

    def __init__(self, lane, ports, directory, **more):
        self.lane, self.ports, self.directory, self.more = lane, ports, directory, more
        directory.mkdir(exist_ok=True)
        self.started = 0
        self.process = None

    def start(self, generation=0, pass_fds=()):
        """Another process of it; `self.process` from now on."""
        self.write(generation)
        self.started += 1
        name = f"{self.directory.name}-{self.started}"
        self.process = self.lane.start(name, self.command(), self.ports["port"], pass_fds=pass_fds)
        return self.process

    def write_file(self, name, text, generation):
        """In one go: they may be watching."""
        values = {"directory": self.directory, "generation": generation, **self.ports, **self.more}
        new = self.directory / f"{name}.new"
        new.write_text(text.format(**values))
        new.rename(self.directory / name)

    def reload(self, generation):
        self.write(generation)
        self.process.send_signal(self.reload_signal)


class Headwater(Rival):
    name = "headwater"
    reload_signal = signal.SIGHUP

    def write(self, generation):
        self.more.setdefault("shared", "false")
        https = HTTPS.format(**self.ports) if "tls" in self.ports else ""
        self.more["https"] = https
        self.write_file("proxy.yaml", HEADWATER_CONFIG, generation)

    def command(self):
        return [HEADWATER, "run", "--config", str(self.directory / "proxy.yaml")]

    def replace(self, generation):
        """A second process on the same port, then the end of the first."""
        self.more["shared"] = "true"
        self.write(generation)
        old, self.process = self.process, None
        self.start(generation)
        poll("the new process to be ready", lambda: self.readiness(generation) == 200)
        old.send_signal(signal.SIGTERM)
        return old

    def readiness(self, generation=0):
        """The status of /readyz; 0 where nobody answers."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self.directory / f"admin-{generation}.sock"))
                connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return int(connection.makefile("rb").readline().split()[1])
        except (OSError, IndexError):
            return 0


class Activated(Headwater):
    """headwater on a socket that somebody else keeps."""

    def start(self, generation=0, pass_fds=()):
        if not self.more.get("socket"):
            self.more["socket"] = socket.create_server(("127.0.0.1", self.ports["port"]), backlog=4096)
        return super().start(generation, (self.more["socket"].fileno(),))

    def command(self):
        return [sys.executable, "-B", str(HERE / "activate.py"), str(self.more["socket"].fileno()), *super().command()]

    def replace(self, generation):
        """First the end, then the beginning, as a supervisor does it that has the socket."""
        old = self.process
        old.terminate()
        old.wait(60)
        self.start(generation)
        return old


class Nginx(Rival):
    name = "nginx"
    soft = signal.SIGQUIT
    reload_signal = signal.SIGHUP

    def start(self, generation=0, pass_fds=()):
        if not self.more.get("orphan"):
            return super().start(generation, pass_fds)
        # It exchanges its executable only when whoever started it has gone.
        self.write(generation)
        subprocess.run(self.command(), cwd=self.directory, check=True, stdin=subprocess.DEVNULL, timeout=30)
        self.lane.ends.append(self.end_orphan)
        self.adopt(None)
        return self.process

    def end_orphan(self):
        """Whoever is master in the end, should the lane have broken off meanwhile."""
        for pids in self.directory.glob("nginx.pid*"):
            Adopted(int(pids.read_text())).terminate()

    def adopt(self, old):
        """The master that its file names now."""
        pids, found = self.directory / "nginx.pid", []

        def is_named():
            pid = pids.read_text().strip() if pids.exists() else ""
            found[:] = [int(pid)] if pid and pid != str(old and old.pid) else []
            return found

        poll("nginx' master", is_named)
        self.process = Adopted(found[0])
        self.lane.processes.append(self.process)

    def write(self, generation):
        self.more["daemon"] = "on" if self.more.get("orphan") else "off"
        # Started by root it would have its workers be somebody who can't read the lane's directory.
        self.more["user"] = "user root;" if os.geteuid() == 0 else ""
        self.more["https"] = NGINX_HTTPS.format(**self.ports) if "tls" in self.ports else ""
        self.write_file("nginx.conf", NGINX_CONFIG, generation)

    def command(self):
        # By its path, which it runs again when it exchanges its executable.
        return [shutil.which("nginx"), "-p", str(self.directory), "-c", "nginx.conf", "-e", "stderr"]

    def replace(self, generation):
        """Its own exchange of executables: the old master starts a new one, which inherits the sockets."""
        self.write(generation)
        old = self.process
        old.send_signal(signal.SIGUSR2)
        self.adopt(old)
        old.send_signal(signal.SIGQUIT)
        return old


class Haproxy(Rival):
    name = "HAProxy"
    soft = signal.SIGUSR1
    reload_signal = signal.SIGUSR2
    options = ()

    def write(self, generation):
        self.write_file("haproxy.cfg", HAPROXY_CONFIG, generation)

    def command(self):
        return ["haproxy", *self.options, "-db", "-f", str(self.directory / "haproxy.cfg")]

    def start(self, generation=0, pass_fds=()):
        # Only a master can reload.
        if self.more.get("master"):
            self.options = ("-W",)
        return super().start(generation, pass_fds)

    def replace(self, generation):
        """A new process takes the sockets from the old one, and tells it to end."""
        old = self.process
        self.options = ("-x", str(self.directory / "haproxy.sock"), "-sf", str(old.pid))
        self.start(generation)
        return old


class Envoy(Rival):
    name = "Envoy"
    options = ("--disable-hot-restart",)

    def write(self, generation):
        self.write_file("envoy.yaml", ENVOY_CONFIG, generation)
        self.write_file("routes.yaml", ENVOY_ROUTES, generation)

    def command(self):
        return ["envoy", "--log-level", "warn", "--concurrency", "2", *self.options, "-c", str(self.directory / "envoy.yaml")]

    def reload(self, generation):
        self.write_file("routes.yaml", ENVOY_ROUTES, generation)

    def start(self, generation=0, pass_fds=()):
        if self.more.get("epochs"):
            times = ("--drain-time-s", "1", "--parent-shutdown-time-s", "3")
            self.options = ("--base-id", str(self.ports["admin"]), "--restart-epoch", str(self.started), *times)
        return super().start(generation, pass_fds)

    def replace(self, generation):
        """Its hot restart: the new epoch takes the sockets, and has the old one end after a while."""
        old = self.process
        self.start(generation)
        return old


class Adopted:
    """A process that isn't our child, as far as a lane deals with it."""

    def __init__(self, pid):
        self.pid, self.args = pid, ["an adopted process"]

    def send_signal(self, number):
        os.kill(self.pid, number)

    def poll(self):
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        # Nobody may have waited for it.
        return 0 if "Z" in Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] else None

    def wait(self, timeout=30):
        """Its exit status is for whoever adopted it before us."""
        poll(f"{self.args[0]} to end", lambda: self.poll() is not None, timeout)

    def terminate(self):
        if self.poll() is None:
            self.send_signal(signal.SIGTERM)

    def kill(self):
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
