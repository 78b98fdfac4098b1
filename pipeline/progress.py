"""What a person sees while a stage runs: a bar with rate and ETA on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL = 10.0
"""Seconds between plain lines."""

console = Console(stderr=True, highlight=False)
"""People read standard error; standard output is kept for results that a program may read."""


def say(text: str) -> None:
    """Print one plain line for people."""
    console.print(text, markup=False, soft_wrap=True)


class StageProgress:
    """Counts finished items of one stage. Use as a context manager."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit + " {task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(stage, total=total, rate="", note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, done: int, total: int) -> None:
        """Set how many items are done, and how many there are."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)
        self.advance(done - self._done)

    def advance(self, items: int, note: str = "") -> None:
        """Count `items` more as done; `note` says what was just finished."""
        self._done += items
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-6)
        if self._bar is not None:
            self._bar.update(self._task, advance=items, rate=f"{rate:.1f}/s", note=note)
        elif now - self._last_line >= PLAIN_INTERVAL:
            self._last_line = now
            left = (self._total - self._done) / rate if rate else 0
            say(f"{self._stage}: {self._done}/{self._total} {self._unit}, {rate:.1f}/s, {left:.0f} s left")
