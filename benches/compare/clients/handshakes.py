"""usage: handshakes.py full|resumed PORT COUNT AT_ONCE: a TLS connection for each request; prints each one's microseconds."""
import socket
import ssl
import sys
import threading
import time

REQUEST = b"GET /100 HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n"


def main():
    kind, port, count, at_once = sys.argv[1], *map(int, sys.argv[2:])
    context = ssl._create_unverified_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    took, failures = [], []

    def client(share):
        session = None
        try:
            if kind == "resumed":
                session = request(context, port, None)[0]
            for _ in range(share):
                begun = time.perf_counter_ns()
                found, resumed = request(context, port, session)
                took.append((time.perf_counter_ns() - begun) // 1000)
                if resumed != (kind == "resumed"):
                    raise AssertionError(f"a handshake that should be {kind} was not")
                session = found if kind == "resumed" else None
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=((count + number) // at_once,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or len(took) != count:
        sys.exit(f"{len(took)} of {count} succeeded; {failures[:3]}")
    print("\n".join(map(str, took)))


def request(context, port, session):
    """One request on a connection of its own; its session, which the server sends after the handshake, and whether `session` was resumed."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            tls.sendall(REQUEST)
            answer = b""
            while part := tls.recv(65536):
                answer += part
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(answer[:200])
            return tls.session, tls.session_reused


main()
