"""What the report says of cost: what models share, so that it is fetched once, and where the workers' time went."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Component:
    """A part that pipelines have: how many have one, how many different ones there are, and how many pipelines have
    one that another has too."""

    name: str
    models: int
    distinct: int
    sharing: int
    bytes_saved: int
    identical_share: float
    """parts that are copies of another's, of all"""


@dataclass(frozen=True, slots=True)
class Components:
    """What the eligible whole pipelines share; `left_out` parts of rare names are not listed."""

    parts: tuple[Component, ...]
    left_out: int
    pipelines: int
    sharing: int
    bytes_naive: int
    """to fetch when every generator fetches its own files"""
    bytes_unique: int
    """to fetch when every content is fetched once"""


@dataclass(frozen=True, slots=True)
class ModelTime:
    """Seconds that workers spent on one generator, and on how many units: done ones, and tries in vain."""

    generator: str
    images: int
    units: int
    in_vain: int
    waiting: float
    """for files that were not there yet"""
    loading: float
    sampling: float
    """the checker's scoring and the writing of shards included"""

    @property
    def seconds(self) -> float:
        return self.waiting + self.loading + self.sampling

    @property
    def per_image(self) -> float | None:
        """Seconds for each ok image; None when there is none."""
        return self.seconds / self.images if self.images else None


@dataclass(frozen=True, slots=True)
class WorkingTime:
    """Where the workers' time went, the slowest generators first; `told` of `committed` units are in the sums."""

    models: tuple[ModelTime, ...]
    told: int
    committed: int

    @property
    def total(self) -> ModelTime:
        """All generators together."""
        sums = {
            name: sum(getattr(model, name) for model in self.models)
            for name in ("images", "units", "in_vain", "waiting", "loading", "sampling")
        }
        return ModelTime(generator="", **sums)
