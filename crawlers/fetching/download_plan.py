"""From an order to files: what the hub lists, chosen by the rules of `crawlers.fetching.download_order`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawlers.fetching.download_order import (
    DownloadOrder,
    MissingFileError,
    config_files,
    further_files,
    index_path,
    weight_files,
)
from crawlers.fetching.hub_cache import RepoCache
from crawlers.hub.hub_client import HubClient
from crawlers.hub.remote_file import RemoteFile
from crawlers.recognition.model_index import BadModelIndexError
from shards.statuses import Reason

DISK_FULL = "disk_full"
"""The disk itself has no room: the user's to mend."""
NOTHING_FITS = "nothing_fits"
"""Other tools' files alone are more than the budget: the user's to mend."""


class DownloadFailedError(Exception):
    """The download ended; `reason` is one of `shards.statuses.Reason`, DISK_FULL or NOTHING_FITS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DownloadPlan:
    """An order and the files to be had for it.

    Attributes:
        listed: how many files the repo has in all.
    """

    order: DownloadOrder
    cache: RepoCache
    files: tuple[RemoteFile, ...]
    listed: int


def plan_download(order: DownloadOrder, client: HubClient, cache_dir: Path) -> DownloadPlan:
    """Ask the hub what the repo holds and choose.

    Raises:
        DownloadFailedError: missing_file or bad_config.
        HubError: as the hub answered.
    """
    cache = RepoCache(cache_dir, order.repo_id)
    tree = client.tree(order.repo_id, order.revision)
    described = next((file for file in tree if file.path == index_path(order)), None)
    index = _read_index(order, described, client, cache) if order.needs_index and described is not None else None
    try:
        weights = weight_files(order, tree, index)
    except MissingFileError as error:
        raise DownloadFailedError(Reason.missing_file, error.detail) from error
    except BadModelIndexError as error:
        raise DownloadFailedError(Reason.bad_config, str(error)) from error
    chosen = {file.path: file for file in (*config_files(order, tree), *further_files(order, tree), *weights)}
    files = tuple(sorted(chosen.values(), key=lambda file: file.path))
    return DownloadPlan(order, cache, files, len(tree))


def _read_index(order: DownloadOrder, file: RemoteFile, client: HubClient, cache: RepoCache) -> Any:
    try:
        if cache.is_intact(order.revision, file):
            return json.loads((cache.snapshot(order.revision) / file.path).read_text(encoding="utf-8"))
        return client.read_json(order.repo_id, order.revision, index_path(order))
    except ValueError as error:
        raise DownloadFailedError(Reason.bad_config, f"{index_path(order)} is not JSON: {error}") from error
