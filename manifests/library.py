"""Find and load manifests: YAML files that name generators, real sources, evaluation sets and benchmarks.

Lookup order, the first that knows a name wins: the paths given by flag, then `<kind>.yaml` in the working folder
(`generators.yaml`, `reals.yaml`, ...), then the files that come with commforge. A file is one list under one key:
`generators:`, `reals:` or `evaluation_sets:`.
"""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import field_validator

from manifests.errors import InputError
from manifests.evaluation_set import EvaluationSet
from manifests.frozen import FrozenModel
from manifests.generator import GeneratorSpec
from manifests.real_source import RealSource
from manifests.strict_yaml import load_model

ManifestKind = Literal["generators", "reals", "evalsets", "benchmarks"]

_PACKAGED = Path(__file__).parent
Spec = TypeVar("Spec", GeneratorSpec, RealSource, EvaluationSet)


class GeneratorManifest(FrozenModel):
    """A file of generators."""

    generators: tuple[GeneratorSpec, ...]

    @field_validator("generators")
    @classmethod
    def _names_are_unique(cls, value: tuple[GeneratorSpec, ...]) -> tuple[GeneratorSpec, ...]:
        return _unique(value)


class RealManifest(FrozenModel):
    """A file of real sources."""

    reals: tuple[RealSource, ...]

    @field_validator("reals")
    @classmethod
    def _names_are_unique(cls, value: tuple[RealSource, ...]) -> tuple[RealSource, ...]:
        return _unique(value)


class EvaluationManifest(FrozenModel):
    """A file of evaluation sets; benchmarks have the same form."""

    evaluation_sets: tuple[EvaluationSet, ...]

    @field_validator("evaluation_sets")
    @classmethod
    def _names_are_unique(cls, value: tuple[EvaluationSet, ...]) -> tuple[EvaluationSet, ...]:
        return _unique(value)


def list_manifests(
    kind: ManifestKind, extra_paths: Iterable[Path] = (), working_folder: Path | None = None
) -> list[Path]:
    """Return the files of a kind in lookup order. An extra path is a file, or a folder of `.yaml` files.

    Raises:
        InputError: an extra path does not exist, or is a folder without YAML files.
    """
    if kind not in get_args(ManifestKind):
        raise InputError(f"kind = {kind!r}: must be one of {', '.join(get_args(ManifestKind))}")
    files: list[Path] = []
    for path in extra_paths:
        found = _yaml_files(path) if path.is_dir() else [path]
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder")
        if not found:
            raise InputError(f"{path}: the folder has no .yaml file")
        files += found
    local = (working_folder or Path.cwd()) / f"{kind}.yaml"
    if local.is_file():
        files.append(local)
    files += _yaml_files(_PACKAGED / kind)
    return list(dict.fromkeys(files))


def load_generators(path: Path) -> list[GeneratorSpec]:
    """Return a file's generators; each of their sampling parameters has `manifest` as its source.

    Raises:
        InputError: see `manifests.strict_yaml.load_model`.
    """
    return [_with_sources(spec) for spec in load_model(path, GeneratorManifest).generators]


def load_reals(path: Path) -> list[RealSource]:
    """Return a file's real sources, their folders resolved against the file's own folder.

    Raises:
        InputError: see `manifests.strict_yaml.load_model`.
    """
    folder = path.absolute().parent
    return [source.model_copy(update={"path": folder / source.path}) for source in load_model(path, RealManifest).reals]


def load_evaluation_sets(path: Path) -> list[EvaluationSet]:
    """Return a file's evaluation sets.

    Raises:
        InputError: see `manifests.strict_yaml.load_model`.
    """
    return list(load_model(path, EvaluationManifest).evaluation_sets)


def find_generator(name: str, extra_paths: Iterable[Path] = (), working_folder: Path | None = None) -> GeneratorSpec:
    """Return the generator of that name from the first manifest that has it.

    Raises:
        InputError: no manifest has it (the known names are listed), or a manifest is wrong.
    """
    return _find(name, "generator", list_manifests("generators", extra_paths, working_folder), load_generators)


def find_real(name: str, extra_paths: Iterable[Path] = (), working_folder: Path | None = None) -> RealSource:
    """Return the real source of that name from the first manifest that has it. Errors as `find_generator`."""
    return _find(name, "real source", list_manifests("reals", extra_paths, working_folder), load_reals)


def find_evaluation_set(
    name: str, extra_paths: Iterable[Path] = (), working_folder: Path | None = None
) -> EvaluationSet:
    """Return the evaluation set or benchmark of that name. Errors as `find_generator`."""
    extra_paths = list(extra_paths)
    files = list_manifests("evalsets", extra_paths, working_folder) + list_manifests("benchmarks", (), working_folder)
    return _find(name, "evaluation set", files, load_evaluation_sets)


def _find(name: str, what: str, files: list[Path], load: Callable[[Path], list[Spec]]) -> Spec:
    known: list[str] = []
    for file in files:
        for spec in load(file):
            if spec.name == name:
                return spec
            known.append(spec.name)
    near = difflib.get_close_matches(name, known, n=1)
    guess = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"there is no {what} {name!r}.{guess} Known: {', '.join(sorted(set(known))) or 'none'}")


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml") and path.is_file())


def _unique(specs: tuple[Spec, ...]) -> tuple[Spec, ...]:
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return specs


def _with_sources(spec: GeneratorSpec) -> GeneratorSpec:
    given = spec.params.model_dump(exclude={"sources", "call_kwargs"}, exclude_defaults=True)
    sources = dict.fromkeys([*given, *spec.params.call_kwargs], "manifest") | spec.params.sources
    return spec.model_copy(update={"params": spec.params.model_copy(update={"sources": sources})})
