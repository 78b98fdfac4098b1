"""The root base model of a generator. Splits go by it, so that a fine-tune and its base are never on both sides.

Three kinds of evidence: the bases that card and tags name, followed to the root; the alias map of bases that moved,
which is believed only where the weights of both repos do not contradict it; and denoiser weights that are, byte for
byte, those of an earlier model.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crawlers.recognition.base_aliases import MOVED_BASES
from manifests.generator import WeightFile

_MAX_DEPTH = 16
_DENOISERS = ("unet", "transformer", "prior", "decoder")


@dataclass(frozen=True)
class KnownRepo:
    """What lineage needs to know of a repo.

    Attributes:
        bases: repos that it says it was made from, most important first.
        weights: path to sha256 of its weight files; empty when unknown.
    """

    bases: tuple[str, ...] = ()
    weights: Mapping[str, str] | None = None


Lookup = Callable[[str], KnownRepo | None]
"""Repo id to what is known of it; None when the hub has it no more, or never had."""


def named_bases(repo_id: str, card: Mapping[str, Any], tags: Iterable[str]) -> tuple[str, ...]:
    """Return the bases that a repo names in its card, else in its tags, in order and without itself."""
    given = card.get("base_model")
    listed = given if isinstance(given, list) else [given]
    bases = [base for base in listed if isinstance(base, str)]
    if not bases:
        # `base_model:owner/name`, and again with the relation: `base_model:finetune:owner/name`.
        bases = [tag.rsplit(":", 1)[-1] for tag in tags if tag.startswith("base_model:")]
    clean = (base.strip().removeprefix("https://huggingface.co/").strip("/") for base in bases)
    return tuple(dict.fromkeys(base for base in clean if base.count("/") == 1 and base != repo_id))


def weight_hashes(files: Collection[WeightFile]) -> dict[str, str]:
    """Return path to sha256 of the weight files whose hash the hub told."""
    kinds = (".safetensors", ".bin", ".ckpt")
    return {file.path: file.sha256 for file in files if file.sha256 and file.path.endswith(kinds)}


@dataclass(frozen=True)
class Lineage:
    """The root, and what was decided on the way to it, for the catalog's detail."""

    root: str
    notes: tuple[str, ...] = ()


def resolve_lineage(repo_id: str, bases: Sequence[str], lookup: Lookup) -> Lineage:
    """Follow the first base of each repo to the root; a repo without base is its own root.

    A base that nobody can describe any more ends the walk: its id is the root.
    """
    notes: list[str] = []
    current, following = repo_id, tuple(bases)
    if len(bases) > 1:
        notes.append(f"merged from {len(bases)} bases; lineage follows {bases[0]}")
    seen = {repo_id}
    while following and len(seen) <= _MAX_DEPTH:
        step = resolve_alias(following[0], lookup, notes)
        if step in seen:
            break
        seen.add(step)
        current = step
        known = lookup(step)
        following = known.bases if known is not None else ()
    return Lineage(resolve_alias(current, lookup, notes) if current == repo_id else current, tuple(notes))


def resolve_alias(repo_id: str, lookup: Lookup, notes: list[str]) -> str:
    """Return where a base moved to, or its own id where it did not or where the weights contradict the alias.

    What was decided about an alias is appended to `notes`.
    """
    moved = MOVED_BASES.get(repo_id)
    if moved is None:
        return repo_id
    old, new = lookup(repo_id), lookup(moved)
    agree = _agreement(old, new)
    if agree is False:
        notes.append(f"alias {repo_id} -> {moved} refused: their weights differ")
        return repo_id
    notes.append(f"alias {repo_id} -> {moved} " + ("verified by weight hashes" if agree else "not verified"))
    return moved


def _agreement(old: KnownRepo | None, new: KnownRepo | None) -> bool | None:
    """Return whether two repos hold the same weights at the same paths; None when that cannot be told."""
    if old is None or new is None or not old.weights or not new.weights:
        return None
    common = old.weights.keys() & new.weights.keys()
    if not common:
        return None
    return all(old.weights[path] == new.weights[path] for path in common)


def denoiser_hash(files: Sequence[WeightFile]) -> str | None:
    """Return one hash for the weights of the denoiser, which is what makes a model another model; None if unknown."""
    hashes = [file.sha256 for file in files if any(part in _DENOISERS for part in file.path.split("/")[:-1])]
    safe = [digest for digest in hashes if digest is not None]
    return "+".join(sorted(safe)) or None


class FirstComeMap(Protocol):
    """A dict of texts, or what can do this much of one."""

    def setdefault(self, key: str, value: str, /) -> str: ...


class SharedWeights:
    """Remembers whose denoiser weights were seen first: a re-upload belongs to the lineage of the original."""

    def __init__(self, roots: "FirstComeMap | None" = None) -> None:
        """`roots` is where to remember them; a dict, unless they may be too many for one."""
        self._roots: FirstComeMap = {} if roots is None else roots

    def adopt(self, lineage: Lineage, repo_id: str, files: Sequence[WeightFile]) -> Lineage:
        """Return the lineage of a repo, taken from an earlier model with the same denoiser if it names no base."""
        digest = denoiser_hash(files)
        if digest is None:
            return lineage
        first = self._roots.setdefault(digest, lineage.root)
        if lineage.root != repo_id or first == lineage.root:
            return lineage
        return Lineage(first, (*lineage.notes, f"same denoiser weights as a model of {first}"))
