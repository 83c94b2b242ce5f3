"""usage: idle.py plain|tls PORT COUNT: opens connections, makes a request on each, prints `open`, and holds them until it is ended."""
import resource
import signal
import socket
import ssl
import sys

REQUEST = b"GET /100 HTTP/1.1\r\nHost: app.example.com\r\n\r\n"


def main():
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < count + 100:
        sys.exit(f"{count} connections need as many descriptors: the limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["http/1.1"])
    held = []
    for number in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        if kind == "tls":
            connection = context.wrap_socket(connection, server_hostname="localhost")
        connection.sendall(REQUEST)
        answer = b""
        while not (b"\r\n\r\n" in answer and len(answer.partition(b"\r\n\r\n")[2]) >= 100):
            part = connection.recv(65536)
            if not part:
                sys.exit(f"connection {number} was closed: {answer[:200]!r}")
            answer += part
        held.append(connection)
    print("open", flush=True)
    signal.pause()


main()
