#!/usr/bin/env -S python3 -B
"""Fails when a part of the request takes more instructions or allocations than instructions.txt says: 5 % more, and none more.

Without a clock, so without noise: the same program makes the same counts. Another compiler or another glibc makes others,
and so may a processor that has other instructions for searching and copying bytes: instructions.txt says what it was taken with.
"""
import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benches/instructions.txt"
MARGIN = 0.05

# As the lanes' program is built, but ours in one unit: what is inlined doesn't hang on how a crate was cut.
PROFILE = ('lto="off"', "codegen-units=16", "debug=false", "package.headwater.codegen-units=1")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what is counted now")
    options = parser.parse_args()
    missing = [tool for tool in ("valgrind", "gungraun-runner") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not there: {', '.join(missing)} (.ci/run tools says how to get them)")
    counted = count()
    if options.write:
        KEPT.write_text(as_text(counted))
        print(KEPT.read_text(), end="")
        return
    passed, failed = compare(counted, *read(KEPT.read_text()))
    print(f"instructions: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def count():
    """Instructions, allocations and bytes allocated, by part."""
    profile = [argument for setting in PROFILE for argument in ("--config", f"profile.release.{setting}")]
    command = ["cargo", "bench", "--locked", "--quiet", "--bench", "instructions", "--target-dir", "target/lanes", *profile, "--", "--output-format=json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"cargo bench ended with {done.returncode}")
    counted = {}
    for line in done.stdout.splitlines():
        summary = json.loads(line)
        tools = {profile["tool"]: profile["data"]["total"]["metrics"] for profile in summary["profiles"]}
        figures = (tools["Callgrind"]["Ir"], tools["DHAT"]["TotalBlocks"], tools["DHAT"]["TotalBytes"])
        counted[summary["id"]] = tuple(figure["values"]["new"] for figure in figures)
    return counted


def toolchain():
    rustc = output("rustc", "--version")
    llvm = re.search(r"LLVM version: (\S+)", output("rustc", "--version", "--verbose"))[1]
    cpu = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return f"{rustc}, LLVM {llvm}; {output('valgrind', '--version')}; {' '.join(platform.libc_ver())}; {cpu[1] if cpu else platform.machine()}"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def as_text(counted):
    lines = ["# What each part of a request takes (benches/parts). Written by `benches/instructions.py --write`; .ci/run compares.",
             f"# {toolchain()}", f"{'part':20} {'instructions':>12} {'allocations':>12} {'bytes':>8}"]
    lines += [f"{part:20} {figures[0]:12} {figures[1]:12} {figures[2]:8}" for part, figures in counted.items()]
    return "\n".join(lines) + "\n"


def read(text):
    lines = text.splitlines()
    return {fields[0]: tuple(map(int, fields[1:])) for fields in map(str.split, lines[3:])}, lines[1].removeprefix("# ")


def compare(counted, kept, kept_with):
    here = toolchain()
    if here != kept_with:
        print(f"The counts were taken with {kept_with}.\nHere: {here}.")
    passed = failed = 0
    for part in [*kept, *(part for part in counted if part not in kept)]:
        verdict = judge(counted.get(part), kept.get(part))
        passed, failed = passed + (verdict is None), failed + (verdict is not None)
        now = counted.get(part, ("-",) * 3)
        was = f"{100 * now[0] / kept[part][0] - 100:+.1f} %" if part in kept and part in counted else "?"
        print(f"{'ok     ' if verdict is None else 'FAILED '} {part:20} {now[0]:>7} instructions ({was}), {now[1]} allocations{verdict or ''}")
    return passed, failed


def judge(now, was):
    if now is None or was is None:
        return ": not in both, so `benches/instructions.py --write`"
    if now[0] > was[0] * (1 + MARGIN):
        return f": {was[0]} are kept, {MARGIN:.0%} more are allowed"
    if now[1] > was[1]:
        return f": {was[1]} are kept"
    return None


main()
