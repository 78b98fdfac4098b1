"""What a download shall fetch, and which of a repo's files that means."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from pydantic import Field

from crawlers.hub.remote_file import RemoteFile
from crawlers.recognition.layout import LayoutError, plan_model, plan_pipeline
from crawlers.recognition.model_index import MODEL_INDEX, parse_model_index
from manifests.errors import InputError
from manifests.frozen import FrozenModel
from manifests.generator import WeightFile
from shards.identifiers import content_hash

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab")
_SMALL_BYTES = 64 * 2**20
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack", ".h5")


class DownloadOrder(FrozenModel):
    """A repo at a commit and what to take of it.

    Attributes:
        files: the weight files, when the catalog knows them; else they are chosen from what the hub lists.
        weight_name: the one weight file that is wanted, where there may be many and no pipeline says which.
        configs_only: take no weights at all.
        config_folders: take configs from these folders of the repo alone, "" being its root, and from none below
            them; None for everything in `subfolder`.
        also: patterns of further files. A pickle is never taken, code only by a pattern that ends in `.py`.
    """

    repo_id: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    files: tuple[WeightFile, ...] = ()
    subfolder: str | None = None
    variant: str | None = None
    weight_name: str | None = None
    configs_only: bool = False
    config_folders: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short name of what is ordered beside repo and commit."""
        return content_hash(self.model_dump(mode="json", exclude={"repo_id", "revision"}))[:16]

    @property
    def needs_index(self) -> bool:
        """True if the pipeline's own description must say which weights are wanted."""
        return not self.files and self.weight_name is None and not self.configs_only


def checked_commit(repo_id: str, revision: str | None) -> str:
    """Return the revision if it is a commit; only commits are fetched, since branches move.

    Raises:
        InputError: it is not.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        raise InputError(f"{repo_id}: revision = {revision!r}: must be a commit of 40 hex digits")
    return revision


class MissingFileError(Exception):
    """The repo lacks a file that the order needs; `detail` names it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def config_files(order: DownloadOrder, tree: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Return the small files that go with the weights: configs, tokenizers, schedulers; no index of shards."""
    folder = f"{order.subfolder}/" if order.subfolder else ""
    return [
        file
        for file in tree
        if file.path.startswith(folder)
        and (order.config_folders is None or posixpath.dirname(file.path) in order.config_folders)
        and file.path.endswith(_SMALL_SUFFIXES)
        and ".index." not in posixpath.basename(file.path)
        and file.size <= _SMALL_BYTES
    ]


def weight_files(order: DownloadOrder, tree: Sequence[RemoteFile], model_index: object | None) -> list[RemoteFile]:
    """Return the weights to fetch, with the hashes of the catalog where it has them.

    Args:
        model_index: parsed content of the order's model_index.json, where the catalog did not choose already and
            there is one.

    Raises:
        MissingFileError: the repo lacks one of the catalog's files, or has no safetensors.
        BadModelIndexError: `model_index` is not a pipeline.
    """
    listed = {file.path: file for file in tree}
    planned = order.files
    if order.configs_only:
        return []
    if order.weight_name is not None and not planned:
        if order.weight_name.endswith(_PICKLES):
            raise MissingFileError(f"no safetensors: {order.weight_name} is a pickle")
        planned = (WeightFile(path=order.weight_name, size=0),)
    if not planned:
        everything = [WeightFile(path=file.path, size=file.size, sha256=file.sha256) for file in tree]
        try:
            if model_index is not None:
                index = parse_model_index(model_index, order.subfolder or "")
                planned = plan_pipeline(index, everything, variant=order.variant).files
            else:
                planned = plan_model(everything, order.subfolder or "").files
        except LayoutError as error:
            raise MissingFileError(error.detail) from error
    if absent := [file.path for file in planned if file.path not in listed]:
        raise MissingFileError(f"not in the repo at this commit: {', '.join(absent)}")
    return [
        RemoteFile(
            file.path, listed[file.path].size, file.sha256 or listed[file.path].sha256, listed[file.path].blob_id
        )
        for file in planned
    ]


def further_files(order: DownloadOrder, tree: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Return the files that the order's own patterns add."""
    return [file for file in tree if any(_adds(pattern, file.path) for pattern in order.also)]


def _adds(pattern: str, path: str) -> bool:
    if not fnmatchcase(path, pattern) or path.endswith(_PICKLES):
        return False
    return not path.endswith(".py") or pattern.endswith(".py")


def index_path(order: DownloadOrder) -> str:
    """Return where the order's pipeline describes itself."""
    return posixpath.join(order.subfolder or "", MODEL_INDEX)
