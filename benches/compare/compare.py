#!/usr/bin/env -S python3 -B
"""What a request costs: processor time of headwater beside that of other proxies. README.md tells the method."""
import argparse
import json
import os
import sys
from pathlib import Path

from instrument import machine, network, peers, table
from instrument.bench import ROOT, Bench, Failed, need
from instrument.rounds import Contender, measure
from instrument.workloads import WORKLOADS

EVERYWHERE = ("headwater", "baseline", "nginx", "haproxy")
OTHERS = ("envoy", "pingora", "caddy", "relay")
NO_ROUTES = ("pingora", "caddy")


def main():
    options = arguments()
    os.environ["PATH"] += ":/usr/sbin"
    try:
        compare(options)
    except Failed as failure:
        sys.exit(str(failure))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="; ".join(f"{w.letter}: {w.what}" for w in WORKLOADS.values()))
    parser.add_argument("--headwater", default=str(ROOT / "target/release/headwater"), metavar="PROGRAM", help="default: %(default)s")
    parser.add_argument("--baseline", metavar="PROGRAM", help="another headwater, measured in turn with the first; then peers are asked for by name")
    parser.add_argument("--peers", metavar="NAMES", help="among headwater, headwater-logged (with an access log in JSON), nginx, nginx-tuned, haproxy, haproxy-tuned, envoy, pingora, caddy, relay (TCP alone); "
                        "`all`: those that are there. Default: headwater, nginx, haproxy; where bodies are big, their tuned forms too")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the requests of a turn: many short rounds, or few long ones")
    parser.add_argument("--patience", type=int, default=0, metavar="TIMES", help="how often a turn is taken again while others use the machine")
    parser.add_argument("--no-calls", action="store_true", help="don't count system calls")
    parser.add_argument("--targets", action="store_true", help="mark the rows that miss their targets (instrument/targets.py)")
    parser.add_argument("--json", metavar="FILE", help="keeps all figures")
    options = parser.parse_args()
    for letter in options.workloads:
        if letter not in WORKLOADS:
            parser.error(f"no such workload: {letter}")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("rounds and scale are above 0")
    return options


def compare(options):
    need("nginx", "h2load", "nghttp", "openssl", "ip", *([] if options.no_calls else ["strace"]))
    named = names(options)
    everybody = {peer.name: peer for peer in peers.chosen(named, options.headwater, options.baseline)}
    kept = {"machine": machine.description(), "rounds": options.rounds, "scale": options.scale,
            "versions": {name: peer.told_version() for name, peer in everybody.items()}, "rows": []}
    with Bench() as bench:
        kept["machine"]["congestion_control"] = network.congestion_control()
        print("{cpu}, {cpus} processors, Linux {kernel}, TCP by {congestion_control}".format(**kept["machine"]))
        for name, peer in everybody.items():
            print(f"{name}: {kept['versions'][name]}{left_out(peer, bench)}")
        print(f"\n{table.HEAD}", flush=True)
        rows = []
        for letter in options.workloads or WORKLOADS:
            workload = WORKLOADS[letter].prepared(options.scale)
            there = [Contender(name, peer, workload) for name, peer in everybody.items() if takes_part(peer, workload, options)]
            row = measure(bench, there, options.rounds, options.patience, not options.no_calls)
            print(table.show(row, options.targets), flush=True)
            rows.append(row)
            kept["rows"].append(row.as_json())
            if options.json:
                Path(options.json).write_text(json.dumps(kept, indent=1) + "\n")
        if any(name in everybody for name in ("nginx", "haproxy")):
            print(f"\n{table.summary(rows, options.targets)}")


def names(options):
    """Who is asked to take part."""
    both = ["headwater", *(["baseline"] if options.baseline else [])]
    if not options.peers:
        return both if options.baseline else [*both, "nginx", "nginx-tuned", "haproxy", "haproxy-tuned"]
    if options.peers == "all":
        known = peers.peers(options.headwater, options.baseline)
        absent = [name for name in OTHERS if not known[name].is_there]
        if absent:
            print(f"not there, so left out: {', '.join(absent)}")
        return [name for name in known if name not in (*absent, "headwater-logged")]
    return list(dict.fromkeys([*both, *options.peers.split(",")]))


def takes_part(peer, workload, options):
    if peer.name in NO_ROUTES and workload.site.routes > 1 or peer.is_relay and not workload.relayed:
        return False
    asked_for = peer.name in (options.peers or "").split(",")
    return peer.name in EVERYWHERE + OTHERS or workload.big or asked_for


def left_out(peer, bench):
    unknown = peer.left_out(bench) if isinstance(peer, peers.Headwater) else []
    return f" (doesn't know {', '.join(unknown)} yet)" if unknown else ""


if __name__ == "__main__":
    main()
