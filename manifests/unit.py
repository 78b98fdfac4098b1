"""The unit of work: what one lease, one retry and one commit cover. Everything that affects its bytes is in here."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

from pydantic import Field

from manifests.frozen import FrozenModel
from manifests.generator import Dtype, GeneratorSpec
from manifests.real_source import RealSource


class Draw(FrozenModel):
    """One image to make: a prompt, a seed and its place in the generator's sequence."""

    index: int = Field(description="draw number within the generator; negative for reserve draws")
    seed: int = Field(ge=0, lt=2**63)
    prompt_id: str
    prompt: str
    prompt_source: str
    class_label: str | None = None
    real_source: str | None = None
    source_image_id: str | None = None
    content: str | None = None


class CheckerSpec(FrozenModel):
    """The safety checker that scores every image: a hub repo at a pinned revision."""

    repo_id: str
    revision: str


class UnitSpec(FrozenModel):
    """A generator × `count` target images, with its own slice of prompts and of reserve prompts."""

    generator: GeneratorSpec
    first: int = Field(ge=0, description="index of the first target draw")
    count: int = Field(ge=1, description="images wanted")
    draws: tuple[Draw, ...] = Field(description="`count` target draws, in order")
    reserve: tuple[Draw, ...] = Field(default=(), description="ordered replacements for flagged and degenerate images")
    batch_size: int = Field(ge=1)
    cpu_threads: int = Field(ge=1)
    dtype: Dtype = "float32"
    checker: CheckerSpec | None = None
    keep_flagged: bool = False
    split: str | None = None

    @cached_property
    def unit(self) -> str:
        """Id: 128-bit hash of everything that affects the unit's bytes."""
        return _spec_hash(self.model_dump(mode="json"))


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
        return _spec_hash(
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


def _spec_hash(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
