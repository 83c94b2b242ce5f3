#!/usr/bin/env -S python3 -B
"""The table of tests/cases/wire put to headwater, nginx and HAProxy alike: how many rows of each class hold, and what came instead.

Only headwater has to hold them all. The others are configured as a careful operator would, to do the same work: one upstream
over HTTP/1.1 with its connections kept, nothing buffered whole, the client's address in the fields headwater writes, those of
providers removed.
"""
import os
import re
import subprocess
from collections import Counter, defaultdict

import rivals
from lib import ROOT, Lane, free_port

HEADWATER_CONFIG = """
listeners: {{ http: {{ address: "127.0.0.1:{port}" }}, http2: {{ address: "127.0.0.1:{http2}" }} }}
upstreams: {{ app: {{ endpoints: ["127.0.0.1:{upstream}"] }} }}
routes: [{{ upstream: app }}]
"""

NGINX_CONFIG = """
daemon off; {user} worker_processes 2; error_log {directory}/error.log crit; pid {directory}/nginx.pid;
events {{ }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream app {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{http2} http2;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port; proxy_set_header Forwarded "";
      {removals}
    }}
  }}
}}
"""

HAPROXY_CONFIG = """
global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{http2} proto h2
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request del-header Forwarded
  {removals}
  default_backend app
backend app
  http-reuse safe
  server app 127.0.0.1:{upstream}
"""

# What headwater doesn't let pass from whoever isn't trusted.
FORGEABLE = ["True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Forwarded-Server"]


class Headwater(rivals.Headwater):
    def write(self, generation):
        self.write_file("proxy.yaml", HEADWATER_CONFIG, generation)


class Nginx(rivals.Nginx):
    def write(self, generation):
        self.more["user"] = "user root;" if os.geteuid() == 0 else ""
        self.more["removals"] = " ".join(f'proxy_set_header {name} "";' for name in FORGEABLE)
        self.write_file("nginx.conf", NGINX_CONFIG, generation)


class Haproxy(rivals.Haproxy):
    def write(self, generation):
        self.more["removals"] = "\n  ".join(f"http-request del-header {name}" for name in FORGEABLE)
        self.write_file("haproxy.cfg", HAPROXY_CONFIG, generation)


def play(ports):
    """What came of each row, by class: its name, and what was wrong with it (`ok`: nothing)."""
    doors = {"HTTP1": ports["port"], "HTTP2": ports["http2"], "UPSTREAM": ports["upstream"]}
    environment = os.environ | {f"WIRE_{name}": f"127.0.0.1:{port}" for name, port in doors.items()}
    test = ["wire::another_proxy_beside_the_table", "--ignored", "--exact", "--nocapture"]
    command = ["cargo", "test", "--quiet", "--locked", "--test", "it", "--", *test]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    text = done.stdout.decode(errors="replace")
    classes = defaultdict(list)
    for kind, name, came in re.findall(r"^wire\t(.*?)\t(.*?)\t(.*)$", text, re.M):
        classes[kind].append((name, came))
    if done.returncode:
        raise ChildProcessError(text[-2000:])
    return classes


with Lane("compare", "nginx", "haproxy", "cargo") as lane:
    results = {}
    for rival in (Headwater, Nginx, Haproxy):
        ports = {name: free_port() for name in ("port", "http2", "upstream")}
        rival(lane, ports, lane.dir / rival.__name__.lower()).start()
        results[rival.name] = play(ports)
    print(f"\n{'class':<42}" + "".join(f"{name:>12}" for name in results))
    for kind in results["headwater"]:
        counts = []
        for classes in results.values():
            held = sum(came == "ok" for _, came in classes[kind])
            counts.append(f"{held}/{len(classes[kind])}")
        print(f"{kind:<42}" + "".join(f"{count:>12}" for count in counts))
        for name, classes in results.items():
            instead = Counter(came for _, came in classes[kind] if came != "ok")
            for what, times in instead.most_common(4):
                print(f"    {name}, {times} x: {what}")
    total = [sum(came == "ok" for rows in classes.values() for _, came in rows) for classes in results.values()]
    rows = sum(map(len, results["headwater"].values()))
    print(f"{'all':<42}" + "".join(f"{f'{held}/{rows}':>12}" for held in total) + "\n")
    lane.check("rows put to each", [sum(map(len, classes.values())) for classes in results.values()], lambda counts: set(counts) == {rows} and rows > 0)
    missed = [f"{kind} / {name}: {came}" for kind, cases in results["headwater"].items() for name, came in cases if came != "ok"]
    lane.check("rows that headwater misses", missed, [])
