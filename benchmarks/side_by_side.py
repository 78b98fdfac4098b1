"""Ratios measured side by side: what every benchmark prints, and how it is told from noise.

A machine's speed drifts while it is measured, so the two sides of a comparison run in turns, each pair gives one
ratio, and the median of the pairs is the figure; its interval comes from the order statistics of the pairs, which
assume nothing about how times are distributed.
"""

import json
import math
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

MEASUREMENTS = Path(__file__).parent / ".measurements"
"""One JSON file for each benchmark's last run on this machine; `make bench` writes RESULTS.md from them."""


@dataclass(frozen=True)
class Ratio:
    """The median of the pairs' ratios, and the interval that holds the true median with at least 95%."""

    value: float
    low: float
    high: float
    pairs: int


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes, seconds of wall time."""
    started = perf_counter()
    work()
    return perf_counter() - started


def compare(ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int = 9) -> Ratio:
    """Measure both sides `pairs` times in turns and return theirs / ours: above 1, ours is the faster.

    Both return the seconds that their part took, so that what shall not count is left out. Which side goes first
    alternates, so that neither profits from what the other warmed up.

    Raises:
        ValueError: fewer than 9 pairs say too little.
    """
    if pairs < 9:
        raise ValueError(f"{pairs} pairs: at least 9 are needed")
    ratios = []
    for pair in range(pairs):
        first, second = (ours, theirs) if pair % 2 == 0 else (theirs, ours)
        one, other = first(), second()
        mine, reference = (one, other) if pair % 2 == 0 else (other, one)
        ratios.append(reference / mine)
        print(f"  pair {pair + 1}/{pairs}: {reference:.3f} s / {mine:.3f} s = {ratios[-1]:.3f}", file=sys.stderr)
    return summarise(ratios)


def summarise(ratios: list[float]) -> Ratio:
    """Return the median and its distribution-free interval: order statistics by the binomial distribution."""
    ordered = sorted(ratios)
    count = len(ordered)
    outside = 0.0
    rank = 0
    while outside + math.comb(count, rank) / 2**count <= 0.025:
        outside += math.comb(count, rank) / 2**count
        rank += 1
    rank = max(rank - 1, 0)
    return Ratio(median(ordered), ordered[rank], ordered[-1 - rank], count)


def report(
    name: str, value: float, bar: float | None, *, at_least: bool = True, unit: str = "", **facts: object
) -> int:
    """Print the line `NAME: VALUE (bar BAR)`, keep the measurement for RESULTS.md, and return the exit status.

    Args:
        bar: what the value has to reach; None for a figure that is only told.
        at_least: whether the bar is a floor; else it is a ceiling.
        facts: what a reader needs to judge the figure, such as the interval or what was compared.
    """
    passed = bar is None or (value >= bar if at_least else value <= bar)
    told = "no bar" if bar is None else f"bar {'≥' if at_least else '≤'} {bar:g}{unit}"
    MEASUREMENTS.mkdir(exist_ok=True)
    kept = {"name": name, "value": value, "bar": bar, "at_least": at_least, "unit": unit, "passed": passed}
    kept |= {"command": f"python {' '.join(sys.argv)}", "machine": machine(), "facts": facts}
    (MEASUREMENTS / f"{name}.json").write_text(json.dumps(kept, indent=1, default=str), encoding="utf-8")
    print(f"{name}: {value:.4g}{unit} ({told})")
    return 0 if passed else 1


def machine() -> str:
    """Say in one line what this machine is."""
    import os

    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}; torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
