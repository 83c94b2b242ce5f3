"""Socket calls per request, counted by strace in a run of its own."""
import re
import signal
import subprocess
import time

from . import machine
from .bench import Failed

SOCKET_CALLS = frozenset(
    "accept accept4 bind close connect dup epoll_ctl fcntl getpeername getsockname getsockopt ioctl listen read readv recvfrom recvmmsg recvmsg "
    "sendfile sendmmsg sendmsg sendto setsockopt shutdown socket splice tee write writev".split())


def per_request(running, workload):
    """What a request costs in calls on sockets, and in all others; by name."""
    counted = workload.socket_calls(running)
    if counted is None:
        return None
    requests, drive = counted
    calls = count(running, drive)
    return {name: number / requests for name, number in calls.items()}


def of_sockets(calls):
    return sum(number for name, number in calls.items() if name in SOCKET_CALLS)


def count(running, drive):
    """How often each system call was made while `drive` ran, by all threads and children."""
    pids = machine.family(running.pid)
    summary = running.bench.directory / "strace"
    traced = [argument for pid in pids for argument in ("-p", str(pid))]
    strace = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-o", str(summary), *traced], stderr=subprocess.PIPE, text=True)
    try:
        for _ in pids:
            line = strace.stderr.readline()
            if "attached" not in line:
                raise Failed(f"strace: {line}")
        drive()
        settle(running)
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=20)
    return {name: int(number) for name, number in re.findall(r"^(\w+)\s+(\d+)$", summary.read_text(), re.M) if name != "total"}


def settle(running):
    """What follows the last response, closing connections for one, is part of it."""
    at = machine.cpu_ns(running.pid)
    for _ in range(20):
        time.sleep(0.1)
        before, at = at, machine.cpu_ns(running.pid)
        if at - before < 1_000_000:
            return
