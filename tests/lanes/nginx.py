#!/usr/bin/env -S python3 -B
"""nginx with its realip module in front of headwater and behind it: both must find the same client."""
from lib import HOST, Lane, curl, fields, free_port

NGINX_SOURCE = "127.0.0.10"
BALANCER = "127.0.0.30"
CLIENT = "127.0.0.20"

NGINX = """
daemon off;
master_process off;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;

  # In front: believes the balancer, adds to the chain, and says who it thinks the client is.
  server {{
    listen 127.0.0.1:{front};
    set_real_ip_from {balancer};
    set_real_ip_from 10.0.0.0/8;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
    location / {{
      proxy_pass http://127.0.0.1:{headwater};
      proxy_bind {source};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Nginx-Client $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Port 443;
    }}
  }}

  # Behind: believes headwater alone, or headwater and the hops that headwater believes.
  server {{
    listen 127.0.0.1:{chain};
    set_real_ip_from 127.0.0.1;
    set_real_ip_from {source};
    set_real_ip_from {balancer};
    set_real_ip_from 10.0.0.0/8;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
    return 200 "{answer}";
  }}
  server {{
    listen 127.0.0.1:{single};
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Real-IP;
    return 200 "{answer}";
  }}
}}
"""
# The lines of whoami, so that a lane reads one kind of answer.
ANSWER = r"GET / HTTP/1.1\nSeen-Client: $remote_addr\nX-Real-IP: $http_x_real_ip\nX-Forwarded-For: $http_x_forwarded_for\n" \
    r"Proto-Host-Port: $http_x_forwarded_proto $http_x_forwarded_host $http_x_forwarded_port\n"

HEADWATER = """
listeners:
  http: {{ address: "127.0.0.1:{port}" }}
client_ip: {{ trusted_proxies: [{source}, {balancer}, 10.0.0.0/8], header: X-Forwarded-For }}
upstreams:
  echo: {{ endpoints: ["127.0.0.1:{echo}"] }}
  chain: {{ endpoints: ["127.0.0.1:{chain}"] }}
  single: {{ endpoints: ["127.0.0.1:{single}"] }}
routes:
  - {{ upstream: echo }}
  - {{ match: {{ hosts: [chain.example.com] }}, upstream: chain }}
  - {{ match: {{ hosts: [single.example.com] }}, upstream: single }}
"""

# What it is, who connects, X-Forwarded-For as sent, the client.
CHAINS = [
    ("direct", CLIENT, None, CLIENT),
    ("forged", CLIENT, "6.6.6.6", CLIENT),
    ("forged with a trusted tail", CLIENT, f"6.6.6.6, {BALANCER}", CLIENT),
    ("one hop", BALANCER, "198.51.100.7", "198.51.100.7"),
    ("two hops", BALANCER, "198.51.100.7, 10.0.0.5", "198.51.100.7"),
    ("two hops behind a forgery", BALANCER, "6.6.6.6, 198.51.100.7, 10.0.0.5", "198.51.100.7"),
    ("IPv6 client", BALANCER, "2001:db8::7, 10.0.0.5", "2001:db8::7"),
]


def ask(port, source, chain, *options, host=HOST):
    lines = fields(f"X-Forwarded-For: {chain}") if chain else []
    answer, = curl("--interface", source, "--connect-to", f"::127.0.0.1:{port}", *lines, *options, f"http://{host}/")
    return answer


def front(lane, port):
    for what, source, chain, client in CHAINS:
        answer = ask(port, source, chain)
        what = f"nginx in front, {what}: {source} sends {chain or 'no chain'}"
        lane.check(f"{what}, the client to nginx", answer.values("X-Nginx-Client"), [client])
        lane.check(f"{what}, the client to headwater", answer.values("X-Real-IP"), [client])
        nearest = answer.values("X-Forwarded-For")[0].rsplit(", ", 1)[-1]
        lane.check(f"{what}, the last hop of the chain", nearest, NGINX_SOURCE)
        lane.check(f"{what}, what is left of the forgery", [v for _, v in answer.fields if "6.6.6.6" in v], [])
    answer = ask(port, CLIENT, None, *fields("X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.example"))
    came = [value for name in ("Proto", "Host", "Port") for value in answer.values(f"X-Forwarded-{name}")]
    lane.check("nginx in front says https, its host and 443; Proto, Host and Port", came, ["https", HOST, "443"])


def behind(lane, port, host):
    for what, source, chain, client in CHAINS:
        answer = ask(port, source, chain, host=host)
        what = f"nginx behind ({host.split('.')[0]}), {what}: {source} sends {chain or 'no chain'}"
        lane.check(f"{what}, the client to headwater", answer.values("X-Real-IP"), [client])
        lane.check(f"{what}, the client to nginx", answer.values("Seen-Client"), [client])
    for source, wanted in [(CLIENT, f"http {host} {port}"), (BALANCER, "https shop.example 444")]:
        sent = fields("X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", "X-Forwarded-Port: 444")
        answer = ask(port, source, None, *sent, host=host)
        what = f"nginx behind, {source} says https, shop.example, 444; Proto, Host and Port"
        lane.check(what, answer.values("Proto-Host-Port"), [wanted])


with Lane("nginx", "nginx") as lane:
    names = ["front", "chain", "single", "headwater", "echo"]
    ports = {name: free_port() for name in names}
    places = {"source": NGINX_SOURCE, "balancer": BALANCER}
    (lane.dir / "nginx.conf").write_text(NGINX.format(answer=ANSWER, **ports, **places))
    lane.echo("echo", ports["echo"])
    lane.headwater("headwater", HEADWATER.format(port=ports["headwater"], **ports, **places), ports["headwater"])
    command = ["nginx", "-p", str(lane.dir), "-c", "nginx.conf", "-e", "stderr"]
    lane.start("nginx", command, ports["front"])
    front(lane, ports["front"])
    behind(lane, ports["headwater"], "chain.example.com")
    behind(lane, ports["headwater"], "single.example.com")
