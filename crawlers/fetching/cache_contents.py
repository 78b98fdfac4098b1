"""What lies in the cache folder: which bytes, under how many names, in whose repo.

The disk is the only truth: nothing is booked, so nothing can be wrong after a kill, or after somebody has removed a
model by hand. A repo that was read before is read again only when its folder of blobs or its time of use has changed,
so looking again costs two `stat` calls a repo.
"""

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crawlers.fetching.hub_cache import NOTES, OURS, USED
from crawlers.fetching.xet_cache import xet_folder

PARTIAL = ".incomplete"
LOCKS = ".locks"
"""Empty files, and the few bytes of `crawlers.fetching.reservations`, which the room for notes of each claim covers;
the Xet library's folder, which lies in it too, is counted by itself."""
_SETTLED_NS = 2_000_000_000
"""A folder that changed less than this ago may change again without another time of change."""
_OTHERS_SECONDS = 60.0


class Inode(NamedTuple):
    """Bytes on the disk, whatever they are called."""

    device: int
    number: int


@dataclass(frozen=True)
class Part:
    """A folder or file at the top of the cache, usually a repo.

    Attributes:
        inodes: size in bytes of every regular file in it.
        names: under how many names of this part each inode lies.
        blobs: file name to inode, for the folder `blobs` of a repo.
        ours: only we brought it here, so we may remove it.
        used: when a process of ours last used it, ns since the epoch; 0 if none did.
    """

    inodes: Mapping[Inode, int]
    names: Mapping[Inode, int]
    blobs: Mapping[str, Inode] = field(default_factory=dict)
    ours: bool = False
    used: int = 0

    @property
    def partials(self) -> list[str]:
        """Names of blobs that are being, or were once being, gathered."""
        return [name for name in self.blobs if name.endswith(PARTIAL)]


_Key = tuple[int, int]


class CacheContents:
    """The parts of a cache folder, as `refresh` last saw them."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._xet = xet_folder(cache_dir)
        self._known: dict[str, tuple[_Key | float, Part]] = {}

    @property
    def parts(self) -> dict[str, Part]:
        return {name: part for name, (_, part) in self._known.items()}

    def refresh(self) -> None:
        """Look again."""
        seen: dict[str, tuple[_Key | float, Part]] = {}
        for entry in _entries(self._cache_dir):
            if entry.name == LOCKS:
                continue
            known = self._known.get(entry.name)
            seen[entry.name] = self._look(entry.path, known)
        if self._xet.exists():
            name = str(self._xet.relative_to(self._cache_dir))
            seen[name] = self._look(str(self._xet), self._known.get(name))
        self._known = seen

    def _look(self, path: str, known: tuple[_Key | float, Part] | None) -> tuple[_Key | float, Part]:
        key = _key_of(path)
        if key is None:  # another tool's, in no layout that tells us when it changes
            now = time.monotonic()
            if known is not None and isinstance(known[0], float) and now - known[0] < _OTHERS_SECONDS:
                return known
            return now, read_part(path)
        settled = max(key) < time.time_ns() - _SETTLED_NS
        if settled and known is not None and known[0] == key and not known[1].partials:
            return known
        part = read_part(path)
        return (key if settled else 0.0), part

    def holders(self, blob: str) -> list[str]:
        """Return the repos that have a blob of this name."""
        return [name for name, (_, part) in self._known.items() if blob in part.blobs]


def _key_of(path: str) -> _Key | None:
    # Strings, here and below: this runs for every repo each time, and making a Path costs more than the stat.
    try:
        return os.stat(f"{path}/blobs").st_mtime_ns, os.stat(f"{path}/{NOTES}/{USED}").st_mtime_ns  # noqa: PTH116
    except OSError:
        return None


def read_part(path: str) -> Part:
    """Read one part of the cache; what vanishes meanwhile is not there."""
    inodes: dict[Inode, int] = {}
    names: Counter[Inode] = Counter()
    blobs: dict[str, Inode] = {}
    for parent, name, status in _files(path):
        inode = Inode(status.st_dev, status.st_ino)
        inodes[inode] = status.st_size
        names[inode] += 1
        if parent == f"{path}/blobs":
            blobs[name] = inode
    key = _key_of(path)
    return Part(inodes, names, blobs, ours=Path(path, NOTES, OURS).exists(), used=key[1] if key else 0)


def _files(path: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield (folder, name, status) of the regular files below `path`, or of `path`; links are not followed."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode):
        yield "", path, status
    folders = [path] if stat.S_ISDIR(status.st_mode) else []
    while folders:
        folder = folders.pop()
        for entry in _entries(folder):
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield folder, entry.name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def _entries(folder: str | Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def total_bytes(parts: Iterable[Part]) -> int:
    """Return the bytes of some parts, each inode counted once."""
    inodes: dict[Inode, int] = {}
    for part in parts:
        inodes |= part.inodes
    return sum(inodes.values())
