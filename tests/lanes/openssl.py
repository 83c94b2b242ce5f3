#!/usr/bin/env -S python3 -B
"""Clients with certificates that OpenSSL made: what curl is let in with, and whether the subject reads as OpenSSL has it."""
import subprocess

from lib import HOST, Lane, curl, fields, free_port

FIELD = "x-client-cert-subject"
CONFIG = """
listeners:
  http: {{ address: "127.0.0.1:{http}" }}
  optional:
    address: "127.0.0.1:{optional}"
    tls:
      certificates: [{{ cert: lane.crt, key: lane.key, self_signed: [{host}] }}]
      client_auth: {{ mode: optional, ca: ca.crt, subject_header: {field} }}
  required:
    address: "127.0.0.1:{required}"
    tls:
      certificates: [{{ cert: lane.crt, key: lane.key, self_signed: [{host}] }}]
      client_auth: {{ mode: required, ca: ca.crt, subject_header: {field} }}
upstreams:
  app: {{ endpoints: ["127.0.0.1:{echo}"] }}
routes:
  - upstream: app
"""

SUBJECTS = {
    "plain": "/C=SI/O=Example/CN=ada",
    "several": "/DC=net/DC=example/OU=Sales+CN=J. Smith",
    "escapes": r"/O=Example, Inc./CN=#a\\\"\+b;<c>",
    "slavic": "/L=Ljubljana/CN=Lučić",
    "far": "/CN=\N{SNOWMAN}\N{GRINNING FACE}",
    "numbers": "/emailAddress=a@b.test/UID=ada",
    "control": "/CN=a\tb\x7f",
}
TOLD = {
    # In the order of the certificate, which OpenSSL turns round here as well.
    "several": "OU=Sales+CN=J. Smith,DC=example,DC=net",
    # OpenSSL has names for more attributes than RFC 4514 has.
    "numbers": "UID=ada,1.2.840.113549.1.9.1=#16086140622E74657374",
}


def openssl(lane, *arguments):
    return subprocess.run(["openssl", *arguments], cwd=lane.dir, check=True, capture_output=True, timeout=60).stdout.decode()


def issue(lane, name, subject, authority="ca"):
    openssl(lane, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-utf8", "-keyout", f"{name}.key", "-out", "request", "-subj", subject)
    (lane.dir / "extensions").write_text("basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n")
    openssl(lane, "x509", "-req", "-in", "request", "-extfile", "extensions", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-days", "2", "-out", f"{name}.crt")


def authority(lane, name):
    openssl(lane, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}")


def ask(lane, port, own, *options):
    """An answer of the endpoint, or none."""
    shown = ["--cert", str(lane.dir / f"{own}.crt"), "--key", str(lane.dir / f"{own}.key")] if own else []
    resolve = ["--resolve", f"{HOST}:{port}:127.0.0.1", "--cacert", str(lane.dir / "lane.crt")]
    return curl(*shown, *resolve, *options, f"https://{HOST}:{port}/")[0]


with Lane("openssl", "openssl") as lane:
    authority(lane, "ca")
    authority(lane, "other")
    for name, subject in SUBJECTS.items():
        issue(lane, name, subject)
    issue(lane, "stranger", "/CN=ada", "other")
    ports = {name: free_port() for name in ("http", "optional", "required", "echo")}
    lane.echo("app", ports["echo"])
    lane.headwater("headwater", CONFIG.format(**ports, host=HOST, field=FIELD), ports["required"])
    for name in SUBJECTS:
        told = openssl(lane, "x509", "-in", f"{name}.crt", "-noout", "-subject", "-nameopt", "RFC2253").strip().removeprefix("subject=")
        told = TOLD.get(name, told)
        for port in ("optional", "required"):
            answer = ask(lane, ports[port], name)
            lane.check(f"{port}, a certificate of {name!r}, the subject", answer.values(FIELD), [told])
    forged = fields(f"{FIELD}: CN=root", "X_Client_Cert_Subject: CN=root", f"Connection: {FIELD}")
    for version in ("--http1.1", "--http2"):
        for tls in ("1.2", "1.3"):
            how = [version, f"--tlsv{tls}", "--tls-max", tls]
            ada = ask(lane, ports["required"], "plain", *how, *forged)
            lane.check(f"{version[2:]}, TLS {tls}, a forged subject beside a verified one", ada.values(FIELD), ["CN=ada,O=Example,C=SI"])
            nobody = ask(lane, ports["optional"], None, *how, *forged)
            lane.check(f"{version[2:]}, TLS {tls}, a forged subject without a certificate", (nobody.status, nobody.values(FIELD)), (200, []))
            refused = ask(lane, ports["required"], None, *how).status
            lane.check(f"{version[2:]}, TLS {tls}, no certificate where one is required", refused, 0)
            for port in ("optional", "required"):
                refused = ask(lane, ports[port], "stranger", *how).status
                lane.check(f"{version[2:]}, TLS {tls}, {port}, a certificate of another authority", refused, 0)
    plain = curl(*forged, f"http://127.0.0.1:{ports['http']}/")[0]
    lane.check("in the clear, a forged subject", (plain.status, plain.values(FIELD)), (200, []))
