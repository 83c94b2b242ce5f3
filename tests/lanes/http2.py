"""A client of HTTP/2 that does what it is told: frames by hand, on a blocking socket."""
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# `:status: 200` in HPACK's static table.
OK = 0x88


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def block(*fields):
    """Fields as literals that no table keeps."""
    out = b""
    for name, value in fields:
        out += b"\0"
        for text in (name.encode(), value.encode()):
            assert len(text) < 127
            out += bytes([len(text)]) + text
    return out


class Http2:
    """One connection; `window` is what each stream may send before it is granted more, the connection 1 GiB."""

    def __init__(self, connection, window=65535):
        self.socket = connection
        self.buffer = bytearray()
        settings = struct.pack("!HI", INITIAL_WINDOW_SIZE, window)
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(WINDOW_UPDATE, payload=struct.pack("!I", 1 << 30)))

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, stream, path, host, scheme="http", method="GET", ended=True):
        fields = [(":method", method), (":scheme", scheme), (":path", path), (":authority", host)]
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream, block(*fields)))

    def grant(self, stream, length):
        self.send(frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", length)))

    def next(self):
        """The next frame: kind, flags, stream, payload."""
        head = self.take(9)
        kind, flags, stream = struct.unpack("!BBI", head[3:])
        return kind, flags, stream, self.take(int.from_bytes(head[:3], "big"))

    def take(self, length):
        while len(self.buffer) < length:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("the connection ended")
            self.buffer += part
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        return data

    def frames(self, stream):
        """The frames of one stream up to its end: kind, payload. Settings and pings are acknowledged on the way."""
        while True:
            kind, flags, number, payload = self.next()
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(frame(kind, ACK, payload=payload if kind == PING else b""))
            elif kind == GOAWAY:
                raise ConnectionError(f"GOAWAY {payload[4:8].hex()}")
            elif number == stream:
                if kind == RST_STREAM:
                    raise ConnectionError(f"RST_STREAM {payload.hex()}")
                yield kind, payload
                if flags & END_STREAM:
                    return

    def response(self, stream):
        """Status 200 or not, and the bytes of the body, counted."""
        good, length = False, 0
        for kind, payload in self.frames(stream):
            if kind == HEADERS and not length:
                good = payload[0] == OK
            elif kind == DATA:
                length += len(payload)
                if payload:
                    self.grant(stream, len(payload))
                    self.grant(0, len(payload))
        return good, length
