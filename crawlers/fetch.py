"""Bring a repo to this machine: pinned, verified, once.

Safetensors, configs and tokenizers only. Every file is checked against the hash that the hub announced, blobs that
another repo of the cache already holds are linked instead of fetched, and what is complete needs no hub at all.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from crawlers.download_order import DownloadOrder
from crawlers.download_process import DISK_FULL
from crawlers.hub_cache import RepoCache, default_cache_dir
from crawlers.hub_client import DEFAULT_ENDPOINT, HubClient, unreachable
from crawlers.hub_errors import (
    HubError,
    HubUnreachableError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
    check_endpoint,
    redact,
)
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, WeightFile
from shards.statuses import Reason, UnitFailure

_COMMIT = re.compile(r"[0-9a-f]{40}")
_GRACE_SECONDS = 3.0


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
) -> Path:
    """Fetch a pinned generator: `fetch_repo` with the weights, subfolder and variant that the catalog chose.

    Returns the folder of the whole repo; a pipeline in a subfolder lies below it.
    """
    return fetch_repo(
        spec.repo_id,
        spec.revision or "",
        endpoint=endpoint,
        cache_dir=cache_dir,
        token=token,
        timeout_seconds=timeout_seconds,
        files=spec.files,
        subfolder=spec.subfolder,
        variant=spec.variant,
    )


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
    if not _COMMIT.fullmatch(revision):
        raise InputError(f"{repo_id}: revision = {revision!r}: must be a commit of 40 hex digits")
    order = DownloadOrder(
        repo_id=repo_id,
        revision=revision,
        files=tuple(files),
        subfolder=subfolder,
        variant=variant,
        also=tuple(also),
    )
    root = (cache_dir or default_cache_dir()).expanduser().absolute()
    cache = RepoCache(root, repo_id)
    try:
        receipt = cache.receipt(revision, order.key)
        if receipt is not None and all(cache.is_intact(revision, file, read=False) for file in receipt):
            return cache.snapshot(revision)
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"hub.cache: cannot use {root}: {error.strerror or error}") from error
    endpoint = check_endpoint(endpoint)
    if not os.access(root, os.W_OK | os.X_OK):
        raise InputError(f"hub.cache: cannot use {root}: it may not be written")
    _download(order, endpoint, root, token, timeout_seconds)
    return cache.snapshot(revision)


def _download(order: DownloadOrder, endpoint: str, root: Path, token: str | None, timeout_seconds: float) -> None:
    asked = {
        "order": order.model_dump(mode="json"),
        "endpoint": endpoint,
        "cache_dir": str(root),
        "token": token,  # through the pipe: arguments and environment can be read by others
        "parent": os.getpid(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "crawlers.download_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(endpoint),
    )
    try:
        said, complaints = process.communicate(json.dumps(asked), timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise UnitFailure(
            Reason.download_timeout, f"{order.repo_id}: not downloaded within {timeout_seconds:g} s"
        ) from error
    finally:
        _end(process)
    answer = _answer(said)
    if answer is None:
        last = redact(complaints.strip().splitlines()[-1] if complaints.strip() else "nothing", token)
        code = process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise UnitFailure(Reason.download_failed, f"{order.repo_id}: the download ended with {how}: {last}")
    if not answer:
        return
    if answer["reason"] == DISK_FULL:
        raise InputError(f"hub.cache: the disk of {root} is full while fetching {order.repo_id}: {answer['detail']}")
    raise UnitFailure(Reason(answer["reason"]), f"{order.repo_id}: {answer['detail']}")


def _answer(said: str) -> dict[str, str] | None:
    try:
        answer = json.loads(said)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _environment(endpoint: str) -> dict[str, str]:
    quiet = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "error",
        "HF_ENDPOINT": endpoint,
    }
    if endpoint != DEFAULT_ENDPOINT:
        quiet["HF_HUB_DISABLE_XET"] = "1"  # the chunk store is a service of the public hub alone
    return os.environ | quiet


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()  # it removes its partial files and ends at once
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
