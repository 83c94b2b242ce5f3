"""The network of a comparison: a loopback of its own where that can be had, with the congestion control most machines have."""
import ctypes
import functools
import os
import socket
import subprocess

CLONE_NEWNET = 0x4000_0000
# Linux's default. Under BBR large writes leave by a timer, whose interrupts the kernel charges to whoever happens to run.
CONTROL = "cubic"
# What the kernel has made for a loopback that is up.
ROUTES = ("127.0.0.0/8", "127.0.0.1/32")


@functools.cache
def enter():
    """Root, where it may: this process and all it starts from now on have a loopback of their own. Others stay where they are."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        return
    ip("link", "set", "lo", "up")
    for route in ROUTES:
        ip("route", "change", "local", route, "dev", "lo", "table", "local", "proto", "kernel", "scope", "host", "src", "127.0.0.1",
           "congctl", CONTROL)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def congestion_control():
    """What rules a connection over the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as connection:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
