"""A download: orders that are wanted together, such as an adapter's and its base's, planned, granted room, carried out.

Every step that was done before is skipped, so it can be stopped anywhere and begun again.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from crawlers.fetching.cache_contents import PARTIAL, CacheContents
from crawlers.fetching.disk_budget import DiskBudget, NoRoomError, sweep_partials
from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.download_plan import NOTHING_FITS, DownloadFailedError, DownloadPlan, plan_download
from crawlers.fetching.file_locks import Pins
from crawlers.fetching.file_transfer import FileTransfer, Places, find_missing
from crawlers.fetching.hub_cache import RepoCache, locked_blobs, repo_folder
from crawlers.fetching.reservations import Claim
from crawlers.hub.hub_client import HubClient
from crawlers.hub.remote_file import RemoteFile
from crawlers.hub.retrying import RetryPolicy
from shards.statuses import Reason

_POLICY = RetryPolicy()
_FIRST_CHECK, _LAST_CHECK = 0.1, 2.0
"""Seconds between looks whether there is room now."""
_NOTES_PER_FILE, _NOTES_PER_ORDER, _NOTES_PER_LISTED = 768, 4096, 320
"""Bytes of what we and, for each file that a repo lists, the hub client note beside the blobs; rounded up."""


@dataclass(frozen=True)
class Moved:
    """Bytes that a download took from the hub, and bytes of its files that other models had brought: see `_saved`."""

    fetched: int = 0
    saved: int = 0


class Downloads:
    """Carries out downloads into one cache, one after another; keeps what it has learnt of the cache's contents."""

    def __init__(
        self,
        endpoint: str,
        cache_dir: Path,
        token: str | None,
        *,
        disk_budget: int | None = None,
        through_client: bool = False,
    ) -> None:
        """Args:
        disk_budget: bytes that the cache may hold; None for no limit.
        through_client: let the hub client fetch the large files, which over Xet is faster than plain HTTP, and
            verify them afterwards. It begins every file anew.
        """
        self._cache_dir = cache_dir
        self._client = HubClient(endpoint, token, _POLICY)
        self._contents = CacheContents(cache_dir)
        self._budget = DiskBudget(cache_dir, disk_budget, self._contents) if disk_budget is not None else None
        self._transfer = FileTransfer(self._client, cache_dir, through_client=through_client)
        self._through_client = through_client

    def run(
        self, orders: Sequence[DownloadOrder], *, patience: float = 0.0, short: Callable[[], object] = lambda: None
    ) -> tuple[Moved, Pins]:
        """Fetch and verify all files of all orders. Their repos are pinned; the caller takes the pins out.

        Whoever waits for room holds neither room nor pins, so no two who wait can wait for each other.

        Args:
            patience: seconds to wait for models in use to leave room in the disk budget.
            short: called once, when that wait begins.

        Raises:
            DownloadFailedError: with the reason.
            HubError: as the hub answered, after all retries.
        """
        until = time.monotonic() + patience
        pause = _FIRST_CHECK
        plans: dict[DownloadOrder, DownloadPlan] = {}
        adopted: set[str] = set()
        while True:
            try:
                return self._try(orders, plans, adopted)
            except CompleteNoMoreError:
                continue
            except NoRoomError as error:
                self._check_patience(error, until)
            if pause == _FIRST_CHECK:
                short()
            time.sleep(pause)
            pause = min(_LAST_CHECK, pause * 1.5)

    def _check_patience(self, error: NoRoomError, until: float) -> None:
        if self._budget is not None and error.others >= self._budget.limit:
            raise DownloadFailedError(NOTHING_FITS, error.detail) from error
        if not error.ever or time.monotonic() >= until:
            raise DownloadFailedError(Reason.disk_budget, error.detail) from error

    def _try(
        self, orders: Sequence[DownloadOrder], known: dict[DownloadOrder, DownloadPlan], adopted: set[str]
    ) -> tuple[Moved, Pins]:
        with ExitStack() as locks, ExitStack() as on_failure:
            todo = self._lock_repos(orders, locks)
            for order in todo:
                if order not in known:
                    known[order] = plan_download(order, self._client, self._cache_dir)
            plans = [known[order] for order in todo]
            locks.enter_context(locked_blobs(self._cache_dir, _large_missing(plans)))
            for plan in plans:
                plan.cache.begin()
                _sweep(plan, self._cache_dir)
            pins = Pins(self._cache_dir, (repo_folder(order.repo_id) for order in orders))
            on_failure.callback(pins.out)
            done = {order: self._finished(order) for order in orders if order not in todo}
            if None in done.values():
                raise CompleteNoMoreError
            of_others = {plan: plan.cache.brought_for_others(plan.order.revision, plan.order.key) for plan in plans}
            fetched = self._carry_out(plans, adopted)
            on_failure.pop_all()
            if not plans:
                return Moved(), pins
            bases = [file for order in orders[1:] for file in done.get(order) or ()]
            return Moved(fetched, _saved(bases, of_others, adopted)), pins

    def _lock_repos(self, orders: Sequence[DownloadOrder], locks: ExitStack) -> list[DownloadOrder]:
        """Lock the repos of which something is missing, and return their orders; in one order everywhere."""
        missing = [order for order in orders if self._finished(order) is None]
        for repo_id in sorted({order.repo_id for order in missing}):
            locks.enter_context(RepoCache(self._cache_dir, repo_id).locked())
        return [order for order in missing if self._finished(order, read=True) is None]

    def _finished(self, order: DownloadOrder, *, read: bool = False) -> tuple[RemoteFile, ...] | None:
        return RepoCache(self._cache_dir, order.repo_id).finished(order.revision, order.key, read=read)

    def _carry_out(self, plans: Sequence[DownloadPlan], adopted: set[str]) -> int:
        """Bring what is missing of the plans, and return how many bytes came from the hub."""
        self._contents.refresh()
        missing = find_missing(plans, self._contents, adopted)
        with ExitStack() as promised:
            if self._budget is not None and missing:
                claim = self._claim(plans, missing)
                folders = {plan.cache.folder.name for plan in plans}
                promised.callback(self._budget.reserve(claim, folders).end)
            fetched = self._transfer.bring(missing)
            for plan in plans:
                plan.cache.write_receipt(plan.order.revision, plan.order.key, plan.files)
                plan.cache.touch()
        return fetched

    def _claim(self, plans: Sequence[DownloadPlan], missing: Mapping[str, Places]) -> Claim:
        blobs = {(plan.cache.folder.name, name): file.size for name, ((plan, file), *_) in missing.items()}
        notes = sum(_NOTES_PER_ORDER + _NOTES_PER_FILE * len(plan.files) for plan in plans)
        if self._through_client:
            notes += sum(_NOTES_PER_LISTED * plan.listed for plan in plans)
        return Claim(blobs, notes)


