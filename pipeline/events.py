"""events.jsonl: what the run did and when, one JSON object a line. For people and dashboards; nothing reads it back
to decide anything, so losing its last line in a crash loses nothing."""

import json
import time
from pathlib import Path
from typing import Any


class EventLog:
    """Appends to a run's events.jsonl; each line has `time` (Unix seconds) and `event`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events so far; a last line cut by a crash is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events
