"""Where the workers' time went, by generator: waiting for files, loading, sampling. From events.jsonl."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.report.cost_facts import ModelTime, WorkingTime

_ENDS = ("done", "retry", "given_up")
"""Events that tell what a worker spent on a unit, whether or not it came to anything."""
_PARTS = ("waited", "loading", "sampling")


def read_working_time(events: Iterable[Mapping[str, Any]], images: Mapping[str, int], units: int) -> WorkingTime | None:
    """Sum up what the events tell of generators; None when they tell nothing.

    Args:
        images: generator → its ok images in the dataset. Units of nobody else count: real sources and the captioner
            are no generators.
        units: committed units of generated images. Those that the events do not tell of any more are not in the sums.
    """
    seconds: dict[str, Counter[str]] = defaultdict(Counter)
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        name, usage = event.get("group"), event.get("usage")
        if event.get("event") not in _ENDS or not isinstance(name, str) or not isinstance(usage, Mapping):
            continue
        if name not in images:
            continue
        seconds[name].update({part: float(usage.get(part, 0.0)) for part in _PARTS})
        ends[name][event["event"]] += 1
    models = [
        ModelTime(
            generator=name,
            images=images[name],
            units=ends[name]["done"],
            in_vain=ends[name]["retry"] + ends[name]["given_up"],
            waiting=spent["waited"],
            loading=spent["loading"],
            sampling=spent["sampling"],
        )
        for name, spent in seconds.items()
    ]
    if not models:
        return None
    slowest = sorted(models, key=lambda model: (-model.seconds, model.generator))
    told = sum(own["done"] + own["given_up"] for own in ends.values())
    return WorkingTime(tuple(slowest), told, committed=units)
