"""What is missing of some plans, and how it gets here: linked from a neighbour or from the hub, always verified."""

import errno
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from glob import escape
from pathlib import Path

from crawlers.fetching.blob_download import BlobDownloads, StoppedError, WrongBytesError
from crawlers.fetching.cache_contents import CacheContents
from crawlers.fetching.download_plan import DISK_FULL, DownloadFailedError, DownloadPlan
from crawlers.hub.hub_client import LIBRARY, HubClient
from crawlers.hub.remote_file import RemoteFile
from crawlers.hub.retrying import RetryPolicy
from shards.statuses import Reason

_SNAPSHOT_POLICY = RetryPolicy(attempts=5, connections=1)
"""The hub client has by then tried five times itself to get a connection."""
_THREADS = 8

Places = list[tuple[DownloadPlan, RemoteFile]]
"""Where the bytes of one blob are wanted."""


def find_missing(plans: Sequence[DownloadPlan], contents: CacheContents, adopted: set[str]) -> dict[str, Places]:
    """Link all files whose bytes lie somewhere in the cache, and return the others by the name of their blob.

    The names of blobs that other repos had are added to `adopted`.
    """
    missing: dict[str, Places] = {}
    for plan in plans:
        revision = plan.order.revision
        for file in plan.files:
            name = file.digest_name
            if name in missing:
                missing[name].append((plan, file))
            elif plan.cache.is_intact(revision, file):
                continue
            elif plan.cache.has_blob(file):
                plan.cache.link(revision, file)
            elif plan.cache.adopt(file, contents.holders(name)):
                plan.cache.link(revision, file)
                adopted.add(name)
            else:
                plan.cache.discard(revision, file)
                missing[name] = [(plan, file)]
    return missing


class FileTransfer:
    """Brings missing files from one hub; every one of them is intact when it returns."""

    def __init__(self, client: HubClient, cache_dir: Path, *, through_client: bool) -> None:
        self._client, self._cache_dir, self._through_client = client, cache_dir, through_client

    def bring(self, missing: Mapping[str, Places]) -> int:
        """Return how many bytes came over the network.

        Raises:
            DownloadFailedError: checksum_mismatch, or DISK_FULL when the disk cannot hold what is missing.
            HubError: as the hub answered, after all attempts.
        """
        self._check_disk(missing)
        fetched = 0
        if self._through_client:
            large = {name: places for name, places in missing.items() if places[0][1].sha256 is not None}
            missing = {name: places for name, places in missing.items() if name not in large}
            fetched = self._bring_through_client(large)
        downloads = BlobDownloads(self._client, self._client.policy)
        with ThreadPoolExecutor(_THREADS) as threads:
            # The largest first: what is left at the end is soon done.
            todo = sorted(missing.values(), key=lambda places: -places[0][1].size)
            futures = [threads.submit(_bring_blob, places, downloads) for places in todo]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in done if (error := future.exception()) is not None]
            if failed:
                downloads.stop()
                threads.shutdown(cancel_futures=True)
                raise next((error for error in failed if not isinstance(error, StoppedError)), failed[0])
        return fetched + downloads.fetched

    def _check_disk(self, missing: Mapping[str, Places]) -> None:
        needed = 0
        for (plan, file), *_ in missing.values():
            partial = plan.cache.partial(file)
            needed += file.size - (min(file.size, partial.stat().st_size) if partial.exists() else 0)
        free = shutil.disk_usage(self._cache_dir).free
        if needed > free:
            raise DownloadFailedError(DISK_FULL, f"{needed} bytes are to be fetched and {free} are free")

    def _bring_through_client(self, missing: Mapping[str, Places]) -> int:
        """Let the hub client fetch; what arrives broken is fetched once more."""
        fetched = 0
        for last in (False, True):
            for plan, files in _by_plan(missing).items():
                self._snapshot(plan, files)
                fetched += sum(file.size for file in files)
            missing = {
                name: broken
                for name, places in missing.items()
                if (broken := [(plan, f) for plan, f in places if not plan.cache.is_intact(plan.order.revision, f)])
            }
            for places in missing.values():
                for plan, file in places:
                    plan.cache.discard(plan.order.revision, file)
            if missing and last:
                raise _mismatch([places[0][1].path for places in missing.values()])
        return fetched

    def _snapshot(self, plan: DownloadPlan, files: Sequence[RemoteFile]) -> None:
        from huggingface_hub import snapshot_download

        _SNAPSHOT_POLICY.call(
            lambda: snapshot_download(
                plan.order.repo_id,
                revision=plan.order.revision,
                cache_dir=self._cache_dir,
                endpoint=self._client.endpoint,
                token=self._client.token or False,
                library_name=LIBRARY,
                allow_patterns=[escape(file.path) for file in files],
                max_workers=_THREADS,
                etag_timeout=30,
            ),
            self._client.token,
        )


def _by_plan(missing: Mapping[str, Places]) -> dict[DownloadPlan, list[RemoteFile]]:
    plans: dict[DownloadPlan, list[RemoteFile]] = {}
    for places in missing.values():
        for plan, file in places:
            plans.setdefault(plan, []).append(file)
    return plans


def _bring_blob(places: Places, downloads: BlobDownloads) -> None:
    """Fetch a blob into the first repo that wants it and link it into the others; once more if it arrives broken."""
    plan, file = places[0]
    partial = plan.cache.partial(file)
    for last in (False, True):
        try:
            downloads.fetch(plan.order.repo_id, plan.order.revision, file, partial)
        except WrongBytesError as error:
            if last:
                raise _mismatch([file.path]) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                partial.unlink(missing_ok=True)  # others need the room more than a later attempt needs these bytes
            raise
        else:
            break
    plan.cache.keep(file, partial)
    for other, its_file in places:
        if other.cache.folder != plan.cache.folder and not other.cache.has_blob(its_file):
            other.cache.adopt(its_file, [plan.cache.folder.name])
        other.cache.link(other.order.revision, its_file)


def _mismatch(paths: Sequence[str]) -> DownloadFailedError:
    return DownloadFailedError(
        Reason.checksum_mismatch, f"twice not the bytes that were announced: {', '.join(sorted(paths))}"
    )
