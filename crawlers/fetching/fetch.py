"""Bring a repo to this machine: pinned, verified, once.

Safetensors, configs and tokenizers only. Every file is checked against the hash that the hub announced, blobs that
another repo of the cache already holds are linked instead of fetched, and what is complete needs no hub at all.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from crawlers.fetching.download_order import DownloadOrder, checked_commit
from crawlers.fetching.held_folders import HeldFolders
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub.hub_client import DEFAULT_ENDPOINT, HubClient, unreachable
from crawlers.hub.hub_errors import (
    HubError,
    HubUnreachableError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
    redact,
)
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, WeightFile

_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_revision(
    repo_id: str, endpoint: str = DEFAULT_ENDPOINT, token: str | None = None, *, revision: str | None = None
) -> str:
    """Return the commit sha that a model repo's branch or tag (its main branch) is at.

    Raises:
        InputError: no such repo or revision, no access to it, or the hub does not answer.
    """
    try:
        sha = HubClient(endpoint, token).model_info(repo_id, revision, files=False).sha
    except RepoGoneError as error:
        raise InputError(f"{repo_id}: no such repo on {redact(endpoint)}") from error
    except RevisionGoneError as error:
        raise InputError(f"{repo_id}: no revision {revision!r} on {redact(endpoint)}") from error
    except RepoGatedError as error:
        raise InputError(f"{repo_id}: access must be granted first, and a token given") from error
    except HubUnreachableError as error:
        raise unreachable(endpoint, error) from error
    except HubError as error:
        raise InputError(f"{repo_id}: the hub does not say which commit it is at ({error.detail})") from error
    if sha is None or not _COMMIT.fullmatch(sha):
        raise InputError(f"{repo_id}: the hub names no commit")
    return sha


def fetch_generator(
    spec: GeneratorSpec,
    *,
    endpoint: str = DEFAULT_ENDPOINT,
    cache_dir: Path | None = None,
    token: str | None = None,
    timeout_seconds: float = 3600.0,
) -> HeldFolders:
    """Fetch a pinned generator and what it is loaded into, once; a worker keeps a `ModelCache` instead.

    Raises: as `fetch_repo`.
    """
    with _cache(endpoint, cache_dir, token, timeout_seconds) as cache:
        return cache.fetch(spec)


def fetch_repo(
    repo_id: str,
    revision: str,
    *,
    endpoint: str = DEFAULT_ENDPOINT,
    cache_dir: Path | None = None,
    token: str | None = None,
    timeout_seconds: float = 3600.0,
    files: Sequence[WeightFile] = (),
    subfolder: str | None = None,
    variant: str | None = None,
    also: Sequence[str] = (),
) -> Path:
    """Return the local folder of a repo at a commit, after fetching and verifying what is missing of it.

    Args:
        revision: 40-digit commit sha.
        cache_dir: the hub client's cache folder; None for its own default.
        timeout_seconds: for the whole download, however slowly bytes come in.
        files: the weights to take; without them, one set for each component of the pipeline, or of the single model.
        also: patterns of further files; never pickles, and code only by a pattern that ends in `.py`.

    Raises:
        UnitFailure: gated_repo, repo_not_found, revision_not_found, missing_file, bad_config, checksum_mismatch,
            download_failed (after all retries) or download_timeout.
        InputError: `revision` is not a commit, the endpoint is not an address, the disk is full, or the cache cannot
            be written.
    """
    order = DownloadOrder(
        repo_id=repo_id,
        revision=checked_commit(repo_id, revision),
        files=tuple(files),
        subfolder=subfolder,
        variant=variant,
        also=tuple(also),
    )
    with _cache(endpoint, cache_dir, token, timeout_seconds) as cache, cache.fetch_orders((order,)) as held:
        return held.folder


def _cache(endpoint: str, cache_dir: Path | None, token: str | None, timeout_seconds: float) -> ModelCache:
    return ModelCache(endpoint=endpoint, cache_dir=cache_dir, token=token, timeout_seconds=timeout_seconds, prefetch=0)
