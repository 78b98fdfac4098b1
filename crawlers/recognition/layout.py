"""Which of a repo's files a download needs: one set of weights for each component, and no second copy of anything.

Repos hold the same weights many times: as pickles and safetensors, in full and half precision, with and without
EMA, whole and in shards, for other frameworks, and as single-file checkpoints beside the pipeline's folders.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crawlers.recognition.model_index import Component, ModelIndex
from manifests.generator import WeightFile

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_VARIANT = r"[A-Za-z0-9_]+"
_WEIGHT = re.compile(
    rf"(?P<stem>{'|'.join(_STEMS)})"
    rf"(?:\.(?P<variant>{_VARIANT}))?"
    r"(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?"
    rf"(?:\.(?P<late_variant>{_VARIANT}))?"  # the older order: model-00001-of-00002.fp16.safetensors
    r"\.(?P<kind>safetensors|bin|ckpt|pt|pth)"
)
_INDEX = re.compile(
    rf"(?P<stem>{'|'.join(_STEMS)})(?:\.(?P<early>{_VARIANT}))?\.(?P<kind>safetensors|bin)\.index"
    rf"(?:\.(?P<variant>{_VARIANT}))?\.json"
)
_ADAPTERS = re.compile(r"(pytorch_lora_weights|adapter_model|.*lora.*)\.safetensors$", re.IGNORECASE)
_VARIANT_ORDER = ("fp16", "bf16", "fp32", "non_ema")
"""Half precision before `non_ema`: averaged weights are the ones that their authors sample from."""


class LayoutError(Exception):
    """A component's weights cannot be downloaded. `reason` is one of CATALOG_REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class WeightPlan:
    """The weights to download: full paths, in order, and the variant to load them with."""

    files: tuple[WeightFile, ...]
    variant: str | None

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class _WeightSet:
    """One complete copy of a component's weights, with its shard index if it has one."""

    stem: str
    variant: str | None
    sharded: bool
    safe: bool
    files: tuple[WeightFile, ...]


def plan_pipeline(index: ModelIndex, files: Sequence[WeightFile], *, variant: str | None = None) -> WeightPlan:
    """Choose the weights of every component of a pipeline.

    The plain weights win where every component has them; else the one variant that completes the pipeline, as
    diffusers falls back to plain weights where a component lacks the variant, but never the other way round.

    Args:
        files: all files of the repo.
        variant: take this variant wherever a component has it.

    Raises:
        LayoutError: a component has no weights, or only pickles.
    """
    needed = [part for part in index.components if part.needs_weights]
    sets = {part: _sets_of(part, index.path(part.name), files) for part in needed}
    chosen = variant or _variant_needed(sets)
    plan: list[WeightFile] = []
    for part, found in sets.items():
        best = next((s for v in (chosen, None) for s in found if s.variant == v), None)
        if best is None:
            has = ", ".join(sorted({s.variant or "plain" for s in found}))
            raise LayoutError("no_weights", f"{index.path(part.name)}: only {has} weights, wanted {chosen or 'plain'}")
        plan += best.files
    used = chosen if any(s.variant == chosen and set(s.files) <= set(plan) for f in sets.values() for s in f) else None
    return WeightPlan(tuple(plan), used)


def plan_model(files: Sequence[WeightFile], folder: str = "", library: str = "transformers") -> WeightPlan:
    """Choose the weights of a single model, such as a safety checker, a captioner or a pipeline's denoiser.

    Args:
        library: that will load it; each looks for other names first.

    Raises:
        LayoutError: no safetensors.
    """
    found = _sets_of(Component("the model", library, "Model"), folder, files)
    best = next((s for s in found if s.variant is None), found[0])
    return WeightPlan(best.files, best.variant)


def describe_without_index(paths: Iterable[str]) -> str:
    """Say what a repo without model_index.json looks like, for the catalog's detail."""
    names = sorted(paths)
    roots = [name for name in names if "/" not in name]
    for looks_like, found in (
        ("an adapter", [n for n in names if _ADAPTERS.search(posixpath.basename(n))]),
        ("a textual inversion", [n for n in roots if n.startswith("learned_embeds")]),
        ("a single component", [n for n in roots if n.startswith("diffusion_pytorch_model")]),
        ("a single-file checkpoint", [n for n in roots if n.endswith((".safetensors", ".ckpt"))]),
    ):
        if found:
            return f"looks like {looks_like} ({found[0]})"
    return "no weights that commforge knows" if names else "the repo is empty"


def _variant_needed(sets: dict[Component, list[_WeightSet]]) -> str | None:
    """Return None if every component has plain weights, else a variant that fills all the gaps."""
    gaps = [{s.variant for s in found} for found in sets.values() if all(s.variant is not None for s in found)]
    if not gaps:
        return None
    common = {variant for variant in set.intersection(*gaps) if variant is not None}
    order = [v for v in _VARIANT_ORDER if v in common] + sorted(common - set(_VARIANT_ORDER))
    if not order:
        raise LayoutError("no_weights", "no single variant completes the pipeline")
    return order[0]


def _sets_of(part: Component, folder: str, files: Sequence[WeightFile]) -> list[_WeightSet]:
    """Return the complete weight sets of a component, best first.

    Raises:
        LayoutError: none, or only pickles.
    """
    inside = {posixpath.basename(f.path): f for f in files if posixpath.dirname(f.path) == folder}
    sets, broken = _complete_sets(inside)
    stem = "diffusion_pytorch_model" if part.library == "diffusers" else "model"
    # diffusers looks for shards first, transformers for the whole file: take what will be loaded.
    sets.sort(key=lambda s: (not s.safe, s.stem != stem, s.sharded != (part.library == "diffusers")))
    safe = [s for s in sets if s.safe]
    if safe:
        return safe
    where = folder or part.name
    if broken:
        raise LayoutError("no_weights", f"{where}: {broken[0]}")
    if sets or any(name.endswith((".bin", ".ckpt", ".pt", ".pth", ".pkl")) for name in inside):
        raise LayoutError("pickle_only", f"{where}: no safetensors, only pickles")
    raise LayoutError("no_weights", f"{where}: {part.class_name} has no weights")


def _complete_sets(inside: dict[str, WeightFile]) -> tuple[list[_WeightSet], list[str]]:
    """Group a folder's weight files: complete sets, and what is wrong with sharded ones that lack a part."""
    groups: dict[tuple[str, str | None, str | None, str], list[tuple[str, WeightFile]]] = {}
    for name, file in sorted(inside.items()):
        if match := _WEIGHT.fullmatch(name):
            key = (match["stem"], match["variant"] or match["late_variant"], match["shards"], match["kind"])
            groups.setdefault(key, []).append((name, file))
    indexes: dict[tuple[str, str | None, str], WeightFile] = {}
    for name, file in inside.items():
        if match := _INDEX.fullmatch(name):
            indexes[match["stem"], match["early"] or match["variant"], match["kind"]] = file
    sets, broken = [], []
    for (stem, variant, shards, kind), members in groups.items():
        parts = [file for _, file in members]
        if shards is not None:
            index = indexes.get((stem, variant, kind))
            if len(parts) != int(shards) or index is None:
                what = f"{len(parts)} of {int(shards)} shards" if len(parts) != int(shards) else "shards without index"
                broken.append(f"{stem} has {what}")
                continue
            parts.append(index)
        sets.append(_WeightSet(stem, variant, shards is not None, kind == "safetensors", tuple(parts)))
    return sets, broken
