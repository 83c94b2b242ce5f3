#!/usr/bin/env -S python3 -B
"""`headwater check` on the shipped configuration and on every example, with the files made that they name."""
import re
import secrets
import subprocess

from lib import HEADWATER, ROOT, Lane

# Certificates of an installed service; they are looked for in the lane's directory instead.
INSTALLED = "/etc/headwater/"
PAIR = re.compile(r"cert:\s*([^\s,}]+)\s*,?\s*key:\s*([^\s,}]+)(?!\s*,?\s*self_signed)(?=[\s,}])")
LISTS = re.compile(r"\btrusted_proxies_files:\s*\[([^\]]+)\]")
TOKEN_FILE = re.compile(r"\btoken_file:\s*([^\s,}]+)")
AUTHORITY = re.compile(r"\bca:\s*([^\s,}]+)")


def check(path):
    done = subprocess.run([HEADWATER, "check", "--deny-warnings", str(path)], capture_output=True, text=True, timeout=20)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def make_certificates(directory, text):
    without_comments = re.sub(r"(^|\s)#.*", "", text)
    authorities = {(cert, f"{cert}.key") for cert in AUTHORITY.findall(without_comments)}
    for cert, key in set(PAIR.findall(without_comments)) | authorities:
        (directory / cert).parent.mkdir(parents=True, exist_ok=True)
        name = (directory / cert).stem
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-out", cert, "-keyout", key]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)


def make_tokens(directory, text):
    for token in TOKEN_FILE.findall(text):
        (directory / token).parent.mkdir(parents=True, exist_ok=True)
        (directory / token).write_text(secrets.token_hex(32))


def make_lists(directory, text):
    for lists in LISTS.findall(text):
        for file in re.split(r",\s*", lists):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text("192.0.2.0/24  # a range\n")


with Lane("examples", "openssl") as lane:
    files = [ROOT / "proxy.yaml", ROOT / "examples/full.yaml", *sorted(ROOT.glob("examples/*/proxy.yaml"))]
    for file in files:
        name = str(file.relative_to(ROOT))
        copy = lane.dir / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text().replace(INSTALLED, f"{copy.parent}{INSTALLED}")
        copy.write_text(text)
        if name == "examples/full.yaml":
            lane.check(f"{name} without its certificates, exit status", check(copy)[0], 78)
        make_certificates(copy.parent, text)
        make_tokens(copy.parent, text)
        make_lists(copy.parent, text)
        status, last_line = check(copy)
        lane.check(f"{name}, exit status", status, 0)
        lane.check(f"{name}, what it says", last_line.removeprefix(f"{copy}: "), lambda came: came.startswith("ok ("))
