"""A tar whose every byte follows from its members' names and bytes, and whose offsets are known while writing.

ustar, because its header is always exactly one 512-byte block (pax adds blocks for long names or big sizes): member k's
bytes start 512 after its header. Time, owner, group and mode are fixed. Any tar program reads it.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from types import TracebackType

BLOCK = tarfile.BLOCKSIZE  # 512
_END = bytes(2 * BLOCK)  # two zero blocks end a tar


class TarWriter:
    """Writes a new tar at `path`, hashing as it goes. Names must be ASCII and at most 100 bytes; sizes below 8 GiB."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its bytes inside the tar. Raises ValueError for an impossible name."""
        member = tarfile.TarInfo(name)  # mtime 0, uid and gid 0, mode 0644, no owner names
        member.size = len(data)
        header = member.tobuf(tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")
        if len(header) != BLOCK:
            raise ValueError(f"tar member {name!r} needs more than one header block")
        self._write(header)
        offset = self._size
        self._write(data)
        self._write(bytes(-len(data) % BLOCK))
        return offset

    def close(self) -> tuple[str, int]:
        """End the tar; returns its SHA-256 and its size in bytes."""
        self._write(_END)
        self._file.close()
        return self._hash.hexdigest(), self._size

    def abandon(self) -> None:
        """Close the file without ending the tar."""
        self._file.close()

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)
