"""Repos, files and folders as the JSON of the hub's REST API."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from crawlers.hub_server import git_objects
from crawlers.hub_server.folder import Repo, RepoFile


def timestamp(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def siblings(repo: Repo, blobs: bool) -> list[dict[str, Any]]:
    """The files of a repo; with ``blobs`` also size, git blob id and LFS sha256 of each."""
    if not blobs:
        return [{"rfilename": path} for path in repo.files]
    return [_sibling(file) for file in repo.files.values()]


def _sibling(file: RepoFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file.path, "size": file.size, "blobId": file.blob_id}
    if file.sha256:
        entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return entry


def everything(repo: Repo, blobs: bool = False) -> dict[str, Any]:
    """Every property of a repo that this hub knows, by the names that ``expand`` uses, plus ``_id`` and ``id``."""
    created = repo.settings.created_at
    properties = {
        "_id": _object_id(repo.kind, repo.id),
        "id": repo.id,
        "author": repo.author,
        "sha": repo.sha,
        "createdAt": timestamp(created),
        "lastModified": timestamp(repo.settings.last_modified or created),
        "private": repo.settings.private,
        "gated": repo.settings.gated,
        "disabled": False,
        "downloads": repo.settings.downloads,
        "downloadsAllTime": repo.settings.downloads,
        "likes": repo.settings.likes,
        "trendingScore": 0,
        "tags": repo.tags,
        "cardData": repo.card,
        "siblings": siblings(repo, blobs),
        "usedStorage": sum(file.size for file in repo.files.values()),
    }
    if repo.kind == "models":
        properties |= {"modelId": repo.id, "config": repo.config, "spaces": []}
        properties |= {"baseModels": _base_models(repo)} if "base_model" in repo.card else {}
        properties |= {"library_name": repo.library_name} if repo.library_name else {}
        properties |= {"pipeline_tag": repo.pipeline_tag} if repo.pipeline_tag else {}
    return properties


_LISTED = ["_id", "id", "modelId", "private", "downloads", "likes", "trendingScore", "createdAt"]
_LISTED += ["tags", "library_name", "pipeline_tag"]
_FULL = [*_LISTED, "author", "sha", "lastModified", "gated", "disabled", "siblings"]
_NOT_IN_INFO = ("downloadsAllTime", "trendingScore", "baseModels")

_EXPAND_ANY = """author cardData createdAt disabled downloads downloadsAllTime gated lastModified likes private
resourceGroup sha siblings tags trendingScore usedStorage"""
_EXPAND_MODELS = """baseModels childrenModelCount config evalResults gguf inference inferenceProviderMapping
library_name mask_token model-index pipeline_tag safetensors spaces transformersInfo widgetData"""
_EXPAND_DATASETS = "citation description mainSize paperswithcode_id"
EXPANDABLE = {
    "models": frozenset([*_EXPAND_ANY.split(), *_EXPAND_MODELS.split()]),
    "datasets": frozenset([*_EXPAND_ANY.split(), *_EXPAND_DATASETS.split()]),
}
"""What ``expand`` may ask for. A property that this hub does not know is accepted and left out."""


def _only(properties: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: properties[name] for name in names if name in properties}


def listed(repo: Repo, full: bool, card: bool, config: bool, expand: Iterable[str]) -> dict[str, Any]:
    """One entry of a repo listing."""
    expand = list(expand)
    if expand:
        return expanded(repo, expand)
    names = [*(_FULL if full else _LISTED), *(["cardData"] if card else []), *(["config"] if config else [])]
    return _only(everything(repo), names)


def expanded(repo: Repo, expand: Iterable[str]) -> dict[str, Any]:
    """Only the properties asked for; a known one that this repo has not is left out, as on the hub."""
    return _only(everything(repo), ["_id", "id", *expand])


def info(repo: Repo, blobs: bool) -> dict[str, Any]:
    """The answer to ``GET /api/models/{repo}``."""
    properties = everything(repo, blobs)
    return {name: value for name, value in properties.items() if name not in _NOT_IN_INFO}


def file_entry(repo: Repo, file: RepoFile, expand: bool) -> dict[str, Any]:
    """A file in a tree listing."""
    entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.path}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    if expand:
        unscanned = {"status": "unscanned", "avScan": None, "pickleImportScan": None}
        entry |= {"lastCommit": last_commit(repo), "securityFileStatus": unscanned}
    return entry


def folder_entry(repo: Repo, path: str, expand: bool) -> dict[str, Any]:
    """A folder in a tree listing."""
    entry: dict[str, Any] = {"type": "directory", "oid": repo.folders[path], "size": 0, "path": path}
    return entry | ({"lastCommit": last_commit(repo)} if expand else {})


def last_commit(repo: Repo) -> dict[str, Any]:
    date = repo.settings.last_modified or repo.settings.created_at
    return {"id": repo.sha, "title": "Files as served", "date": timestamp(date)}


def _base_models(repo: Repo) -> dict[str, Any]:
    bases = repo.card["base_model"]
    bases = bases if isinstance(bases, list) else [bases]
    return {
        "relation": repo.card.get("base_model_relation", "finetune"),
        "models": [{"_id": _object_id("models", str(base)), "id": str(base)} for base in bases],
    }


def _object_id(kind: str, repo_id: str) -> str:
    return hashlib.sha1(f"{kind}/{repo_id}".encode(), usedforsecurity=False).hexdigest()[:24]


def _pointer_size(file: RepoFile) -> int:
    return len(git_objects.lfs_pointer(file.sha256 or "", file.size))
