"""Hashes of files, kept between starts so that opening a folder of 100 GB twice reads it once.

An entry holds while path, size and ``mtime_ns`` are the same. A file touched within the last two seconds is hashed
but not remembered: it could change again without a visible change of its time stamp.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

from manifests.errors import InputError

log = logging.getLogger(__name__)

_VERSION = 1
_SETTLED_NS = 2_000_000_000
_CHUNK = 1 << 20


class HashCache:
    """sha256 of LFS files and git blob ids of the others, by path relative to the root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files_hashed = 0
        self._old: dict[str, list[int | str]] = self._load()
        self._new: dict[str, list[int | str]] = {}

    def digest(self, key: str, file: Path, stat: os.stat_result, lfs: bool) -> str:
        """Return the sha256 (``lfs``) or the git blob id of ``file``, read only if its entry does not hold.

        Raises:
            InputError: the file cannot be read.
        """
        kind = "sha256" if lfs else "git"
        stamp: list[int | str] = [stat.st_size, stat.st_mtime_ns, kind]
        entry = self._old.get(key)
        if entry is not None and entry[:3] == stamp:
            self._new[key] = entry
            return str(entry[3])
        digest = _hash(file, stat.st_size, lfs)
        self.files_hashed += 1
        if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
            self._new[key] = [*stamp, digest]
        return digest

    def save(self) -> None:
        """Write the entries of the files seen since opening. A folder that cannot be written only costs time."""
        if self._new == self._old:
            return
        try:
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"version": _VERSION, "files": self._new}, out)
            Path(name).replace(self.path)
        except OSError as error:
            log.warning("file hashes are not kept for the next start: %s", error)

    def _load(self) -> dict[str, list[int | str]]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("%s is ignored: %s", self.path, error)
            return {}
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            return {}
        files = data.get("files")
        return files if isinstance(files, dict) else {}


def _hash(file: Path, size: int, lfs: bool) -> str:
    digest = hashlib.sha256() if lfs else hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    read = 0
    try:
        with file.open("rb") as source:
            while chunk := source.read(_CHUNK):
                read += len(chunk)
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if read != size:
        raise InputError(f"{file}: changed while it was read ({size} bytes, then {read})")
    return digest.hexdigest()
