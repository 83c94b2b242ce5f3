#!/usr/bin/env -S python3 -B
"""A stand-in for traefik/whoami: answers with the request as it arrived, in the same lines.

usage: echo.py ADDRESS PORT NAME

It is no HTTP library's view of the request but the bytes of the head, so that a field with an odd name, a doubled one
or their order can be seen. `/trailers` answers in chunks with a trailer field behind them.
"""
import socket
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while head := self.read_head():
            fields = [line.split(":", 1) for line in head[1:]]
            length = self.read_body({name.lower(): value.strip() for name, value in fields})
            self.answer(head, length)

    def read_head(self):
        """The lines of a request head, or none at the end of the connection."""
        lines = []
        while line := self.rfile.readline(65536):
            if line == b"\r\n":
                break
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        return lines

    def read_body(self, fields):
        """Reads a body to its end; how many bytes it had."""
        if "chunked" not in fields.get("transfer-encoding", ""):
            return len(self.rfile.read(int(fields.get("content-length", 0))))
        length = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            length += len(self.rfile.read(size))
            self.rfile.readline()
        self.read_head()
        return length

    def answer(self, head, length):
        host, port = self.client_address[:2]
        lines = [f"Name: {sys.argv[3]}", f"Hostname: {socket.gethostname()}", f"RemoteAddr: {host}:{port}"]
        lines += [f"BodyBytes: {length}", *head, "", ""]
        body = "\n".join(lines).encode("latin-1")
        fields = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
        if head[0].split(" ")[1] == "/trailers":
            fields += b"transfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n"
            self.wfile.write(fields + b"%x\r\n%s\r\n0\r\nx-checksum: %d\r\n\r\n" % (len(body), body, sum(body)))
        else:
            self.wfile.write(fields + b"content-length: %d\r\n\r\n%s" % (len(body), body))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A proxy may drop a connection whenever it likes."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
