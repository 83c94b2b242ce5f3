#!/usr/bin/env -S python3 -B
"""Schemathesis asks the admin interface whatever examples/openapi.yaml allows, and much that it doesn't, and finds nothing.

Events have no end, so they are read by curl for a moment.
"""
import json
import os
import re
import secrets
import subprocess

from lib import HOST, ROOT, Lane, curl, fields, free_port, poll, raw

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  https: {{ address: "127.0.0.1:{https}", tls: {{ certificates: [{{ cert: a.crt, key: a.key }}] }} }}
client_ip: {{ trusted_proxies: [127.0.0.2] }}
upstreams:
  whoami: {{ endpoints: ["127.0.0.1:{upstream}"] }}
  echo: {{ builtin: whoami }}
routes:
  - {{ name: site, match: {{ hosts: [{host}] }}, upstream: whoami }}
  - {{ name: echo, match: {{ path: /echo }}, upstream: echo }}
admin: {{ address: "127.0.0.1:{admin}", token_file: token }}
"""

SCHEMA = ROOT / "examples/openapi.yaml"


def certificate(lane):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", "-subj", f"/CN={HOST}"]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{HOST}", "-out", "a.crt", "-keyout", "a.key"], cwd=lane.dir, check=True, capture_output=True, timeout=60)


def run_schemathesis(lane, port, token):
    """The report, and how it ended."""
    command = ["schemathesis", "run", str(SCHEMA), "--url", f"http://127.0.0.1:{port}", "-H", f"Authorization: Bearer {token}"]
    command += ["--checks", "all", "--exclude-path", "/api/v1/events", "--max-examples", "40", "--seed", "1", "--no-color", "--request-timeout", "10"]
    done = subprocess.run(command, cwd=lane.dir, capture_output=True, text=True, timeout=240, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(lane.dir / "hypothesis")})
    return done.returncode, done.stdout + done.stderr


with Lane("schemathesis", "schemathesis", "openssl") as lane:
    ports = {name: free_port() for name in ("http", "https", "upstream", "admin")}
    token = secrets.token_hex(32)
    (lane.dir / "token").write_text(token)
    certificate(lane)
    lane.whoami("whoami", ports["upstream"])
    lane.headwater("headwater", CONFIG.format(host=HOST, **ports), ports["http"])
    for source in ("127.0.0.2", "127.0.0.3"):
        raw(ports["http"], f"GET / HTTP/1.0\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n".encode(), source)

    status, report = run_schemathesis(lane, ports["admin"], token)
    lane.check("schemathesis, exit status", status, 0)
    if status:
        print(report[-6000:])
    described = len(re.findall(r"(?m)^    (?:get|post):$", SCHEMA.read_text()))
    tested = re.search(r"Tested: (\d+)", report)
    lane.check(f"operations asked, of {described}", int(tested[1]) if tested else 0, described - 1)
    last = report.strip().splitlines()[-1] if report.strip() else ""
    lane.check("what it says at its end", last.strip("= "), lambda line: "failure" not in line)

    bearer = fields(f"Authorization: Bearer {token}")
    address = f"http://127.0.0.1:{ports['admin']}"
    for path in ("healthz", "readyz"):
        [answer] = curl(f"{address}/{path}")
        lane.check(f"/{path} after all that, without a token", answer.status, 200)
    [answer] = curl(*bearer, "-X", "POST", f"{address}/api/v1/upstreams/whoami/endpoints/127.0.0.1:{ports['upstream']}/resume")
    lane.check("an endpoint resumes", answer.status, 200)
    [answer] = curl(*bearer, f"{address}/api/v1/requests?last=2")
    lane.check("clients of the last requests", [request["client_ip"] for request in json.loads(answer.body)], ["127.0.0.3", "192.0.2.1"])
    events = subprocess.Popen(["curl", "-sN", "--max-time", "3", *bearer, f"{address}/api/v1/events"], stdout=subprocess.PIPE, text=True)
    lane.processes.append(events)
    lane.check("how events begin", events.stdout.readline(), "retry: 1000\n")
    curl("-H", f"Host: {HOST}", f"http://127.0.0.1:{ports['http']}/")
    told, _ = events.communicate(timeout=10)
    lane.check("an event tells of a request", told, lambda told: '"client_ip":"127.0.0.1"' in told and "event: request" in told)
