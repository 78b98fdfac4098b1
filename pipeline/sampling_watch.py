"""Shows the sampling while it goes on: a live display on a terminal, plain lines elsewhere, status.json for others.

A thread looks every other second, so that what is shown stays true when no unit ends for an hour.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.byte_sizes import size
from pipeline.progress import PLAIN_INTERVAL, console, say
from pipeline.sampling_state import SamplingState
from pipeline.status_file import write_status

SNAPSHOT_SECONDS = 2.0


@contextmanager
def watched(state: SamplingState, path: Path, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Show `state` and keep the file `path` up to date while the block runs; the last snapshot is of its end."""
    driver = {"pid": os.getpid(), "host": socket.gethostname(), "started": round(clock(), 3)}

    def keep() -> dict[str, Any]:
        found = state.snapshot()
        write_status(path, {"driver": driver | {"updated": round(clock(), 3)}} | found)
        return found

    over = Event()

    def look() -> None:
        last_line = time.monotonic()
        while not over.wait(SNAPSHOT_SECONDS):
            found = keep()
            if not console.is_terminal and time.monotonic() - last_line >= PLAIN_INTERVAL:
                last_line = time.monotonic()
                say(f"sample: {summary_line(found)}")

    keep()
    thread = Thread(target=look, name="sampling-watch", daemon=True)
    thread.start()
    try:
        with _live(console, state):
            yield
    finally:
        over.set()
        thread.join()
        keep()


def summary_line(found: dict[str, Any]) -> str:
    """One line for people: images, rate, models, bytes, idle share and time left."""
    images, models, totals = found["images"], found["models"], found["totals"]
    parts = [
        images_line(images),
        f"{found['images_per_second']:.1f}/s",
        f"models: {models_line(models)}",
    ]
    if totals["fetched"] or totals["saved"]:
        parts.append(f"{size(totals['fetched'])} fetched, {size(totals['saved'])} saved")
    if found["idle_share"] is not None:
        parts.append(f"devices idle {found['idle_share']:.0%}")
    if totals["retries"]:
        parts.append(f"{totals['retries']} retries")
    parts.append(f"{duration(found['eta_seconds'])} left" if found["eta_seconds"] is not None else "no rate yet")
    return ", ".join(parts)


def images_line(images: dict[str, int]) -> str:
    """The images that are there, of those wanted, and apart from them those that will not come by themselves."""
    lost = f" ({images['lost']} lost)" if images["lost"] else ""
    return f"{images['ok']}/{images['wanted']} images{lost}"


def models_line(models: dict[str, int]) -> str:
    """The states that some model is in."""
    shown = [f"{count} {state}" for state, count in models.items() if count and state != "total"]
    return ", ".join(shown) or "none"


def duration(seconds: float) -> str:
    """Seconds for people: 45 s, 12 min, 7.5 h, 3.2 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


class _Display:
    """Renders the state anew each time that the terminal is refreshed."""

    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def __rich__(self) -> Group:
        return render(self._state.snapshot())


def render(found: dict[str, Any]) -> Group:
    """The live display: a bar, and what a person who walks by wants to know."""
    images, units, totals, last = found["images"], found["units"], found["totals"], found["last"]
    bar = Table.grid(padding=(0, 1))
    eta = f"{duration(found['eta_seconds'])} left" if found["eta_seconds"] is not None else "no rate yet"
    bar.add_row(
        "sample",
        ProgressBar(total=max(images["wanted"], 1), completed=images["ok"], width=30),
        images_line(images),
        f"{found['images_per_second']:.1f}/s",
        eta,
    )
    counts = [f"{images[name]} {name}" for name in ("ok", "flagged", "degenerate", "failed") if images[name]]
    idle = "" if found["idle_share"] is None else f"devices idle {found['idle_share']:.0%}, "
    lines = [
        f"models  {models_line(found['models'])}",
        f"images  {', '.join(counts) or 'none yet'}",
        f"units   {units['running']} running, {units['waiting']} waiting, {totals['retries']} retries",
        f"fetch   {idle}{size(totals['fetched'])} fetched, {size(totals['saved'])} saved",
    ]
    if last is not None:
        lines.append(f"last    {last['generator']}" + (f": {last['reason']}" if last["reason"] else ""))
    return Group(bar, *(Text(f"  {line}", overflow="ellipsis", no_wrap=True) for line in lines))


@contextmanager
def _live(terminal: Console, state: SamplingState) -> Iterator[None]:
    if not terminal.is_terminal:
        yield
        return
    with Live(_Display(state), console=terminal, refresh_per_second=4, transient=True):
        yield
