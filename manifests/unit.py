"""The unit of work: what one lease, one retry and one commit cover. Everything that affects its bytes is in here."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

from pydantic import Field

from manifests.draws import Draws
from manifests.frozen import FrozenModel
from manifests.generator import Dtype, GeneratorSpec
from manifests.real_source import RealSource


class CheckerSpec(FrozenModel):
    """The safety checker that scores every image: a hub repo at a pinned revision."""

    repo_id: str
    revision: str


class UnitSpec(FrozenModel):
    """A generator × `count` target images, with its own slice of prompts and of reserve prompts."""

    generator: GeneratorSpec
    first: int = Field(ge=0, description="index of the first target draw")
    count: int = Field(ge=1, description="images wanted")
    draws: Draws = Field(description="`count` target draws, in order")
    reserve: Draws = Field(default=Draws("[]"), description="ordered replacements for flagged and degenerate images")
    batch_size: int = Field(ge=1)
    cpu_threads: int = Field(ge=1)
    dtype: Dtype = "float32"
    checker: CheckerSpec | None = None
    keep_flagged: bool = False
    split: str | None = None

    @cached_property
    def unit(self) -> str:
        """Id: 128-bit hash of everything that affects the unit's bytes."""
        return _hash(unit_json(self))


class RealImage(FrozenModel):
    """One real image of a unit; `sha256` was taken at plan time, so a file that changes since is noticed."""

    path: str = Field(description="relative to the source's folder")
    sha256: str
    caption: str | None = None
    photograph: str | None = None
    class_label: str | None = None
    content: str | None = None
    split: str | None = None


class RealUnitSpec(FrozenModel):
    """A slice of a real source: its images are stored as they are, as label-0 rows."""

    source: RealSource
    folder: Path = Field(description="where the files are on this machine; not part of the unit's id")
    first: int = Field(ge=0)
    images: tuple[RealImage, ...]

    @cached_property
    def unit(self) -> str:
        """Id: 128-bit hash of the source's name and of its images' content and metadata."""
        return _hash(
            canonical(
                {
                    "source": {
                        "name": self.source.name,
                        "license": self.source.license,
                        "content": self.source.content,
                    },
                    "first": self.first,
                    "images": [image.model_dump(mode="json") for image in self.images],
                }
            )
        )


def unit_json(unit: UnitSpec) -> str:
    """The canonical JSON of a unit: that of `unit.model_dump(mode="json")`, put together many times as fast.

    A driver plans hundreds of thousands of units with a hundred draws each.
    """
    parts = {
        "generator": _generator_json(unit.generator),
        "draws": unit.draws.text,
        "reserve": unit.reserve.text,
        **{name: canonical(value) for name, value in unit.model_dump(mode="json", exclude=_PUT_TOGETHER).items()},
    }
    return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"


def canonical(value: object) -> str:
    """`value` as JSON with one spelling only: sorted keys, no spaces, UTF-8 kept, NaN and infinities refused."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_PUT_TOGETHER = {"generator", "draws", "reserve"}
_GENERATORS: dict[int, tuple[GeneratorSpec, str]] = {}
_GENERATORS_KEPT = 1024
"""About as many generators as are sampled at a time; each is held, so that its number is nobody else's."""


def _generator_json(generator: GeneratorSpec) -> str:
    known = _GENERATORS.get(id(generator))
    if known is None:
        if len(_GENERATORS) >= _GENERATORS_KEPT:
            _GENERATORS.clear()
        known = _GENERATORS[id(generator)] = generator, canonical(generator.model_dump(mode="json"))
    return known[1]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
