"""The place of a comparison: a directory, a certificate, files to serve, the upstream, and processes that end with it."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from . import machine, network

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parents[1]
FILES = {"100": 100, "16k": 16 << 10, "1m": 1 << 20}
UPLOADS = {"64k": 64 << 10, "1m": 1 << 20}
START_SECONDS = 30


class Failed(Exception):
    """What ends the comparison; its text is for people."""


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise Failed(f"not there: {', '.join(missing)}")


class Bench:
    """`with Bench() as bench:`; leaving it ends every process and removes the directory."""

    def __init__(self, endpoints=3):
        machine.pin_here()
        network.enter()
        self.directory = Path(tempfile.mkdtemp(prefix="headwater-compare-"))
        self.processes = []
        self.endpoints = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(endpoints)]

    def __enter__(self):
        signal.signal(signal.SIGTERM, interrupted)
        try:
            # nginx serves the files as somebody else where root starts it.
            self.directory.chmod(0o755)
            self.certificate()
            for folder, sizes in (("files", FILES), ("uploads", UPLOADS)):
                (self.directory / folder).mkdir()
                for name, size in sizes.items():
                    (self.directory / folder / name).write_bytes(b"a" * size)
            port = free_ports(1)[0]
            self.endpoints = [f"{address}:{port}" for address in self.endpoints]
            listens = [f"listen {endpoint};" for endpoint in self.endpoints]
            config = self.write("origin.conf", fill("origin.conf", directory=self.directory, descriptors=machine.DESCRIPTORS, listens=listens))
            self.start("origin", ["nginx", "-c", config], [port])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.directory)

    def certificate(self):
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        *subject, "-keyout", "key.pem", "-out", "cert.pem"], cwd=self.directory, check=True, capture_output=True)
        (self.directory / "both.pem").write_bytes(b"".join((self.directory / name).read_bytes() for name in ("cert.pem", "key.pem")))

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def spawn(self, name, command, cpus=machine.LOAD_CPU, environment=None):
        """A process of the comparison, on these processors."""
        with open(self.directory / f"{name}.out", "wb") as output:
            process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       env={**os.environ, **(environment or {})}, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        self.processes.append(process)
        return process

    def start(self, name, command, ports, cpus=machine.LOAD_CPU, environment=None):
        """The same; it listens on these ports when this returns."""
        process = self.spawn(name, command, cpus, environment)
        deadline = time.monotonic() + START_SECONDS
        while not all(map(listens, ports)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{name} doesn't listen: {self.output(name)}")
            time.sleep(0.001)
        return process

    def output(self, name):
        return (self.directory / f"{name}.out").read_text(errors="replace")[-2000:]

    def stop(self, process):
        self.processes.remove(process)
        end(process)


def interrupted(number, frame):
    raise Failed(signal.Signals(number).name)


def end(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(port):
    # Asks the kernel: a connection would be work for the proxy.
    wanted = f":{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def fill(template, **values):
    """A file of config/ with every @name@ filled in; a list gives lines, indented as its place is."""

    def value(found):
        given = values[found[2]]
        return found[1] + f"\n{found[1]}".join(given if isinstance(given, list) else [str(given)])

    return re.sub(r"((?:^[ \t]+)?)@(\w+)@", value, (HERE / "config" / template).read_text(), flags=re.M)
