"""An authority of a lane's own, and what it issues: made anew for every run, and gone with the lane's directory."""
import subprocess

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """`NAME.crt` in this directory is what a client must believe."""

    def __init__(self, directory, name="ca"):
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.crt"
        openssl(directory, "req", "-x509", *EC, "-days", "2", "-subj", f"/CN=lane {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")

    def issue(self, name, *hosts):
        """`NAME.crt` and `NAME.key`, valid for these hosts and 127.0.0.1; `NAME.pem` is both in one."""
        names = ",".join(["IP:127.0.0.1", *(f"DNS:{host}" for host in hosts)])
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        openssl(self.directory, "req", *EC, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(self.directory, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key",
                "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        both = [(self.directory / f"{name}.{kind}").read_text() for kind in ("crt", "key")]
        (self.directory / f"{name}.pem").write_text("".join(both))
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
