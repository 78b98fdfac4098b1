"""A folder opened as a hub: every repo, file, hash and setting, read and checked once.

Requests are answered from this snapshot alone. No path is ever built from what a client sent: a file is served only
if its name is a key of :attr:`Repo.files`, so ``..``, encoded slashes and hidden files have nothing to reach.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from pathlib import Path
from typing import Any, Literal

from crawlers.hub_server import card, git_objects
from crawlers.hub_server.hash_cache import HashCache
from crawlers.hub_server.settings import SETTINGS_FILE, RepoSettings, read_settings
from manifests.errors import InputError

RepoType = Literal["models", "datasets"]
REPO_TYPES: tuple[RepoType, ...] = ("models", "datasets")
LAYOUT = "expected ROOT/models/<owner>/<name>/ or ROOT/datasets/<owner>/<name>/"

_NAME = re.compile(r"^(?=.{1,96}$)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$")


@dataclass(frozen=True)
class RepoFile:
    """One file of a repo: its name in the repo, where it lies, and what it is known by."""

    path: str
    location: Path
    size: int
    mtime_ns: int
    sha256: str | None
    """Of an LFS file; None for a file that git holds itself."""
    blob_id: str
    """Git blob id of the file, or of its LFS pointer."""

    @property
    def etag(self) -> str:
        """What the hub identifies the bytes by: sha256 of an LFS file, else the git blob id."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Repo:
    """One repo at its only commit."""

    kind: RepoType
    id: str
    settings: RepoSettings
    files: dict[str, RepoFile]
    """By path, in sorted order."""
    folders: dict[str, str]
    """Git tree id by folder path; ``""`` is the root."""
    sha: str
    card: dict[str, Any]
    config: dict[str, Any]

    @property
    def author(self) -> str:
        return self.settings.author or self.id.split("/")[0]

    @cached_property
    def library_name(self) -> str | None:
        if "library_name" in self.settings.model_fields_set:
            return self.settings.library_name
        return self._card_word("library_name") or ("diffusers" if self.kind == "models" else None)

    @cached_property
    def pipeline_tag(self) -> str | None:
        return self.settings.pipeline_tag or self._card_word("pipeline_tag")

    def _card_word(self, key: str) -> str | None:
        word = self.card.get(key)
        return word if isinstance(word, str) else None

    @cached_property
    def tags(self) -> list[str]:
        derived = card.derived_tags(self.card, self.library_name, self.pipeline_tag, self.config, self.files)
        return list(dict.fromkeys([*self.settings.tags, *derived]))

    def has_revision(self, revision: str) -> bool:
        return revision in ("main", "refs/heads/main", self.sha)

    def opened_by(self, token: str | None) -> bool:
        """Whether ``token`` is the one that opens this repo."""
        expected = self.settings.token
        return token is not None and expected is not None and compare_digest(token.encode(), expected.encode())


class HubFolder:
    """All repos below ``root``, checked.

    Attributes:
        repos: by kind and id, in the order of the ids.
        files_hashed: how many files had to be read because their cached hash did not hold.

    Raises:
        InputError: no such folder, unreadable, no repo in it, a name that no hub allows, a bad ``.hub.yaml``, or a
            symbolic link that is broken, circular or leaves ``root``.
    """

    def __init__(self, root: Path | str, hash_cache: Path | None = None) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise InputError(f"{root}: no such folder; {LAYOUT}")
        cache = HashCache(hash_cache or self.root / ".hub-hashes.json")
        self.repos: dict[RepoType, dict[str, Repo]] = {
            kind: {repo.id: repo for repo in self._scan(kind, cache)} for kind in REPO_TYPES
        }
        if not any(self.repos.values()):
            raise InputError(f"{root}: holds no repo; {LAYOUT}")
        self.files_hashed = cache.files_hashed
        cache.save()

    def _scan(self, kind: RepoType, cache: HashCache) -> Iterator[Repo]:
        top = self.root / kind
        if not top.exists():
            return
        for owner in _children(top):
            _check_name(owner)
            for folder in _children(owner):
                _check_name(folder)
                self._check_inside(folder)
                yield self._open(kind, f"{owner.name}/{folder.name}", folder, cache)

    def _open(self, kind: RepoType, repo_id: str, folder: Path, cache: HashCache) -> Repo:
        settings = read_settings(folder)
        files = {}
        for path, location in sorted(self._walk(folder, "", ())):
            stat = location.stat()
            lfs = git_objects.is_lfs(path, stat.st_size)
            digest = cache.digest(f"{kind}/{repo_id}/{path}", location, stat, lfs)
            pointer = git_objects.lfs_pointer(digest, stat.st_size) if lfs else b""
            blob = git_objects.object_id("blob", pointer) if lfs else digest
            files[path] = RepoFile(path, location, stat.st_size, stat.st_mtime_ns, digest if lfs else None, blob)
        for path in settings.behaviour.corrupt:
            if path not in files or files[path].size == 0:
                where = f"{folder / SETTINGS_FILE}: behaviour.corrupt"
                raise InputError(f"{where}: {path!r} is not a file of this repo, or is empty")
        trees = git_objects.tree_ids({path: file.blob_id for path, file in files.items()})
        locations = {path: file.location for path, file in files.items()}
        front_matter = settings.card_data
        if front_matter is None:
            front_matter = card.read_card(locations.get("README.md"))
        return Repo(
            kind=kind,
            id=repo_id,
            settings=settings,
            files=files,
            folders=trees,
            sha=git_objects.commit_id(trees[""]),
            card=front_matter,
            config=card.derived_config(locations) if kind == "models" else {},
        )

    def _walk(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
        """Yield (path in the repo, real path) of every visible file below ``folder``."""
        real = self._check_inside(folder)
        if real in above:
            raise InputError(f"{folder}: a symbolic link that leads back into itself")
        for child in _entries(folder):
            if child.name.startswith(".") and child.name != ".gitattributes":
                continue
            target = self._check_inside(child)
            if target.is_dir():
                yield from self._walk(child, f"{prefix}{child.name}/", (*above, real))
            elif target.is_file():
                yield prefix + child.name, target
            else:
                raise InputError(f"{child}: neither a file nor a folder")

    def _check_inside(self, path: Path) -> Path:
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: a symbolic link that leads nowhere: {error}") from error
        if not target.is_relative_to(self.root):
            raise InputError(f"{path}: a symbolic link that leaves {self.root} (it leads to {target})")
        return target


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error}") from error


def _children(folder: Path) -> Iterator[Path]:
    """The visible subfolders; a stray file is refused, since it surely was meant to be served."""
    for child in _entries(folder):
        if child.name.startswith("."):
            continue
        if not child.is_dir():
            raise InputError(f"{child}: not a folder; {LAYOUT}")
        yield child


def _check_name(folder: Path) -> None:
    name = folder.name
    if not _NAME.match(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise InputError(
            f"{folder}: {name!r} is no name on a hub; allowed: 1 to 96 letters, digits, '-', '_', '.', "
            "not starting or ending with '-' or '.', without '--' and '..'"
        )
