#!/usr/bin/env -S python3 -B
"""GoAccess reads the access log, in the combined format as it knows it: who does it say has visited?"""
import json
import subprocess

from lib import HOST, Lane, curl, fields, free_port, poll, raw

PROXY = "127.0.0.2"
STRANGER = "127.0.0.3"
# Client, and how many requests it makes through the trusted proxy.
CLIENTS = {"198.51.100.7": 7, "203.0.113.5": 3, "2001:db8::7": 2}
FORGED = "X-Forwarded-For: 6.6.6.6"
# Would be a request of its own if anything of it could end a line or a quoted string.
EVIL = '" 200 1 "-" "-"\\" 6.6.6.6 - - [01/Jan/2030:00:00:00 +0000] "GET /forged HTTP/1.1" 200 1 "-" "\xe9\x85'

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
client_ip: {{ trusted_proxies: [{proxy}], header: X-Forwarded-For }}
upstreams:
  whoami: {{ builtin: whoami }}
routes:
  - upstream: whoami
access_log: {{ output: access.log, format: combined }}
"""


def report(lane, log):
    """What GoAccess makes of it."""
    to = lane.dir / "report.json"
    command = ["goaccess", str(log), "--log-format=COMBINED", "--no-global-config", "-o", str(to)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    lane.check("goaccess, exit status", (done.returncode, done.stderr.strip()[-200:] if done.returncode else ""), (0, ""))
    return json.loads(to.read_text())


def hits(section):
    return {entry["data"]: entry["hits"]["count"] for entry in section["data"]}


with Lane("goaccess", "goaccess") as lane:
    http = free_port()
    lane.headwater("headwater", CONFIG.format(http=http, proxy=PROXY), http)
    there = ["--connect-to", f"::127.0.0.1:{http}"]
    for client, count in CLIENTS.items():
        chain = fields(f"X-Forwarded-For: 6.6.6.6, {client}")
        answers = curl(*there, "--interface", PROXY, *chain, f"http://{HOST}/page?n=[1-{count}]")
        lane.check(f"{count} requests for {client}, statuses", {answer.status for answer in answers}, {200})
    answers = curl(*there, "--interface", STRANGER, *fields(FORGED), f"http://{HOST}/page?n=[1-4]")
    lane.check("4 requests of a stranger who claims to be 6.6.6.6, statuses", {answer.status for answer in answers}, {200})
    answer, = curl(*there, "--interface", STRANGER, "--user-agent", EVIL, "--referer", EVIL, f"http://{HOST}/evil")
    lane.check("a stranger's request with a line in its user agent, status", answer.status, 200)
    came = raw(http, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", STRANGER)
    lane.check("a stranger's request that is none", came.split(b"\r\n")[0].decode(), "HTTP/1.1 400 Bad Request")

    log, requests = lane.dir / "access.log", sum(CLIENTS.values()) + 6
    poll("the log", lambda: log.exists() and log.read_bytes().count(b"\n") >= requests)
    found = report(lane, log)
    lane.check("lines that it can't read", found["general"]["failed_requests"], 0)
    lane.check("requests", found["general"]["total_requests"], requests)
    lane.check("visitors", hits(found["hosts"]), CLIENTS | {STRANGER: 6})
    statuses = {item["data"]: item["hits"]["count"] for group in found["status_codes"]["data"] for item in group["items"]}
    by_code = {name.split()[0]: count for name, count in statuses.items()}
    lane.check("statuses", by_code, {"200": requests - 1, "400": 1})
    pages = {entry["data"].split("?")[0] for entry in found["requests"]["data"]}
    lane.check("pages", "/page" in pages and "/forged" not in pages, True)
