#!/usr/bin/env -S python3 -B
"""promtool reads the metrics and finds nothing to say, Prometheus itself scrapes them in its own form, and both see what was sent."""
import json
import subprocess
import time
import urllib.error
import urllib.request

from lib import HOST, Lane, curl, fields, free_port, poll, raw

CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  tcp:
    address: "127.0.0.1:{tcp}"
    proxy_protocol: {{ mode: required, from: [127.0.0.1] }}
upstreams:
  whoami: {{ endpoints: ["127.0.0.1:{upstream}"] }}
routes:
  - {{ name: site, match: {{ hosts: [{host}] }}, upstream: whoami }}
admin: {{ address: "127.0.0.1:{admin}" }}
"""

PROMETHEUS = """
global: {{ scrape_interval: 1s }}
scrape_configs:
  - {{ job_name: headwater, static_configs: [{{ targets: ["127.0.0.1:{admin}"] }}] }}
"""


def metrics(port):
    [answer] = curl(f"http://127.0.0.1:{port}/metrics")
    return answer.body


def value(text, series):
    found = [line.removeprefix(f"{series} ") for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(found[0]) if found else None


def queried(port, query):
    address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(query)}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        # It listens before it is ready.
        if error.code != 503:
            raise
        return None
    return float(found[0]["value"][1]) if found else None


def send_traffic(ports):
    for _ in range(5):
        curl("-H", f"Host: {HOST}", f"http://127.0.0.1:{ports['http']}/")
    curl("-H", f"Host: {HOST}", *fields("X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6"), f"http://127.0.0.1:{ports['http']}/")
    curl("-H", "Host: nobody.example.com", f"http://127.0.0.1:{ports['http']}/")
    raw(ports["tcp"], b"GET / HTTP/1.0\r\n\r\n")


def expected(ports):
    endpoint = f'upstream="whoami",endpoint="127.0.0.1:{ports["upstream"]}"'
    return {
        'headwater_requests_total{listener="http",route="site",status="200"}': 6,
        'headwater_requests_total{listener="http",route="",status="404"}': 1,
        'headwater_request_duration_seconds_count{listener="http",route="site"}': 6,
        f"headwater_upstream_requests_total{{{endpoint}}}": 6,
        f"headwater_upstream_endpoint_healthy{{{endpoint}}}": 1,
        'headwater_upstream_retries_total{upstream="whoami"}': 0,
        'headwater_client_ip_source_total{source="peer"}': 7,
        'headwater_forged_headers_total{listener="http"}': 2,
        'headwater_proxy_protocol_errors_total{listener="tcp",reason="missing"}': 1,
        'headwater_config_reload_total{result="applied"}': 0,
        "headwater_panics_total": 0,
        "headwater_access_log_dropped_total": 0,
    }


with Lane("prometheus", "prometheus", "promtool") as lane:
    ports = {name: free_port() for name in ("http", "tcp", "upstream", "admin", "prometheus")}
    lane.whoami("whoami", ports["upstream"])
    lane.headwater("headwater", CONFIG.format(host=HOST, **ports), ports["http"])
    send_traffic(ports)
    wanted = expected(ports)
    poll("the last request to be counted", lambda: value(metrics(ports["admin"]), 'headwater_requests_total{listener="http",route="",status="404"}'))
    text = metrics(ports["admin"])
    for series, number in wanted.items():
        lane.check(series, value(text, series), float(number))

    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=20)
    lane.check("promtool check metrics, exit status", lint.returncode, 0)
    lane.check("promtool check metrics, what it says", lint.stdout + lint.stderr, "")

    (lane.dir / "prometheus.yml").write_text(PROMETHEUS.format(**ports))
    listen = f"--web.listen-address=127.0.0.1:{ports['prometheus']}"
    lane.start("prometheus", ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", listen], ports["prometheus"])
    poll("Prometheus to have scraped", lambda: queried(ports["prometheus"], 'up{job="headwater"} == 1'), 30)
    for series, number in wanted.items():
        lane.check(f"Prometheus: {series}", queried(ports["prometheus"], series), float(number))
    targets = urllib.request.urlopen(f"http://127.0.0.1:{ports['prometheus']}/api/v1/targets", timeout=10)
    [target] = json.load(targets)["data"]["activeTargets"]
    lane.check("what Prometheus says of the last scrape", target["lastError"], "")
    after = metrics(ports["admin"])
    resident = value(after, "process_resident_memory_bytes")
    lane.check("process_resident_memory_bytes", resident, lambda size: size and size > 1e6)
    lane.check("process_start_time_seconds", value(after, "process_start_time_seconds"), lambda start: start and abs(time.time() - start) < 300)
