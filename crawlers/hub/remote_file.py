"""A file that a hub announced: where, how long, and what its bytes hash to."""

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashlib import _Hash


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

    def new_digest(self) -> "_Hash":
        """Return a hash to be fed the file's bytes; `is_digest` then compares it."""
        if self.sha256 is not None:
            return hashlib.sha256()
        # Plain git files: git's own name of a blob is the SHA-1 of a header and the bytes.
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def is_digest(self, digest: "_Hash") -> bool:
        """True if the hub announced this hash, or none."""
        announced = self.sha256 or self.blob_id
        return announced is None or digest.hexdigest() == announced

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
