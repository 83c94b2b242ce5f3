"""The check before measuring: every proxy does the same work, over every way in."""
import collections
import http.client
import ssl
import subprocess

from .bench import Failed

REQUESTS = 30
HOST = "app.example.com"
CLIENT = "198.51.100.7"
# Left to themselves, proxies choose differently.
ONE_CIPHER = "--tls13-ciphers=TLS_AES_128_GCM_SHA256"


def check(running, site):
    """Raises `Failed` with all that differs."""
    wrong = []
    for scheme in ("http", "https"):
        wrong += differences(running, scheme, site)
    wrong += http2_differences(running)
    wrong += tls_differences(running)
    if wrong:
        raise Failed(f"{running.name} doesn't do the same work:\n  " + "\n  ".join(dict.fromkeys(wrong)))


def differences(running, scheme, site):
    connection = connect(running, scheme)
    told = []
    for number in range(REQUESTS):
        fields = {"Host": HOST, **({"X-Forwarded-For": CLIENT} if number % 2 else {})}
        connection.request("GET", "/told", headers=fields)
        answer = connection.getresponse()
        lines = answer.read().decode().splitlines()
        if answer.status != 200:
            return [f"{scheme}: status {answer.status}"]
        told.append(read(running, lines))
        if answer.will_close:
            return [f"{scheme}: closes the client's connection"]
    connection.close()
    return [f"{scheme}: {line}" for line in of_requests(told, scheme) + of_upstream_connections(told, min(site.endpoints, REQUESTS))]


def http2_differences(running):
    told = []
    for fields in ([], ["-H", f"x-forwarded-for: {CLIENT}"]):
        command = ["nghttp", "--no-verify-peer", "--no-dep", "-H", f":authority: {HOST}", *fields, f"https://127.0.0.1:{running.tls}/told"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.splitlines()
        if not any(line.startswith("endpoint=") for line in lines):
            return [f"HTTP/2: no response: {lines}"]
        told.append(read(running, [line for line in lines if "=" in line]))
    return [f"HTTP/2: {line}" for line in of_requests(told, "https")]


def read(running, lines):
    """What the upstream was sent, by name."""
    came = dict(line.split("=", 1) for line in lines)
    chain = [entry.strip() for entry in came["x-forwarded-for"].split(",")]
    if not running.peer.names_loopback:
        chain[-1] = "127.0.0.1"
    return {**came, "x-forwarded-for": ", ".join(chain)}


def of_requests(told, scheme):
    for number, came in enumerate(told):
        chain = f"{CLIENT}, 127.0.0.1" if number % 2 else "127.0.0.1"
        wanted = {"host": HOST, "x-forwarded-for": chain, "x-forwarded-proto": scheme, "protocol": "HTTP/1.1"}
        if not number % 2:
            # With a chain, who resolves it names another.
            wanted["x-real-ip"] = "127.0.0.1"
        for name, value in wanted.items():
            if came[name] != value:
                return [f"{name} is {came[name]!r}, not {value!r}"]
    return []


def of_upstream_connections(told, endpoints):
    wrong = []
    requests = collections.Counter(came["endpoint"] for came in told)
    if len(requests) != endpoints or max(requests.values()) - min(requests.values()) > 1:
        wrong.append(f"not evenly over {endpoints} endpoints: {dict(requests)}")
    connections = len({came["connection"] for came in told})
    if endpoints < REQUESTS and connections > endpoints:
        wrong.append(f"{connections} upstream connections for {REQUESTS} requests, one after another, to {endpoints} endpoints")
    return wrong


def connect(running, scheme):
    if scheme == "http":
        return http.client.HTTPConnection("127.0.0.1", running.plain, timeout=10)
    return http.client.HTTPSConnection("127.0.0.1", running.tls, timeout=10, context=ssl._create_unverified_context())


def tls_differences(running):
    """Version, cipher, key exchange and protocol that h2load will get."""
    wrong = []
    for wanted, arguments in (("h2", []), ("http/1.1", ["--h1"])):
        command = ["h2load", "-n1", "-c1", ONE_CIPHER, *arguments, f"https://127.0.0.1:{running.tls}/100"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        for line in ("1 succeeded", "TLS Protocol: TLSv1.3", "Cipher: TLS_AES_128_GCM_SHA256", "Server Temp Key: X25519", f"Application protocol: {wanted}"):
            if line not in told:
                wrong.append(f"TLS, {wanted}: h2load doesn't say {line!r}")
    return wrong
