"""What the kernel counts: processor time of a process and its kin, memory, and what others used meanwhile."""
import os
import platform
import re
import resource
from dataclasses import dataclass
from pathlib import Path

PROXY_CPU, LOAD_CPU = {0}, {1}
TICKS = os.sysconf("SC_CLK_TCK")


# A process may have so many.
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def pin_here():
    """This process and, unless told otherwise, all it starts stay off the proxy's processor."""
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two processors are needed: one for the proxy, one for the load")
    os.sched_setaffinity(0, LOAD_CPU)
    if os.geteuid() == 0:
        # Ahead of whoever else shares the machine: proxies and load alike.
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def family(parent):
    """A process and its children."""
    pids = [parent]
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        pids += map(int, task.read_text().split())
    return pids


def cpu_ns(parent):
    """Time on a processor, in nanoseconds, of a process, its children and all their threads."""
    total = 0
    for pid in family(parent):
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                pass  # A thread that has just ended.
    return total


def user_and_system(parent):
    """The same in ticks, told apart."""
    user = system = 0
    for pid in family(parent):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user, system


def pss_kib(parent):
    """Memory: what is shared is counted in proportion."""
    total = 0
    for pid in family(parent):
        total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return total


@dataclass
class Foreign:
    """What the whole machine used, and was denied by its host, less what the comparison did."""

    processes: list

    def __post_init__(self):
        self.at_start = self.ns()

    def ns(self):
        user, nice, system, _, _, _, _, stolen = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
        everybody = (user + nice + system + stolen) * 1e9 / TICKS
        ours = sum(cpu_ns(process.pid) for process in self.processes if process.poll() is None)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            used = resource.getrusage(who)
            ours += (used.ru_utime + used.ru_stime) * 1e9
        return everybody - ours

    def cpus(self, seconds):
        """Processors that others kept busy since this was made."""
        return max(0.0, (self.ns() - self.at_start) / 1e9 / seconds)


def description():
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)", cpuinfo, re.M)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    }
