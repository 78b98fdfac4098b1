"""The process that downloads: one order in on stdin, one JSON line out on stdout.

A process of its own because a download must end at its deadline even while bytes trickle in, which the hub client's
timeouts, being for one read each, do not see; a process can be ended. It also ends by itself when its parent has.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from crawlers.download_order import (
    DownloadOrder,
    MissingFileError,
    config_files,
    further_files,
    index_path,
    weight_files,
)
from crawlers.hub_cache import RepoCache
from crawlers.hub_client import LIBRARY, HubClient
from crawlers.hub_errors import (
    DiskFullError,
    FileGoneError,
    HubError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
    classify,
    redact,
)
from crawlers.model_index import BadModelIndexError
from crawlers.remote_file import RemoteFile
from crawlers.retrying import RetryPolicy
from shards.statuses import Reason

DISK_FULL = "disk_full"
_DEAD_PARTIAL_SECONDS = 3600.0
_PARENT_CHECK_SECONDS = 0.5
_POLICY = RetryPolicy(attempts=5)
_SNAPSHOT_POLICY = RetryPolicy(attempts=5, connections=1)
"""The hub client has by then tried five times itself to get a connection."""


class DownloadFailedError(Exception):
    """The download ended; `reason` is one of `shards.statuses.Reason`, or DISK_FULL."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Download:
    """One order being carried out. Every step that was done before is skipped, so it can be stopped anywhere."""

    def __init__(self, order: DownloadOrder, endpoint: str, cache_dir: Path, token: str | None) -> None:
        self._order, self._token, self._endpoint, self._cache_dir = order, token, endpoint, cache_dir
        self._cache = RepoCache(cache_dir, order.repo_id)
        self._client = HubClient(endpoint, token, _POLICY)

    def run(self) -> None:
        """Fetch and verify.

        Raises:
            DownloadFailedError: with the reason.
            HubError: as the hub answered, after all retries.
        """
        order, cache = self._order, self._cache
        with cache.locked():
            receipt = cache.receipt(order.revision, order.key)
            if receipt is not None and all(cache.is_intact(order.revision, file) for file in receipt):
                return
            cache.sweep_partials(time.time() - _DEAD_PARTIAL_SECONDS)
            files = self._plan()
            with cache.locked({file.sha256 for file in files if file.sha256} or {order.revision}):
                self._fetch_intact(files)
            cache.write_receipt(order.revision, order.key, files)

    def _plan(self) -> list[RemoteFile]:
        order = self._order
        tree = self._client.tree(order.repo_id, order.revision)
        small = config_files(order, tree)
        index = None
        described = [file for file in tree if file.path == index_path(order)]
        if described and not order.files:
            self._fetch(described)
            index = _read_json(self._cache.snapshot(order.revision) / index_path(order))
        try:
            weights = weight_files(order, tree, index)
        except MissingFileError as error:
            raise DownloadFailedError(Reason.missing_file, error.detail) from error
        except BadModelIndexError as error:
            raise DownloadFailedError(Reason.bad_config, str(error)) from error
        chosen = {file.path: file for file in (*small, *further_files(order, tree), *weights)}
        return sorted(chosen.values(), key=lambda file: file.path)

    def _fetch_intact(self, files: list[RemoteFile]) -> None:
        """Fetch what is missing; what arrives broken is fetched once more."""
        revision = self._order.revision
        for last in (False, True):
            broken = [file for file in files if not self._cache.is_intact(revision, file)]
            if not broken:
                return
            for file in broken:
                self._cache.discard(revision, file)
            self._cache.adopt_blobs(broken)
            self._check_space(broken)
            self._fetch(files)
            if last:
                broken = [file for file in files if not self._cache.is_intact(revision, file)]
                self._refuse(broken)

    def _refuse(self, broken: list[RemoteFile]) -> None:
        """End the download if files are still not what was announced."""
        revision = self._order.revision
        came = [file.path for file in broken if (self._cache.snapshot(revision) / file.path).exists()]
        for file in broken:
            self._cache.discard(revision, file)
        if came:
            raise DownloadFailedError(
                Reason.checksum_mismatch, f"twice not the bytes that were announced: {', '.join(came)}"
            )
        if broken:
            raise DownloadFailedError(Reason.download_failed, f"did not arrive: {', '.join(f.path for f in broken)}")

    def _check_space(self, files: Iterable[RemoteFile]) -> None:
        needed = sum(f.size for f in files if not (self._cache.blobs / (f.sha256 or f.blob_id or "-")).exists())
        free = shutil.disk_usage(self._cache_dir).free
        if needed > free:
            raise DownloadFailedError(DISK_FULL, f"{needed} bytes are to be fetched and {free} are free")

    def _fetch(self, files: Iterable[RemoteFile]) -> None:
        from huggingface_hub import snapshot_download

        patterns = [escape(file.path) for file in files]
        _SNAPSHOT_POLICY.call(
            lambda: snapshot_download(
                self._order.repo_id,
                revision=self._order.revision,
                cache_dir=self._cache_dir,
                endpoint=self._endpoint,
                token=self._token or False,
                library_name=LIBRARY,
                allow_patterns=patterns,
                max_workers=4,
                etag_timeout=30,
            ),
            self._token,
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DownloadFailedError(Reason.bad_config, f"{path.name} is not JSON: {error}") from error


_REASONS: dict[type[HubError], str] = {
    RepoGatedError: Reason.gated_repo,
    RepoGoneError: Reason.repo_not_found,
    RevisionGoneError: Reason.revision_not_found,
    FileGoneError: Reason.missing_file,
    DiskFullError: DISK_FULL,
}


def carry_out(order: DownloadOrder, endpoint: str, cache_dir: Path, token: str | None) -> dict[str, str]:
    """Carry out an order. Returns {} when done, else {"reason", "detail"}; the detail holds no token."""
    try:
        Download(order, endpoint, cache_dir, token).run()
    except DownloadFailedError as error:
        return {"reason": str(error.reason), "detail": redact(error.detail, token)}
    except (HubError, OSError) as error:
        typed = classify(error, token)
        reason = _REASONS.get(type(typed), Reason.download_failed) if typed else Reason.download_failed
        detail = typed.detail if typed else redact(f"{type(error).__name__}: {error}", token)
        return {"reason": str(reason), "detail": detail}
    return {}


def _end_now() -> None:
    """Remove the partial files that this process has open, then end without waiting for any thread."""
    with suppress(FileNotFoundError):  # no /proc: a later download sweeps them when they are old
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                target = descriptor.readlink()
                if target.suffix == ".incomplete":
                    target.unlink()
    os._exit(143)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    _end_now()


def main() -> None:
    """Read the order, carry it out, say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too and decides
    signal.signal(signal.SIGTERM, lambda *_: _end_now())
    asked = json.load(sys.stdin)
    threading.Thread(target=_end_with_parent, args=(asked["parent"],), daemon=True).start()
    order = DownloadOrder.model_validate(asked["order"])
    # Nothing but the answer may reach stdout, whatever a library prints.
    answer, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(carry_out(order, asked["endpoint"], Path(asked["cache_dir"]), asked["token"])), file=answer)


if __name__ == "__main__":
    main()
