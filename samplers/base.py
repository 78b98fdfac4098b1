"""What every sampler is: something that turns a padded batch of draws into images and says how it did so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from PIL import Image

from manifests.draws import Draw
from shards.statuses import Reason


@dataclass(frozen=True)
class Batch:
    """The draws of one call. `draws` has the frozen batch size; only the first `real` of them are wanted.

    A batch of another size gives other bytes, so a short one is filled by repeating its last draw.
    """

    draws: tuple[Draw, ...]
    real: int

    @classmethod
    def padded(cls, draws: Sequence[Draw], batch_size: int) -> Self:
        """Return `draws` (1 to `batch_size` of them) filled up to `batch_size` with copies of the last.

        Raises:
            ValueError: no draws, or more than fit.
        """
        if not 1 <= len(draws) <= batch_size:
            raise ValueError(f"a batch of {batch_size} cannot hold {len(draws)} draws")
        return cls((*draws, *[draws[-1]] * (batch_size - len(draws))), len(draws))


@dataclass(frozen=True)
class SampledImage:
    """One wanted slot of a batch. `image` is None exactly when `raw_issue` says why there is none.

    `prompt_sent` is the part of the prompt that the model saw (None when it takes none); `truncated` says that it is
    not all of it.
    """

    image: Image.Image | None
    raw_issue: Reason | None
    prompt_sent: str | None
    truncated: bool


class Sampler(Protocol):
    """A loaded generator. The attributes are what the dataset's rows say of every image it makes."""

    scheduler_name: str | None
    steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None
    negative_prompt: str | None
    watermark: bool | None
    compiled: bool

    def settled(self, draw: Draw, replaced: Draw | None = None) -> Draw:
        """Return `draw` with what the model decides of it, such as its class, written out.

        `replaced` is the settled draw whose image was no good and that a reserve draw stands in for.
        """

    def check_effect(self) -> None:
        """Make sure that what was loaded onto a base shows in the images; asked once after loading, before any unit.

        Raises:
            UnitFailure: no_pixel_changed, or as `sample`.
        """

    def sample(self, batch: Batch) -> list[SampledImage]:
        """Return one image for each wanted slot, in order.

        Raises:
            UnitFailure: the model failed in a way that has a name.
        """

    def call_record(self, batch_size: int) -> str:
        """Return the JSON that, with a row's prompt and seed, makes its image again."""

    def close(self) -> None:
        """Give the model's memory back; the sampler is not used afterwards."""
