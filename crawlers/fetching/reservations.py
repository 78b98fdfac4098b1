"""Room that downloads have been promised: files whose lock ends with the process they were promised to.

A reservation names the blobs that are to come and their sizes. While it lives, these count in full and what already
lies there of them does not, so the sum is right at every moment of the download. When its process dies, however it
does, the promise is void and what lies there counts instead.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from crawlers.fetching.cache_contents import PARTIAL
from crawlers.fetching.file_locks import cache_locks, try_lock


@dataclass(frozen=True)
class Claim:
    """What a download will bring.

    Attributes:
        blobs: (folder of the repo, name of the blob) to bytes.
        notes: bytes of what is written beside them.
    """

    blobs: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: int = 0

    @property
    def bytes(self) -> int:
        return sum(self.blobs.values()) + self.notes

    @property
    def folders(self) -> set[str]:
        return {folder for folder, _ in self.blobs}

    def covers(self, folder: str, blob: str) -> bool:
        """True for the blob when it is there, and for what has been gathered of it."""
        digest = blob.split(".", 1)[0] if blob.endswith(PARTIAL) else blob
        return (folder, digest) in self.blobs


class Reservation:
    """A claim that was granted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def end(self) -> None:
        """Give the room back, or leave it to what was brought."""
        if not self._file.closed:
            Path(self._file.name).unlink(missing_ok=True)
            self._file.close()


class Reservations:
    """All reservations in a cache. Every method needs the budget's lock; a reservation ends without it."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_locks(cache_dir) / "reservations"

    def grant(self, claim: Claim) -> Reservation:
        """Write a claim down for as long as this process lives."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while (path := self._folder / f"{os.getpid()}-{number}.json").exists():
            number += 1
        file = try_lock(path)
        if file is None:
            raise RuntimeError(f"{path}: locked by somebody who does not hold the budget's lock")
        file.write(json.dumps([claim.notes, [[*key, size] for key, size in claim.blobs.items()]]).encode())
        file.flush()
        return Reservation(file)

    def living(self) -> list[Claim]:
        """Return the claims of living processes; those of the dead are removed."""
        claims = []
        for path in self._paths():
            file = try_lock(path)
            if file is not None:  # nobody holds it: its process is dead
                path.unlink(missing_ok=True)
                file.close()
                continue
            try:
                notes, blobs = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:  # it ended meanwhile
                continue
            claims.append(Claim({(folder, blob): size for folder, blob, size in blobs}, notes))
        return claims

    def _paths(self) -> Iterable[Path]:
        return sorted(self._folder.glob("*.json"))
