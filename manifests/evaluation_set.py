"""What an evaluation set is: which generators and real images a detector is scored on."""

from pydantic import Field, field_validator

from manifests.frozen import FrozenModel
from manifests.generator import GeneratorSpec
from manifests.names import Slug
from manifests.real_source import RealSource


class EvaluationSet(FrozenModel):
    """A named, published test set, as far as it can be made again.

    A generator or real source given as a name is looked up in the manifests; one given in full needs no other file.
    What the publication names but nobody can fetch by a hub repo is said in `notes`, never made up.
    """

    name: Slug
    title: str
    description: str = ""
    paper: str | None = Field(default=None, description="the publication that defines the set")
    generators: tuple[Slug | GeneratorSpec, ...] = Field(default=(), description="names, or generators in full")
    reals: tuple[Slug | RealSource, ...] = Field(default=(), description="names, or real sources in full")
    images_per_generator: int | None = Field(default=None, ge=1, description="fake images from each generator")
    notes: tuple[str, ...] = Field(default=(), description="what differs from the publication")

    @field_validator("generators", "reals")
    @classmethod
    def _names_are_unique(
        cls, value: tuple[str | GeneratorSpec | RealSource, ...]
    ) -> tuple[str | GeneratorSpec | RealSource, ...]:
        names = [item if isinstance(item, str) else item.name for item in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return value
