"""A run's status as a person reads it."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console

from pipeline.byte_sizes import size
from pipeline.cli.output import print_table
from pipeline.sampling_watch import duration, models_line

WATCH_SECONDS = 3.0
_COLUMNS = (
    "generator",
    "state",
    "wanted",
    "missing",
    "ok",
    "flagged",
    "degenerate",
    "failed",
    "lost",
    "reason",
    "health",
)


def print_status(found: dict[str, Any], every: bool) -> None:
    """Print the status on standard output; `every`: the generators are all there."""
    for line in status_lines(found):
        print(line)
    if found["generators"]:
        print_table(_COLUMNS, [[entry[column] for column in _COLUMNS] for entry in found["generators"]])
    left_out = found["models"]["total"] - len(found["generators"])
    if left_out and not every:
        print(f"  {left_out} generators without trouble: --all lists them")


def watch_status(ask: Callable[[], dict[str, Any]]) -> None:
    """Print the status again and again, on a cleared screen, until no driver is at work or Ctrl-C."""
    console = Console()
    with suppress(KeyboardInterrupt):
        while True:
            found = ask()
            console.clear()
            print_status(found, every=False)
            if not found["running"]:
                return
            time.sleep(WATCH_SECONDS)


def status_lines(found: dict[str, Any]) -> list[str]:
    """Everything but the generators, as lines."""
    driver = found["driver"]
    where = f"running (process {driver['pid']} on {driver['host']})" if driver else "not running"
    images, missing, again = found["images"], found["images_missing"], found["images_again"]
    lines = [f"{found['name']}: {where}"]
    for stage, what in found["stages"].items():
        lines.append(f"  {stage}: {', '.join(what) if isinstance(what, list) else what}")
    draws = ", ".join(f"{images[name]} {name}" for name in ("ok", "flagged", "degenerate", "failed"))
    lines.append(f"  models: {found['models']['total']}: {models_line(found['models'])}")
    lines.append(f"  images: {images['ok']} of {images['wanted']}, {images['lost']} lost, {missing} missing")
    lines[-1] += f", {again} tried again" if again else ""
    lines[-1] += _eta(found["eta_seconds"], missing + again)
    lines.append(f"  draws: {draws}; {size(found['bytes_stored'])} in {found['units_committed']} units")
    if found["images_per_second"] is not None:
        parts = [f"{found['images_per_second']:.1f} images/s"]
        if found["idle_share"] is not None:
            parts.append(f"devices idle {found['idle_share']:.0%}")
        parts.append(f"{size(found['bytes_fetched'])} fetched, {size(found['bytes_saved'])} saved")
        parts.append(f"{found['retried']} retries")
        if found["worker_deaths"]:
            deaths = (f"{count} by signal {signal}" for signal, count in found["worker_deaths"].items())
            parts.append(f"dead workers: {', '.join(deaths)}")
        lines.append(f"  at last: {', '.join(parts)}")
    for reason, numbers in found["failures"].items():
        units, generators = numbers["units"], numbers["generators"]
        lines.append(f"  failed: {reason}: {numbers['draws']} draws, {units} units of {generators} generators")
    return lines


def _eta(seconds: float | None, missing: int) -> str:
    if not missing:
        return ""
    return ", no rate known yet" if seconds is None else f", about {duration(seconds)} of work at the last rate"
