"""The rows as people read them."""
from . import targets
from .calls import of_sockets

TUNED = ("nginx-tuned", "haproxy-tuned")
HEAD = (f"{'':14} {'cost':>9} {'user':>8} {'system':>8}  {'to nginx':^18}  {'to HAProxy':^18}  {'to best tuned':^18}"
        f"  {'requests/s':>10} {'p50 us':>8} {'p99 us':>8} {'memory':>9} {'calls':>10}")


def ratios_to(row, name):
    """The ratios that are printed, by the name of what they are to."""
    others = {"nginx": "nginx", "haproxy": "haproxy", "tuned": row.best(TUNED), "baseline": "baseline"}
    return {to: row.results[name].ratio_to(row.results[other]) for to, other in others.items() if other in row.results and other != name}


def show(row, with_targets):
    """One block: a line for each contender."""
    lines = [f"{row.workload.letter:4} {row.workload.what} ({row.workload.unit}, {row.rounds} round{'s'[:row.rounds != 1]}){noise(row)}"]
    for name, result in row.results.items():
        lines.append(contender_line(row, name, result))
    for name in ("headwater", "baseline"):
        if name in row.results:
            lines += judgement(row, name, with_targets)
    return "\n".join(lines)


def noise(row):
    return f"  NOISY: others used {row.foreign_cpus:.2f} processors" if row.is_noisy else ""


def contender_line(row, name, result):
    ratios = ratios_to(row, name)
    cells = [number(result.median("cost"), 9), number(result.median("user"), 8), number(result.median("system"), 8), ""]
    cells += [f"{ratio_text(ratios.get(to)):^18} " for to in ("nginx", "haproxy", "tuned")]
    cells += [number(result.median("rate"), 10, 0), number(result.median("p50_us"), 8, 0), number(result.median("p99_us"), 8, 0),
              f"{result.median('memory_kib') / 1024:5.1f} MiB", calls_text(result.calls)]
    return f"  {name:12} " + " ".join(cells)


def judgement(row, name, with_targets):
    result, ratios = row.results[name], ratios_to(row, name)
    lines = []
    if "baseline" in ratios:
        lines.append(f"  {name} to baseline: {ratio_text(ratios['baseline'])}, cheaper in {ratios['baseline']['cheaper']} of {row.rounds} rounds")
    if with_targets and name == "headwater":
        lines += [f"  MISSES: {miss}" for miss in misses(row)]
    return lines


def misses(row):
    result = row.results["headwater"]
    calls = None if result.calls is None else of_sockets(result.calls)
    medians = {to: ratio["median"] for to, ratio in ratios_to(row, "headwater").items()}
    return targets.misses(row.workload.letter, medians, result.median("cost"), result.median("memory_kib"), calls)


def summary(rows, with_targets):
    """A line for each workload: headwater's ratios, each with its target behind it."""
    lines = [f"headwater {'':46} {'to nginx':^12} {'to HAProxy':^12} {'to best tuned':^13}"]
    for row in rows:
        ratios, wanted = ratios_to(row, "headwater"), targets.RATIOS.get(row.workload.letter, {})
        cells = []
        for to in ("nginx", "haproxy", "tuned"):
            target = f" <={wanted[to]:.2f}" if with_targets and to in wanted else ""
            cells.append(f"{ratios[to]['median']:.2f}{target}" if to in ratios else "")
        marks = ("MISSES " if with_targets and misses(row) else "") + ("NOISY" if row.is_noisy else "")
        lines.append(f"{row.workload.letter:4} {row.workload.what:51} {cells[0]:^12} {cells[1]:^12} {cells[2]:^13} {marks}".rstrip())
    return "\n".join(lines)


def ratio_text(ratio):
    return "" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def number(value, width, digits=2):
    return " " * width if value is None else f"{value:{width},.{digits}f}"


def calls_text(calls):
    """Calls on sockets, and all others."""
    if calls is None:
        return " " * 11
    sockets = of_sockets(calls)
    return f"{sockets:5.2f}+{sum(calls.values()) - sockets:.2f}"
