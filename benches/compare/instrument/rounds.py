"""Turns, taken in rounds with a rotating start, and what they come to."""
import statistics
import time
from dataclasses import asdict, dataclass, field

from . import calls, same_work
from .bench import Failed
from .machine import Foreign
from .peers import Running

# Above this the row says that others used the machine.
NOISE_CPUS = 0.15


@dataclass(frozen=True)
class Contender:
    """Somebody who takes turns: a peer, at a site, under a workload."""

    name: str
    peer: object
    workload: object


@dataclass
class Result:
    """What a contender's turns came to."""

    turns: list = field(default_factory=list)
    calls: dict = None

    def costs(self):
        return [turn.cost for turn in self.turns]

    def median(self, name):
        values = [value for turn in self.turns if (value := getattr(turn, name)) is not None]
        return statistics.median(values) if values else None

    def ratio_to(self, other):
        """Median, least and greatest of the ratios within each round, and in how many rounds this one was the cheaper."""
        ratios = [ours / theirs for ours, theirs in zip(self.costs(), other.costs())]
        return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "cheaper": sum(r < 1 for r in ratios)}


@dataclass
class Row:
    """All contenders' results."""

    workload: object
    results: dict
    rounds: int
    foreign_cpus: float

    @property
    def is_noisy(self):
        return self.foreign_cpus > NOISE_CPUS

    def best(self, names):
        """The one of these with the lowest median."""
        there = [name for name in names if name in self.results]
        return min(there, key=lambda name: self.results[name].median("cost"), default=None)

    def as_json(self):
        results = {}
        for name, result in self.results.items():
            results[name] = {
                **{key: result.median(key) for key in ("cost", "user", "system", "rate", "p50_us", "p99_us", "memory_kib")},
                "calls": result.calls, "turns": [asdict(turn) for turn in result.turns],
                "ratio": {other: result.ratio_to(theirs) for other, theirs in self.results.items() if other != name},
            }
        return {"workload": self.workload.letter, "what": self.workload.what, "unit": self.workload.unit, "rounds": self.rounds,
                "foreign_cpus": self.foreign_cpus, "results": results}


def measure(bench, contenders, rounds, patience=0, with_calls=True):
    """Starts the contenders, checks that the proxies among them do the same work, and lets them take turns."""
    running, beside = {}, []
    for contender in contenders:
        proxy = running[contender.name] = Running(bench, contender.peer, contender.workload.site)
        if not contender.peer.is_relay:
            same_work.check(proxy, contender.workload.site)
        beside.append(contender.workload.begin(proxy))
    row = take_turns(bench, contenders, running, rounds, patience, with_calls)
    for thing in filter(None, beside):
        thing.close()
    for proxy in running.values():
        proxy.stop()
    return row


def take_turns(bench, contenders, running, rounds, patience, with_calls):
    first = contenders[0].workload
    rounds = min(rounds, first.most_rounds)
    results = {contender.name: Result() for contender in contenders}
    noise = []
    for number in range(rounds):
        start = number % len(contenders)
        for contender in contenders[start:] + contenders[:start]:
            turn, foreign = quiet_turn(bench, contender.workload, running[contender.name], patience)
            results[contender.name].turns.append(turn)
            noise.append(foreign)
    if with_calls:
        for contender in contenders:
            results[contender.name].calls = calls.per_request(running[contender.name], contender.workload)
    for name, proxy in running.items():
        if proxy.process.poll() is not None:
            raise Failed(f"{name} ended with {proxy.process.returncode}")
    return Row(first, results, rounds, statistics.mean(noise))


def quiet_turn(bench, workload, proxy, patience):
    """A turn, taken again up to `patience` times while others use the machine; and what they used."""
    while True:
        foreign, begun = Foreign(bench.processes), time.monotonic()
        turn = workload.turn(proxy)
        used = foreign.cpus(time.monotonic() - begun)
        if used <= NOISE_CPUS or patience <= 0:
            return turn, used
        patience -= 1
