#!/usr/bin/env -S python3 -B
"""An upstream for bodies of any size, which keeps nothing of them.

usage: bodies.py ADDRESS PORT

In any directory, `/down/N` answers with N bytes, `/hold/MILLISECONDS` so much later, and anything with a body with the number of its bytes.
"""
import socketserver
import sys
import time

PIECE = bytes(1 << 18)


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        self.piece = bytearray(1 << 18)
        while (line := self.rfile.readline(65536)):
            fields = {}
            while (field := self.rfile.readline(65536)) not in (b"\r\n", b""):
                name, _, value = field.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            self.answer(line.split()[1].decode("latin-1"), self.body(fields))

    def body(self, fields):
        if "chunked" not in fields.get("transfer-encoding", ""):
            return self.discard(int(fields.get("content-length", 0)))
        length = 0
        while (size := int(self.rfile.readline().split(b";")[0], 16)):
            length += self.discard(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return length

    def discard(self, length):
        left = length
        while left:
            took = self.rfile.readinto1(memoryview(self.piece)[:min(left, len(self.piece))])
            if not took:
                raise ConnectionError("the body was cut")
            left -= took
        return length

    def answer(self, path, received):
        *_, kind, number = f"//{path}".split("/")
        if kind == "down":
            return self.send(int(number))
        if kind == "hold":
            time.sleep(int(number) / 1000)
        text = b"%d" % received
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))

    def send(self, length):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % length)
        while length:
            part = min(length, len(PIECE))
            self.wfile.write(PIECE[:part] if part < len(PIECE) else PIECE)
            length -= part


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        """A proxy may drop a connection whenever it likes."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
