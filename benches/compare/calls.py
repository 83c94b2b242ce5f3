#!/usr/bin/env -S python3 -B
"""Fails when headwater makes more socket calls for a request than instrument/targets.py allows."""
import argparse
import os
import sys

from instrument import calls, peers, same_work, targets
from instrument.bench import ROOT, Bench, Failed, need
from instrument.peers import Running
from instrument.workloads import WORKLOADS


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headwater", default=str(ROOT / "target/release/headwater"), metavar="PROGRAM", help="default: %(default)s")
    parser.add_argument("--all", action="store_true", help="show every system call")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    try:
        passed, failed = gate(options)
    except Failed as failure:
        sys.exit(str(failure))
    print(f"calls: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def gate(options):
    need("nginx", "h2load", "nghttp", "openssl", "ip", "strace")
    [headwater] = peers.chosen(["headwater"], options.headwater)
    passed = failed = 0
    with Bench() as bench:
        for letter, most in targets.CALLS.items():
            workload = WORKLOADS[letter]
            running = Running(bench, headwater, workload.site)
            same_work.check(running, workload.site)
            made = calls.per_request(running, workload)
            running.stop()
            good = round(calls.of_sockets(made), 2) <= most
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok     ' if good else 'FAILED '} {letter:3} {workload.what}: {calls.of_sockets(made):.2f} socket calls a request, at most {most}", flush=True)
            if options.all or not good:
                for name, number in sorted(made.items(), key=lambda item: -item[1]):
                    print(f"          {number:8.3f} {name}{'' if name in calls.SOCKET_CALLS else ' (no socket)'}")
    return passed, failed


if __name__ == "__main__":
    main()
