#!/usr/bin/env -S python3 -B
"""How the cost of a request grows with what headwater has to know or hold; each as a ratio to the first of its group."""
import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from instrument import machine, peers, table, targets
from instrument.bench import ROOT, Bench, Failed, need
from instrument.calls import of_sockets
from instrument.peers import Site
from instrument.rounds import Contender, measure
from instrument.workloads import IDLE_CONNECTIONS, WORKLOADS, Handshakes

# A client behind two trusted hops, so that the walk asks for three addresses besides the peer.
CHAIN = ("-H", "X-Forwarded-For: 203.0.113.9, 11.0.0.4, 11.0.0.2")
A, C, F = (WORKLOADS[letter] for letter in "acf")
CHAINED = replace(A, arguments=(*A.arguments, *CHAIN))


def routed(count, workload=A):
    """The last of so many routes."""
    path = f"r{count - 1}/100" if count > 1 else "100"
    return replace(workload, path=path, site=replace(workload.site, routes=count))


def trusting(count, workload=CHAINED):
    return replace(workload, site=replace(workload.site, trusted_ranges=count))


def groups(most_ranges=100_000):
    """Each with its contenders by name. Most ranges: as many as fit beside so many routes."""
    both = trusting(most_ranges, routed(10_000, CHAINED))
    many_idle = replace(A, idle_beside=IDLE_CONNECTIONS, site=Site(connections=IDLE_CONNECTIONS + 200))
    return {
        "routes": {"1 route": A, **{f"{count:,} routes": routed(count) for count in (100, 10_000)}},
        "ranges": {f"{count:,} trusted ranges": trusting(count) for count in (10, 1_000, 100_000)},
        "routes and ranges": {"1 route, 10 ranges": trusting(10), f"10,000 routes, {most_ranges:,} ranges": both},
        "endpoints": {f"{count:,} endpoints": replace(A, site=Site(endpoints=count)) for count in (3, 1_000)},
        "idle": {"no idle connections beside": A, f"{IDLE_CONNECTIONS:,} idle connections beside": many_idle},
        "workers": {"1 worker": A, "2 workers": replace(A, site=Site(workers=2))},
        "uploads": {"POST 64 KiB": C, "POST 64 KiB over TLS": replace(C, tls=True)},
        "resumption": {"a full handshake": F, "a resumed session": replace(F, resumed=True)},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(groups()))
    parser.add_argument("--headwater", default=str(ROOT / "target/release/headwater"), metavar="PROGRAM", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the requests of a turn")
    parser.add_argument("--patience", type=int, default=0, metavar="TIMES", help="how often a turn is taken again while others use the machine")
    parser.add_argument("--targets", action="store_true", help="mark what misses its target (instrument/targets.py)")
    parser.add_argument("--json", metavar="FILE", help="keeps all figures")
    options = parser.parse_args()
    for name in options.groups:
        if name not in groups():
            parser.error(f"no such group: {name}")
    os.environ["PATH"] += ":/usr/sbin"
    try:
        grow(options)
    except Failed as failure:
        sys.exit(str(failure))


def grow(options):
    need("nginx", "h2load", "nghttp", "openssl", "ip", "strace")
    [headwater] = peers.chosen(["headwater"], options.headwater)
    kept = {"machine": machine.description(), "version": headwater.told_version(), "rows": []}
    print(f"{'':34} {'us/request':>10}  {'to the first':^18} {'memory':>10} {'calls':>10}")
    with Bench() as bench:
        all_groups = groups() if headwater.reads_ranges_from_files(bench) else groups(most_ranges=50_000)
    for group in options.groups or all_groups:
        contenders = [Contender(name, headwater, workload.prepared(options.scale)) for name, workload in all_groups[group].items()]
        with Bench(endpoints=max(contender.workload.site.endpoints for contender in contenders)) as bench:
            row = measure(bench, contenders, options.rounds, options.patience)
        print(show(group, row, options.targets), flush=True)
        kept["rows"].append({**row.as_json(), "workload": group, "what": group})
        if options.json:
            Path(options.json).write_text(json.dumps(kept, indent=1) + "\n")


def show(group, row, with_targets):
    lines = [f"{group} ({row.rounds} round{'s'[:row.rounds != 1]}){table.noise(row)}"]
    first = next(iter(row.results.values()))
    for name, result in row.results.items():
        ratio = None if result is first else result.ratio_to(first)
        calls = f"{of_sockets(result.calls):10.2f}"
        lines.append(f"  {name:32} {result.median('cost'):10.2f}  {table.ratio_text(ratio):^18} {result.median('memory_kib') / 1024:6.1f} MiB {calls}")
        most = targets.GROWTH.get(group)
        if with_targets and ratio and most and ratio["median"] > most:
            lines.append(f"  MISSES: {ratio['median']:.3f}, target {most}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
