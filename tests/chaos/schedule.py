"""Which faults a campaign injects and in which order: the same for the same seed."""

import random
from collections.abc import Collection, Mapping

INLINE = {
    "driver_kill": 3,
    "driver_term": 2,
    "driver_stop": 2,
    "host_oom": 2,
    "nan": 1,
    "hub_429": 2,
    "hub_503": 2,
    "hub_outage": 1,
    "hub_cut": 2,
    "hub_corrupt": 1,
    "hub_slow": 1,
    "disk_full": 1,
    "clock_jump": 1,
}
"""Shares of the kinds of fault that one process, which is driver and worker at once, can survive or be killed by."""

RAY = {
    "worker_kill": 24,
    "worker_stop": 8,
    "supervisor_kill": 10,
    "driver_kill": 14,
    "driver_term": 8,
    "driver_stop": 10,
    "segfault": 14,
    "abort": 4,
    "oom_killed": 8,
    "host_oom": 10,
    "device_oom": 10,
    "hang": 6,
    "nan": 8,
    "hub_429": 10,
    "hub_503": 10,
    "hub_outage": 4,
    "hub_cut": 12,
    "hub_corrupt": 8,
    "hub_slow": 8,
    "disk_full": 6,
    "clock_jump": 8,
}
"""Shares of all kinds."""


def schedule(shares: Mapping[str, int], faults: int, without: Collection[str], moments: random.Random) -> list[str]:
    """Return `faults` kinds in random order, in proportion to `shares`; every kind that is not left out at least once
    when there is room for all."""
    kept = {kind: share for kind, share in shares.items() if kind not in without}
    total = sum(kept.values())
    exact = {kind: share * faults / total for kind, share in kept.items()}
    counts = {kind: max(1, int(wanted)) for kind, wanted in exact.items()}
    while sum(counts.values()) < faults:
        counts[max(exact, key=lambda kind: exact[kind] - counts[kind])] += 1
    while sum(counts.values()) > max(faults, len(counts)):
        counts[max(counts, key=lambda kind: (counts[kind] > 1, counts[kind] - exact[kind]))] -= 1
    order = [kind for kind, count in counts.items() for _ in range(count)]
    moments.shuffle(order)
    return order[:faults]
