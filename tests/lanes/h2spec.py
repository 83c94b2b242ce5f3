#!/usr/bin/env -S python3 -B
"""h2spec against the built-in echo service: every rule of RFC 9113 and RFC 7541 that it knows, over TLS and in the clear."""
import re
import subprocess

from lib import HOST, Lane, free_port

CONFIG = """
listeners:
  both: {{ address: "127.0.0.1:{both}" }}
  h2c: {{ address: "127.0.0.1:{h2c}", protocols: [h2] }}
  https:
    address: "127.0.0.1:{https}"
    tls: {{ certificates: [{{ cert: lane.crt, key: lane.key, self_signed: [{host}, 127.0.0.1] }}] }}
upstreams:
  whoami: {{ builtin: whoami }}
routes:
  - upstream: whoami
"""

# Where both versions are spoken, what isn't the preface of HTTP/2 is a request of HTTP/1: it is answered 400.
ANSWERED_AS_HTTP_1 = ["Sends invalid connection preface"]


def h2spec(lane, name, port, options, wanted):
    command = ["h2spec", "-h", "127.0.0.1", "-p", str(port), "-o", "5", *options]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240).stdout.decode()
    # The failures are told once more at the end.
    told, _, failures = text.partition("\nFailures:")
    failed = re.findall(r"^ *× \d+: (.*)$", failures, re.M)
    lane.check(f"{name}: the tests that fail", failed, wanted)
    total = re.search(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", text, re.M)
    lane.check(f"{name}: tests, skipped", (int(total[1]), int(total[3])) if total else text, (TESTS[name.split()[0]], 0))


TESTS = {"h2": 145, "strict": 146}

with Lane("h2spec", "h2spec") as lane:
    both, h2c, https = free_port(), free_port(), free_port()
    lane.headwater("headwater", CONFIG.format(both=both, h2c=h2c, https=https, host=HOST), https)
    h2spec(lane, "h2 over TLS", https, ["-t", "-k"], [])
    h2spec(lane, "h2 by prior knowledge", h2c, [], [])
    h2spec(lane, "h2 beside HTTP/1", both, [], ANSWERED_AS_HTTP_1)
    h2spec(lane, "strict over TLS", https, ["-t", "-k", "--strict"], [])
