"""events.jsonl: what the run did and when, one JSON object a line. For people and dashboards; nothing reads it back
to decide anything, so losing its last line in a crash loses nothing, and neither does letting go of the oldest lines,
nor of what a full disk has no room for.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.disk_errors import is_full

ROTATE_BYTES = 64 * 2**20
"""A log of this size becomes events.1.jsonl, in place of an older one: about 300,000 lines are kept, at least."""

Listener = Callable[[str, Mapping[str, Any]], None]
_JSON = json.JSONEncoder(default=str)


class EventLog:
    """Appends to a run's events.jsonl; each line has `time` (Unix seconds) and `event`. The file is made at the first.

    The driver alone writes, under the run lock.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor: int | None = None
        self._bytes = 0
        self._cut = False  # the last line lacks its end
        self._listeners: list[Listener] = []

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, unless the disk is full, and tell those who listen."""
        line = _JSON.encode({"time": round(time.time(), 3), "event": event, **fields}).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            if not is_full(error):
                raise
        for listener in self._listeners:
            listener(event, fields)

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Call `listener(event, fields)` for every event while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, line: bytes) -> None:
        if self._descriptor is None or self._bytes >= ROTATE_BYTES:
            self._open()
        assert self._descriptor is not None
        if self._cut:
            line = b"\n" + line
        written = os.write(self._descriptor, line)  # on a disk that is nearly full: fewer than asked for
        self._bytes += written
        self._cut = written < len(line)

    def _open(self) -> None:
        self.close()
        if self._path.exists() and self._path.stat().st_size >= ROTATE_BYTES:
            self._path.replace(rotated(self._path))
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._bytes = os.fstat(self._descriptor).st_size


def rotated(path: Path) -> Path:
    """Where the lines before those of `path` are."""
    return path.with_suffix(f".1{path.suffix}")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events that are kept, oldest first; a line cut by a crash is left out."""
    events = []
    for part in (rotated(path), path):
        if not part.exists():
            continue
        for line in part.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return events