class CompleteNoMoreError(Exception):
    """What was here when the download began was evicted before it could be pinned: look again."""


def _saved(bases: Iterable[RemoteFile], of_others: Mapping[DownloadPlan, set[str]], adopted: Collection[str]) -> int:
    """Return the bytes that a download need not fetch because another model had brought them.

    They lay in another repo, a finished download of something else of the same repo had brought them, or they are a
    base's that was whole already. What an earlier download of the same order left, finished or not, was its own.

    Args:
        bases: the files of orders beside the first that were finished already.
        of_others: each order that was carried out, and the blobs of its repo that others had brought.
        adopted: the blobs that were linked from other repos.
    """
    saved = {file.digest_name: file.size for file in bases}
    for plan, names in of_others.items():
        saved |= {f.digest_name: f.size for f in plan.files if f.digest_name in names or f.digest_name in adopted}
    return sum(saved.values())


def _large_missing(plans: Iterable[DownloadPlan]) -> set[str]:
    """Return the hashes of the large files that are to come: two downloads of one of them take turns."""
    return {
        file.sha256
        for plan in plans
        for file in plan.files
        if file.sha256 is not None and not plan.cache.is_intact(plan.order.revision, file, read=False)
    }


def _sweep(plan: DownloadPlan, cache_dir: Path) -> None:
    revision = plan.order.revision
    missing = [file for file in plan.files if not plan.cache.is_intact(revision, file, read=False)]
    keep = [plan.cache.partial(file).name for file in missing]
    sweep_partials(cache_dir, plan.cache.folder.name, plan.cache.blobs.glob(f"*{PARTIAL}"), keep)
