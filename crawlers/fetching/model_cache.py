"""The models of one worker: fetched when they are needed, held while they are in use, and fetched ahead.

Downloads go on in processes of their own (`downloader`), so this process can sample meanwhile. One process is
enough as long as what is needed next has been fetched ahead; a second is started when something else is needed at
once.
"""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from crawlers.fetching.download_order import DownloadOrder, checked_commit
from crawlers.fetching.downloader import Downloader
from crawlers.fetching.generator_orders import generator_orders
from crawlers.fetching.held_folders import HeldFolders, hold
from crawlers.fetching.hub_cache import is_writable, usable_cache
from crawlers.fetching.prefetching import Prefetcher
from crawlers.hub.hub_errors import check_endpoint
from manifests.errors import InputError, system_words
from manifests.generator import GeneratorSpec

_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

Orders = tuple[DownloadOrder, ...]


@dataclass(frozen=True)
class Traffic:
    """What fetching cost since it was last asked.

    Attributes:
        fetched: bytes that came from the hub, those fetched ahead included.
        saved: bytes that a download did not fetch because another model had brought them. A generator that was here
            whole counts nothing: nobody knows any more whether it brought its bytes itself.
        waited: seconds that the worker stood still for files.
    """

    fetched: int = 0
    saved: int = 0
    waited: float = 0.0


class ModelCache:
    """Fetches generators for one worker process. `fetch` may be called by one thread at a time."""

    def __init__(
        self,
        *,
        endpoint: str,
        cache_dir: Path | None,
        token: str | None,
        timeout_seconds: float,
        disk_budget: int | None = None,
        prefetch: int = 1,
    ) -> None:
        """Start nothing yet.

        Args:
            cache_dir: the hub client's cache folder; None for its own default. Processes that share it share its
                budget, and should be told the same.
            timeout_seconds: for all files of one generator, however slowly bytes come in.
            disk_budget: bytes that the cache may hold; None for no limit.
            prefetch: how many generators to fetch ahead.
        """
        self._endpoint, self._cache_dir, self._token = endpoint, cache_dir, token
        self._timeout, self._disk_budget = timeout_seconds, disk_budget
        self._lock = threading.Lock()
        self._idle: list[Downloader] = []
        self._traffic = Traffic()
        self._prefetcher = Prefetcher(self._bring_ahead, prefetch)

    def fetch(self, spec: GeneratorSpec, *, make_room: Callable[[], object] | None = None) -> HeldFolders:
        """Return the generator's files and those of what it is loaded into, after fetching what is missing.

        Args:
            make_room: called, at most once, if the disk budget does not hold the generator beside what is in use: the
                caller may then release what it holds, and this waits for other workers to do so.

        Raises:
            UnitFailure: gated_repo, repo_not_found, revision_not_found, missing_file, bad_config, checksum_mismatch,
                download_failed (after all retries), download_timeout, or disk_budget: the generator is larger than
                the budget, or what other workers use leaves no room for it in time.
            InputError: a revision is not a commit, the endpoint is not an address, the disk is full or the cache
                cannot be written, or other tools' files fill the disk budget.
        """
        return self.fetch_orders(generator_orders(spec), make_room=make_room)

    def fetch_repo(self, repo_id: str, revision: str) -> HeldFolders:
        """Return the files of a single model, such as a safety checker. Raises as `fetch`."""
        return self.fetch_orders((DownloadOrder(repo_id=repo_id, revision=checked_commit(repo_id, revision)),))

    def fetch_orders(self, orders: Orders, *, make_room: Callable[[], object] | None = None) -> HeldFolders:
        """Return the files of orders that are wanted together. Raises as `fetch`."""
        started = time.monotonic()
        try:
            held = self._prefetcher.take(orders)
            if held is None:
                held = self._bring(orders, patient=True, short=lambda: self._make_room(make_room))
            return held
        finally:
            self._prefetcher.resume()
            self._count(waited=time.monotonic() - started)

    def prefetch(self, specs: Sequence[GeneratorSpec]) -> None:
        """Replace the list of generators that will be fetched next, soonest first.

        Failures are silent: `fetch` meets them again. Nothing in use is evicted for them.
        """
        self._prefetcher.wish([generator_orders(spec) for spec in specs])

    def take_traffic(self) -> Traffic:
        """Return the traffic since the last call."""
        with self._lock:
            traffic, self._traffic = self._traffic, Traffic()
        return traffic

    def close(self) -> None:
        """End what goes on in the background. What was given out stays held."""
        self._prefetcher.close()
        with self._lock:
            idle, self._idle = self._idle, []
        for downloader in idle:
            downloader.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bring_ahead(self, orders: Orders, using: Callable[[Downloader], object]) -> HeldFolders:
        return self._bring(orders, patient=False, using=using)

    def _bring(
        self,
        orders: Orders,
        *,
        patient: bool,
        short: Callable[[], object] = lambda: None,
        using: Callable[[Downloader], object] = lambda downloader: None,
    ) -> HeldFolders:
        root = usable_cache(self._cache_dir)
        held = self._hold(root, orders)
        if held is not None:
            return held
        endpoint = check_endpoint(self._endpoint)
        if not is_writable(root):
            raise InputError(f"hub.cache: cannot use {root}: it may not be written")
        downloader = self._downloader(endpoint, root)
        using(downloader)
        deadline = time.monotonic() + self._timeout
        try:
            while held is None:  # None again: damaged from outside the moment that it was complete
                moved, held = downloader.carry_out(
                    orders,
                    deadline - time.monotonic(),
                    patient=patient,
                    short=short,
                    arrived=lambda: self._hold(root, orders),
                )
                self._count(fetched=moved.fetched, saved=moved.saved)
        finally:
            with self._lock:
                if downloader.usable:
                    self._idle.append(downloader)
        return held

    def _hold(self, root: Path, orders: Orders) -> HeldFolders | None:
        try:
            return hold(root, orders)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            raise InputError(f"hub.cache: cannot use {root}: {system_words(error)}") from error

    def _downloader(self, endpoint: str, root: Path) -> Downloader:
        with self._lock:
            while self._idle:
                downloader = self._idle.pop()
                if downloader.usable:
                    return downloader
                downloader.kill()
        return Downloader(endpoint, root, self._token, self._disk_budget)

    def _make_room(self, make_room: Callable[[], object] | None) -> None:
        self._prefetcher.give_way()
        if make_room is not None:
            make_room()

    def _count(self, *, fetched: int = 0, saved: int = 0, waited: float = 0.0) -> None:
        with self._lock:
            now = self._traffic
            self._traffic = replace(
                now, fetched=now.fetched + fetched, saved=now.saved + saved, waited=now.waited + waited
            )
