"""Both ends of a proxy in one event loop: an upstream that waits to be told, and clients that count what becomes of each request."""
import asyncio
import resource
import socket
from collections import Counter

HALF = 16 << 10
CLOSE = b"connection: close"
PATIENCE = 30


def many_descriptors(wanted=16384):
    """Both ends of a thousand connections are a few thousand descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def within(work):
    """As `asyncio.wait_for`, which before Python 3.12 may lose a cancellation."""
    async with asyncio.timeout(PATIENCE):
        return await work


class Wire:
    """One end of a connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    async def connect(cls, port, source="127.0.0.1", receive_buffer=None, **tls):
        """A connection; `tls` is what asyncio wants for it."""
        connection = socket.socket()
        try:
            connection.setblocking(False)
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.bind((source, 0))
            await within(asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port)))
            return cls(*await within(asyncio.open_connection(sock=connection, limit=receive_buffer or 1 << 16, **tls)))
        except BaseException:
            connection.close()
            raise

    async def head(self):
        """A head in lower case; none at the end of the connection."""
        try:
            return (await self.reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return b""

    async def take(self, length):
        return await self.reader.readexactly(length)

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def response(self):
        """Head and body of a response that says how long it is."""
        head = await self.head()
        if not head:
            raise ConnectionError("closed without an answer")
        return head, await self.body(head)

    async def body(self, head):
        if b"transfer-encoding: chunked" not in head:
            return await self.take(length_of(head))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.take(size + 2))[:-2]
        await self.reader.readline()
        return body

    def close(self):
        self.writer.close()


def length_of(head):
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def response(body, more=b""):
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n%scontent-length: %d\r\n\r\n%s" % (more, len(body), body)


