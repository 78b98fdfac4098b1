"""What was done to a campaign, and when: one JSON line for each fault, and a table of them by kind."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Entry:
    """One fault.

    Attributes:
        at: when it was injected, in seconds since the campaign began.
        commits: how many units were committed by then.
        detail: what exactly was done, and to whom.
        struck: whether it has met its victim. A signal does at once; a hub's fault waits for a request, and one inside
            a pipeline for a call.
    """

    number: int
    kind: str
    at: float
    commits: int
    detail: str
    struck: bool


class Ledger:
    """The faults of one campaign, written to a file after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self.entries: list[Entry] = []

    @property
    def seconds(self) -> float:
        """How long the campaign has lasted."""
        return time.monotonic() - self._began

    def add(self, number: int, kind: str, commits: int, detail: str, struck: bool) -> Entry:
        """Write down a fault."""
        entry = Entry(number, kind, round(self.seconds, 2), commits, detail, struck)
        self.entries.append(entry)
        self._save()
        return entry

    def strike(self, entry: Entry) -> None:
        """Note that a fault has met its victim."""
        entry.struck = True
        self._save()

    def pending(self) -> list[Entry]:
        """Faults that were injected and have met nobody yet."""
        return [entry for entry in self.entries if not entry.struck]

    def table(self) -> str:
        """Faults by kind, injected and struck."""
        injected = Counter(entry.kind for entry in self.entries)
        struck = Counter(entry.kind for entry in self.entries if entry.struck)
        lines = [f"{kind:18}{injected[kind]:9}{struck[kind]:8}" for kind in sorted(injected)]
        total = f"{'all':18}{injected.total():9}{struck.total():8}"
        return "\n".join((f"{'fault':18}{'injected':>9}{'struck':>8}", *lines, total))

    def _save(self) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries))
        draft.rename(self._path)
