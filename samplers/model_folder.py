"""A pipeline's folder, read before anything is loaded: its class, its components and their weight files.

Everything that can be wrong with a folder without running a model is found here, so that the failure names the file.
Only classes that diffusers and transformers themselves define are used; code in the folder is never run.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import safe_open

from samplers.failures import load_failures
from shards.identifiers import content_hash, sha256_file
from shards.statuses import Reason, UnitFailure

MODEL_INDEX = "model_index.json"
OMITTED = ("safety_checker", "feature_extractor", "watermarker")
"""Left out of every pipeline: a checker that blackens images and a watermarker would both put a label into the pixels.
The feature extractor only serves the checker."""

_INCIDENTAL = ("_name_or_path", "_commit_hash", "_diffusers_version", "transformers_version", "torch_dtype", "dtype")
"""Config keys that say where a copy came from, not what it is; the precision is ours to choose."""
_WEIGHT_STEMS = ("diffusion_pytorch_model", "model")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")


@dataclass(frozen=True)
class Weights:
    """The safetensors files of a component, and the variant they are of (None for the plain ones).

    No files: the component is a network whose weights lie elsewhere.
    """

    files: tuple[Path, ...]
    variant: str | None


@dataclass(frozen=True)
class Component:
    """A component of the pipeline. `weights` is None for tokenizers, schedulers and processors."""

    name: str
    type: type
    folder: Path
    weights: Weights | None

    def content_key(self, root: Path, sha256: Mapping[str, tuple[int, str]]) -> str:
        """Return the hash of the component's class, config and weights, however the files are named.

        `sha256` maps paths relative to `root` to (size, digest) that the download has verified; a file that is not
        in it, or has another size, is read.
        """
        config = read_json(self.folder / "config.json")
        digests = []
        for file in self.weights.files if self.weights else ():
            size, digest = sha256.get(file.relative_to(root).as_posix(), (-1, ""))
            digests.append(digest if size == file.stat().st_size else _file_digest(file))
        kept = {key: value for key, value in config.items() if key not in _INCIDENTAL}
        return content_hash([self.type.__module__, self.type.__qualname__, kept, digests])


@dataclass(frozen=True)
class ModelFolder:
    """What a pipeline's folder holds. `omitted` are the components that it names and we leave out."""

    path: Path
    pipeline_class: type[diffusers.DiffusionPipeline]
    components: tuple[Component, ...]
    omitted: tuple[str, ...]


