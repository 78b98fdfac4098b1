"""A file that a hub announced: where, how long, and what its bytes hash to."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repo at a commit.

    Attributes:
        size: bytes.
        sha256: from the LFS record, or None for a plain git file.
        blob_id: git's hash of a plain git file.
    """

    path: str
    size: int
    sha256: str | None = None
    blob_id: str | None = None

    @property
    def digest_name(self) -> str:
        """Return a name for the file's content, safe in a path."""
        return self.sha256 or self.blob_id or hashlib.sha256(f"{self.path} {self.size}".encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
