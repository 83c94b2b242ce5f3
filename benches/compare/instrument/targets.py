"""What headwater is to reach: the one place of these figures."""

# Ratio of processor time per request to a peer's in the same round, at most.
RATIOS = {
    "a": {"nginx": 0.90, "haproxy": 0.90},
    "b16": {"nginx": 0.75, "haproxy": 0.75, "tuned": 0.90},
    "b1m": {"nginx": 0.35, "haproxy": 0.50, "tuned": 0.90},
    "c": {"nginx": 0.45, "haproxy": 0.70, "tuned": 0.90},
    "d": {"nginx": 0.70, "haproxy": 0.70},
    "d1m": {"tuned": 0.90},
    "e": {"nginx": 0.62, "haproxy": 0.85},
    "e16": {"nginx": 0.58, "haproxy": 0.80},
    "f": {"nginx": 0.55, "haproxy": 0.52},
    "g": {"nginx": 1.00, "haproxy": 0.95},
    "k": {"nginx": 0.90, "haproxy": 0.80},
}

# Bytes of an idle connection; milliseconds to the first response.
COSTS = {"h": 2_000, "hs": 15_000, "i": 8}

# Memory of the idle process.
MEMORY_KIB = {"i": 12 << 10}

# Socket calls per request.
CALLS = {"a": 4.1, "c": 4.2, "d": 4.2, "e": 2.5, "g": 8.2}

# 10,000 routes and 100,000 trusted ranges at once, to one route and private ranges.
GROWTH = {"routes and ranges": 1.03}


def misses(letter, ratios, cost, memory_kib, socket_calls):
    """What of this row is above its target, in words. A figure is as good as it is printed."""
    found = []
    for to, most in RATIOS.get(letter, {}).items():
        if to in ratios and round(ratios[to], 2) > most:
            found.append(f"{ratios[to]:.2f} of {to}'s, target {most:.2f}")
    if letter in COSTS and cost > COSTS[letter]:
        found.append(f"{cost:,.0f}, target {COSTS[letter]:,}")
    if letter in MEMORY_KIB and memory_kib > MEMORY_KIB[letter]:
        found.append(f"{memory_kib / 1024:.1f} MiB, target {MEMORY_KIB[letter] >> 10} MiB")
    if letter in CALLS and socket_calls is not None and round(socket_calls, 2) > CALLS[letter]:
        found.append(f"{socket_calls:.2f} socket calls, target {CALLS[letter]}")
    return found