def read_model_folder(
    path: Path, variant: str | None, pipeline_class: str | None = None, *, weights_elsewhere: bool = False
) -> ModelFolder:
    """Read the folder that holds model_index.json; `pipeline_class` replaces the class that the index names.

    With `weights_elsewhere`, a component without weight files has `Weights` without files instead of being a failure.

    Raises:
        UnitFailure: missing_file, bad_config, corrupt_weights, pipeline_class or remote_code.
    """
    index = read_json(path / MODEL_INDEX)
    named = index.get("_class_name")
    if isinstance(named, list):
        raise UnitFailure(Reason.remote_code, f"{MODEL_INDEX}: the pipeline is code of the repo: {named}")
    components, omitted = [], []
    type_ = _pipeline_class(path, pipeline_class or named)
    accepted = inspect.signature(type_.__init__).parameters
    for name, entry in sorted(index.items()):
        if name not in accepted or not _names_a_class(entry):
            continue
        if name in OMITTED:
            omitted.append(name)
        else:
            components.append(_component(path, name, *entry, variant=variant, weights_elsewhere=weights_elsewhere))
    return ModelFolder(path, type_, tuple(components), tuple(omitted))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UnitFailure missing_file or bad_config."""
    with load_failures(path.name):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise UnitFailure(Reason.bad_config, f"{path.name}: an object is expected, not {type(content).__name__}")
    return content


def find_weights(folder: Path, variant: str | None, what: str) -> Weights:
    """Find a component's safetensors, of the variant if it has one, and check that each can be opened.

    Raises:
        UnitFailure: missing_file when there are none (pickles are not read) or a part is absent; corrupt_weights when
            a header or a length is wrong.
    """
    for wanted in dict.fromkeys((variant, None)):
        files = _weight_files(folder, wanted, what)
        if files:
            for file in files:
                with load_failures(f"{what}/{file.name}"), safe_open(file, framework="pt"):
                    pass
            return Weights(files, wanted)
    pickles = sorted(file.name for file in folder.glob("*") if file.suffix in _PICKLES)
    found = f"only pickles, which are not read: {', '.join(pickles)}" if pickles else "none"
    raise UnitFailure(Reason.missing_file, f"{what}: safetensors weights are needed, found {found}")


def _file_digest(file: Path) -> str:
    """The file's sha256, read once in a process: a base that many adapters share is gigabytes."""
    state = file.stat()
    return _digest_of(file.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of(file: Path, size: int, modified: int) -> str:
    return sha256_file(file)


def _weight_files(folder: Path, variant: str | None, what: str) -> tuple[Path, ...]:
    infix = f".{variant}" if variant else ""
    for stem in _WEIGHT_STEMS:
        single = folder / f"{stem}{infix}.safetensors"
        if single.is_file():
            return (single,)
        index = folder / f"{stem}.safetensors.index{infix}.json"
        if index.is_file():
            return _sharded(folder, read_json(index), f"{what}/{index.name}")
    return ()


def _sharded(folder: Path, index: dict[str, Any], what: str) -> tuple[Path, ...]:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UnitFailure(Reason.bad_config, f"{what}: weight_map must map tensors to file names")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UnitFailure(Reason.bad_config, f"{what}: {name!r} is not a safetensors file beside the index")
        if not (folder / name).is_file():
            raise UnitFailure(Reason.missing_file, f"{what}: {name} is absent")
    return tuple(folder / name for name in names)


def _pipeline_class(path: Path, name: object) -> type[diffusers.DiffusionPipeline]:
    if not isinstance(name, str):
        raise UnitFailure(Reason.bad_config, f"{MODEL_INDEX}: _class_name must be a string, not {name!r}")
    found = getattr(diffusers, name, None)
    if found is None and (path / "pipeline.py").exists():
        raise UnitFailure(Reason.remote_code, f"{name} is code of the repo (pipeline.py)")
    # Diffusers puts a placeholder, which is no pipeline, where a library that a class needs is not installed.
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise UnitFailure(Reason.pipeline_class, f"{name} is not a pipeline of the installed diffusers")
    loads_another: bool = found._load_connected_pipes  # type: ignore[attr-defined]
    if loads_another:
        raise UnitFailure(Reason.pipeline_class, f"{name} needs the files of a second repo")
    return found


def _names_a_class(entry: object) -> bool:
    """True for [library, class]; false for plain settings and for [null, null], a component that is absent."""
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _component(
    path: Path, name: str, library: str, class_name: str, *, variant: str | None, weights_elsewhere: bool
) -> Component:
    folder = path / name
    modules = {"diffusers": diffusers, "transformers": transformers}
    module = modules.get(library) or getattr(diffusers.pipelines, library, None)
    if module is None or (folder / f"{library}.py").exists():
        raise UnitFailure(Reason.remote_code, f"{name}: {class_name} is code of the repo ({library})")
    type_ = getattr(module, class_name, None)
    if not isinstance(type_, type):
        raise UnitFailure(Reason.pipeline_class, f"{name}: {library} has no class {class_name}")
    if not folder.is_dir():
        raise UnitFailure(Reason.missing_file, f"{name}: the folder is absent")
    if not issubclass(type_, torch.nn.Module):
        return Component(name, type_, folder, None)
    read_json(folder / "config.json")
    if weights_elsewhere and not any(_weight_files(folder, wanted, name) for wanted in (variant, None)):
        return Component(name, type_, folder, Weights((), None))
    return Component(name, type_, folder, find_weights(folder, variant, name))
