#!/usr/bin/env -S python3 -B
"""sslyze against Mozilla's intermediate profile, and everything else that it finds out, with both kinds of keys.

What the profile leaves alone is checked from the same scan: no renegotiation, no compression, no early data, sessions.
The certificates are the lane's own, so that of the stores which sslyze knows only the one it is given can trust them.
HTTP headers aren't scanned: Strict-Transport-Security is the operator's.
"""
import json
import re
import shutil
import subprocess

from lib import HOST, Lane, free_port

CONFIG = """
listeners:
  ecdsa: {{ address: "127.0.0.1:{ecdsa}", tls: {{ certificates: [{{ cert: ecdsa.crt, key: ecdsa.key }}] }} }}
  rsa: {{ address: "127.0.0.1:{rsa}", tls: {{ certificates: [{{ cert: rsa.crt, key: rsa.key }}] }} }}
  newest: {{ address: "127.0.0.1:{newest}", tls: {{ min_version: "1.3", certificates: [{{ cert: ecdsa.crt, key: ecdsa.key }}] }} }}
  optional:
    address: "127.0.0.1:{optional}"
    tls: {{ certificates: [{{ cert: ecdsa.crt, key: ecdsa.key }}], client_auth: {{ mode: optional, ca: ecdsa-root.crt }} }}
  required:
    address: "127.0.0.1:{required}"
    tls: {{ certificates: [{{ cert: ecdsa.crt, key: ecdsa.key }}], client_auth: {{ mode: required, ca: ecdsa-root.crt }} }}
upstreams:
  whoami: {{ builtin: whoami }}
routes:
  - upstream: whoami
"""

VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
CURVES = ["X25519", "secp256r1", "secp384r1"]
SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_12 = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"]


def openssl(lane, *arguments):
    subprocess.run(["openssl", *arguments], cwd=lane.dir, check=True, capture_output=True, timeout=60)


def certificates(lane, kind, key):
    """A root, an authority below it, and the server's certificate with its chain: KIND.crt and KIND.key."""
    root = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    openssl(lane, "req", "-x509", *key, "-noenc", "-keyout", f"{kind}-root.key", "-out", f"{kind}-root.crt", "-days", "90", "-subj", f"/CN={kind} root", *root)
    signers = {"authority": f"{kind}-root", "leaf": f"{kind}-authority"}
    common = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    extensions = {
        "authority": f"basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n{common}",
        "leaf": f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:{HOST}\n{common}",
    }
    for name, subject in (("authority", f"/CN={kind} authority"), ("leaf", f"/CN={HOST}")):
        (lane.dir / "extensions").write_text(extensions[name])
        signer = signers[name]
        openssl(lane, "req", *key, "-noenc", "-keyout", f"{kind}-{name}.key", "-out", "request", "-subj", subject)
        openssl(lane, "x509", "-req", "-in", "request", "-CA", f"{signer}.crt", "-CAkey", f"{signer}.key", "-days", "80", "-extfile", "extensions", "-out", f"{kind}-{name}.crt")
    chain = [(lane.dir / f"{kind}-{name}.crt").read_text() for name in ("leaf", "authority")]
    (lane.dir / f"{kind}.crt").write_text("".join(chain))
    shutil.copy(lane.dir / f"{kind}-leaf.key", lane.dir / f"{kind}.key")