class Origin:
    """An upstream. `/waiting/N`, `/downloading/N` and `/uploading/N` stop halfway until it is released; the answer is N."""

    def __init__(self):
        self.halfway = Counter()
        self.released = asyncio.Event()
        self.server = None
        self.tasks = set()

    async def listen(self, port):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=4096)

    def hold(self):
        self.halfway.clear()
        self.released.clear()

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        wire = Wire(reader, writer)
        try:
            while head := await wire.head():
                await self.answer(wire, head)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a proxy that was told to end may just do so
        finally:
            wire.close()

    async def answer(self, wire, head):
        path = head.split(b" ", 2)[1].decode()
        if b"\r\nupgrade: websocket" in head:
            await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                            b"sec-websocket-accept: " + accept_key(head) + b"\r\n\r\n")
            await echo_messages(wire)
            return
        _, kind, *number = path.split("/")
        number = b"".join(part.encode() for part in number)
        if kind == "waiting":
            await self.stop_halfway(kind)
            await wire.send(response(number))
        elif kind == "downloading":
            body = number.rjust(2 * HALF, b".")
            await wire.send(response(body)[:-HALF])
            await self.stop_halfway(kind)
            await wire.send(body[-HALF:])
        elif kind == "uploading":
            await wire.take(HALF)
            await self.stop_halfway(kind)
            rest = await wire.take(length_of(head) - HALF)
            await wire.send(response(number if rest.endswith(number) else b"something else came"))
        else:
            await wire.body(head)
            await wire.send(response(b"ok"))

    async def stop_halfway(self, kind):
        self.halfway[kind] += 1
        await self.released.wait()

    async def close(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()


# RFC 6455 §4.2.2, for the key that every client here sends.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def accept_key(head):
    return ACCEPT if KEY.lower() in head else b"of another key"


async def echo_messages(wire):
    """Sends every short message back, unmasked."""
    while True:
        kind, length = await wire.take(2)
        mask, data = await wire.take(4), await wire.take(length & 0x7f)
        plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        await wire.send(bytes([kind, len(plain)]) + plain)


class WebSocket:
    """A client's end."""

    def __init__(self, wire):
        self.wire = wire
        self.broken = None

    @classmethod
    async def open(cls, port, source="127.0.0.1"):
        wire = await Wire.connect(port, source)
        await wire.send(b"GET /websocket HTTP/1.1\r\nhost: lane.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                        b"sec-websocket-version: 13\r\nsec-websocket-key: " + KEY + b"\r\n\r\n")
        head = await within(wire.head())
        if b" 101 " not in head or ACCEPT.lower() not in head:
            raise ConnectionError(head.decode("latin-1"))
        return cls(wire)

    async def exchange(self, text):
        """Sends a message and waits for it to come back; remembers if it doesn't."""
        try:
            data, mask = text.encode(), b"\1\2\3\4"
            masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
            await self.wire.send(bytes([0x81, 0x80 | len(data)]) + mask + masked)
            came = await within(self.wire.take(2 + len(data)))
            if came[2:] != data:
                raise ConnectionError(f"{came!r} came back")
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.broken = self.broken or repr(error)
        return self.broken is None


class InFlight:
    """A request of which a part is yet to come, here or there."""

    def __init__(self, kind, number):
        self.kind, self.number = kind, str(number).encode()

    async def begin(self, port):
        """Until nothing more happens by itself."""
        # No client may have more than 256 connections to headwater.
        self.wire = await Wire.connect(port, f"127.0.{1 + int(self.number) // 128}.1")
        method, length = ("POST", 2 * HALF) if self.kind == "uploading" else ("GET", 0)
        head = f"{method} /{self.kind}/{self.number.decode()} HTTP/1.1\r\nhost: lane.test\r\n"
        if length:
            head += f"content-length: {length}\r\n"
        await self.wire.send(head.encode() + b"\r\n" + bytes(length // 2))
        if self.kind == "downloading":
            self.head = await self.wire.head()
            self.first = await self.wire.take(HALF)

    async def finish(self):
        """Whether the answer was whole and right."""
        try:
            return await within(self.rest())
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False
        finally:
            self.wire.close()

    async def rest(self):
        if self.kind == "downloading":
            body = self.first + await self.wire.take(HALF)
            return b" 200 " in self.head and body == self.number.rjust(2 * HALF, b".")
        if self.kind == "uploading":
            await self.wire.send(self.number.rjust(HALF, b"."))
        head, body = await self.wire.response()
        return head.startswith(b"http/1.1 200 ") and body == self.number


class Kept:
    """A connection that was asked over once, and is asked over again when its proxy has been told to end."""

    async def begin(self, port, number):
        self.wire = await Wire.connect(port, f"127.0.200.{1 + number % 250}")
        self.ask()
        head, body = await self.wire.response()
        if body != b"ok":
            raise ConnectionError(head.decode("latin-1"))

    def ask(self):
        self.wire.writer.write(b"GET / HTTP/1.1\r\nhost: lane.test\r\n\r\n")

    async def finish(self):
        try:
            head, body = await within(self.wire.response())
            return head.startswith(b"http/1.1 200 ") and body == b"ok"
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False
        finally:
            self.wire.close()


class Load:
    """Clients that ask one thing after another: some keep their connections as long as the proxy does, others don't.

    `async with Load(port) as load:`; at its end every request that has begun is finished.
    """

    def __init__(self, port, kept=24, anew=8):
        self.port = port
        self.answered = 0
        self.failures = Counter()
        self.stopped = False
        habits = [True] * kept + [False] * anew
        self.clients = [asyncio.create_task(self.client(keeps, number)) for number, keeps in enumerate(habits)]

    async def client(self, keeps, number):
        connections = 0
        while not self.stopped:
            # Of another source now and then, so that ports don't run out.
            connections += 1
            source = f"127.{1 + number}.{connections // 250 % 250}.{1 + connections % 250}"
            try:
                wire = await Wire.connect(self.port, source)
            except (OSError, TimeoutError) as error:
                self.failures[f"connect: {name_of(error)}"] += 1
                await asyncio.sleep(0.01)
                continue
            try:
                await self.talk(wire, keeps)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failures[name_of(error)] += 1
            finally:
                wire.close()

    async def talk(self, wire, keeps):
        while True:
            await wire.send(b"GET / HTTP/1.1\r\nhost: lane.test\r\n%s\r\n" % (b"" if keeps else CLOSE + b"\r\n"))
            head, body = await within(wire.response())
            if not head.startswith(b"http/1.1 200 ") or body != b"ok":
                raise ConnectionError(head.split(b"\r\n")[0].decode("latin-1"))
            self.answered += 1
            if self.stopped or not keeps or CLOSE in head:
                return

    async def goes_on(self, requests):
        """Until so many more have been answered."""
        wanted = self.answered + requests
        async with asyncio.timeout(PATIENCE):
            while self.answered < wanted:
                await asyncio.sleep(0.005)

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        self.stopped = True
        if error:
            for client in self.clients:
                client.cancel()
        await asyncio.gather(*self.clients, return_exceptions=bool(error))


def name_of(error):
    return str(error) if type(error) is ConnectionError else type(error).__name__
