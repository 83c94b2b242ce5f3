"""What a process takes: memory, descriptors, CPU time; from /proc."""
import os
import time
from pathlib import Path


def status_kib(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def resident_kib(pid):
    return status_kib(pid, "VmRSS")


def peak_kib(pid):
    """The most that was resident since `forget_peak`."""
    return status_kib(pid, "VmHWM")


def forget_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """User and system time of all threads that are alive."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def settled(figure, wanted, seconds=30):
    """Waits until a figure is `wanted`; what it is in the end."""
    deadline = time.monotonic() + seconds
    while (value := figure()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def calm(figure, tolerance=0, seconds=1.0, limit=30):
    """Waits until a figure hasn't moved for so long; what it is then."""
    deadline = time.monotonic() + limit
    value, since = figure(), time.monotonic()
    while time.monotonic() - since < seconds and time.monotonic() < deadline:
        time.sleep(0.05)
        now = figure()
        if abs(now - value) > tolerance:
            value, since = now, time.monotonic()
    return figure()


def mib(kib):
    return f"{kib / 1024:.1f} MiB"


def table(heads, rows):
    """Lines of text, columns aligned."""
    rows = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("  " + "  ".join(cells).rstrip(), flush=True)