def scan(lane, name, port, root, *options):
    """What sslyze prints, and what it writes down."""
    report = lane.dir / f"{name}.json"
    command = ["sslyze", "--sni", HOST, "--certinfo_ca_file", lane.dir / f"{root}-root.crt", "--json_out", report, *options, f"127.0.0.1:{port}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode()
    if not report.exists():
        raise ChildProcessError(text)
    server = json.loads(report.read_text())["server_scan_results"][0]
    return done.returncode, text, server


def compliance(lane, name, profile, returned, text, server):
    verdict = text.partition("Compliance against TLS configuration".upper())[2]
    issues = re.findall(r"^ +\* (.*)$", verdict, re.M)
    lane.check(f"{name}: findings against Mozilla's {profile} profile", issues, [])
    lane.check(f"{name}: sslyze's verdict", ("OK - Compliant." in verdict, returned), (True, 0))
    states = {attempt: kept["status"] for attempt, kept in server["scan_result"].items()}
    unfinished = sorted(attempt for attempt, status in states.items() if status != "COMPLETED")
    lane.check(f"{name}: scans that weren't made, of {len(states)}", unfinished, ["http_headers"])


def result(server, attempt):
    return server["scan_result"][attempt]["result"]


def suites(server, version):
    return sorted(accepted["cipher_suite"]["name"] for accepted in result(server, f"{version}_cipher_suites")["accepted_cipher_suites"])


def handshakes(lane, name, server, key):
    spoken = [version for version in VERSIONS if result(server, f"{version}_cipher_suites")["is_tls_version_supported"]]
    wanted = ["tls_1_2", "tls_1_3"] if key else ["tls_1_3"]
    lane.check(f"{name}: versions", spoken, wanted)
    lane.check(f"{name}: suites of TLS 1.3", suites(server, "tls_1_3"), SUITES_13)
    if key:
        lane.check(f"{name}: suites of TLS 1.2", suites(server, "tls_1_2"), [f"TLS_ECDHE_{key}_WITH_{suite}" for suite in SUITES_12])
        lane.check(f"{name}: curves", sorted(curve["name"] for curve in result(server, "elliptic_curves")["supported_curves"]), CURVES)
    lane.check(f"{name}: compression", result(server, "tls_compression")["supports_compression"], False)
    lane.check(f"{name}: early data", result(server, "tls_1_3_early_data")["supports_early_data"], False)
    for attempt, answer in (
        ("heartbleed", {"is_vulnerable_to_heartbleed": False}),
        ("openssl_ccs_injection", {"is_vulnerable_to_ccs_injection": False}),
        ("robot", {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}),
        ("tls_fallback_scsv", {"supports_fallback_scsv": True}),
        ("tls_extended_master_secret", {"supports_ems_extension": True}),
        ("session_renegotiation", {"supports_secure_renegotiation": True, "is_vulnerable_to_client_renegotiation_dos": False, "client_renegotiations_success_count": 0}),
    ):
        lane.check(f"{name}: {attempt}", result(server, attempt), answer)


def chain(lane, name, server):
    """Trusted by the store that was given, and by no other: nobody knows the lane's root."""
    deployments = result(server, "certificate_info")["certificate_deployments"]
    lane.check(f"{name}: chains", len(deployments), 1)
    deployment = deployments[0]
    trusting = [path["trust_store"]["name"] for path in deployment["path_validation_results"] if path["was_validation_successful"]]
    lane.check(f"{name}: stores that trust the chain", trusting, ["Supplied CA file"])
    lane.check(f"{name}: what is sent is in order", deployment["received_chain_has_valid_order"], True)
    lane.check(f"{name}: the root is sent along", deployment["received_chain_contains_anchor_certificate"], False)
    lane.check(f"{name}: SHA-1 in the chain", deployment["verified_chain_has_sha1_signature"], False)


def reused(port, *options):
    """How often OpenSSL's client came back with the session of its first connection, of five times."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", HOST, "-tls1_2", "-reconnect", *options]
    text = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).stdout.decode("latin-1")
    return re.findall(r"^(New|Reused), TLSv1.2", text, re.M)


def sessions(lane, name, server, port):
    found = result(server, "session_resumption")
    ids = (found["session_id_resumption_result"], found["session_id_successful_resumptions_count"], found["session_id_attempted_resumptions_count"])
    lane.check(f"{name}: sessions resumed by their identifiers", ids, ("FULLY_SUPPORTED", 5, 5))
    # sslyze takes a session for resumed when the ticket stays the same. Here each resumption brings a fresh one (RFC 5077,
    # section 3.3), so that it sees none; OpenSSL, which asks the handshake, sees five.
    lane.check(f"{name}: tickets that sslyze sees again", found["tls_ticket_successful_resumptions_count"], 0)
    five = ["New"] + 5 * ["Reused"]
    lane.check(f"{name}: sessions resumed by their tickets, as OpenSSL sees it", reused(port), five)
    lane.check(f"{name}: sessions resumed by their identifiers, as OpenSSL sees it", reused(port, "-no_ticket"), five)


with Lane("sslyze", "sslyze", "openssl") as lane:
    certificates(lane, "ecdsa", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    certificates(lane, "rsa", ["-newkey", "rsa:2048"])
    ports = {name: free_port() for name in ("ecdsa", "rsa", "newest", "optional", "required")}
    lane.headwater("headwater", CONFIG.format(**ports), ports["required"])
    for name in ("ecdsa", "rsa"):
        returned, text, server = scan(lane, name, ports[name], name, "--mozilla_config", "intermediate", "--early_data", "--resum")
        compliance(lane, name, "intermediate", returned, text, server)
        handshakes(lane, name, server, name.upper())
        chain(lane, name, server)
        sessions(lane, name, server, ports[name])
    returned, text, server = scan(lane, "newest", ports["newest"], "ecdsa", "--mozilla_config", "modern", "--early_data", "--resum")
    compliance(lane, "newest", "modern", returned, text, server)
    handshakes(lane, "newest", server, None)
    for name in ("optional", "required"):
        _, _, server = scan(lane, name, ports[name], "ecdsa", "--mozilla_config", "disable", "--tlsv1_3")
        lane.check(f"{name}: a client's certificate is", server["connectivity_result"]["client_auth_requirement"], name.upper())
