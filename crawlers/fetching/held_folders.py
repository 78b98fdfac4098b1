"""A generator's files on this machine, kept from eviction for as long as somebody works with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.file_locks import Pins
from crawlers.fetching.hub_cache import RepoCache, is_writable, repo_folder


@dataclass(frozen=True)
class HeldFolders:
    """Where a generator's files lie; they stay there until `release`, or until this process has ended.

    Also a context manager that releases on leaving.

    Attributes:
        folder: the generator's own repo at its commit, whole; a pipeline in a subfolder lies below it.
        base: the repo at its commit that an adapter, component or checkpoint is loaded into; None without one.
        bytes: size of the files, those of the base included.
    """

    folder: Path
    base: Path | None
    bytes: int
    _pins: Pins
    _caches: tuple[RepoCache, ...]

    def release(self) -> None:
        """Say that the files may go when room is needed; a second time does nothing."""
        for cache in self._caches:
            cache.touch()
        self._pins.out()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(root: Path, orders: Sequence[DownloadOrder]) -> HeldFolders | None:
    """Pin the repos of one or two orders and return their folders, or None if something of them is missing."""
    caches = tuple(RepoCache(root, order.repo_id) for order in orders)
    # Nothing is ever evicted from a cache that may not be written.
    pins = Pins(root, {repo_folder(order.repo_id) for order in orders} if is_writable(root) else ())
    done = [cache.finished(order.revision, order.key) for cache, order in zip(caches, orders, strict=True)]
    if None in done:
        pins.out()
        return None
    for cache in caches:
        cache.touch()
    snapshots = [cache.snapshot(order.revision) for cache, order in zip(caches, orders, strict=True)]
    size = sum(file.size for files in done for file in files or ())
    return HeldFolders(snapshots[0], snapshots[1] if len(snapshots) > 1 else None, size, pins, caches)
