"""A prompt-painting pipeline with an adapter on it, which must show that it does something.

An adapter for another base, an untrained one, or one whose layers diffusers does not know can load without complaint
and leave every image as the base makes it. Such images must not enter a dataset as the adapter's. So one image is
sampled twice after loading, with the adapter on and off. It is the same one whatever is sampled next: the answer
depends on no unit, worker or restart.
"""

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from samplers.base import Batch, SampledImage
from samplers.loading import LoadedPipeline
from samplers.seeds import seed_for
from samplers.text_to_image import TextToImageSampler
from shards.statuses import Reason, UnitFailure

PROBE = "a photograph"
"""Prompt of the image that is sampled twice."""


class AdaptedTextToImageSampler(TextToImageSampler):
    """As for every text-to-image pipeline, once the adapter has been seen to change a pixel."""

    def __init__(self, spec: GeneratorSpec, loaded: LoadedPipeline) -> None:
        super().__init__(spec, loaded)
        if loaded.adapter is None:
            raise ValueError(f"{spec.name}: no adapter is attached")
        self._adapter = loaded.adapter
        seed = seed_for(spec.name, spec.revision, PROBE, 0)
        self._probe = Draw(index=0, seed=seed, prompt_id=PROBE, prompt=PROBE, prompt_source=PROBE)

    def check_effect(self) -> None:
        """Sample one image with the adapter on and off.

        Raises:
            UnitFailure: no_pixel_changed; else as `sample`.
        """
        batch = Batch.padded([self._probe], 1)
        changed = self.sample(batch)
        with self._adapter.off():
            plain = self.sample(batch)
        if changed[0].image is not None and pixels(changed) == pixels(plain):
            raise UnitFailure(Reason.no_pixel_changed, "an image is equal with the adapter on and off")


def pixels(images: list[SampledImage]) -> list[bytes | None]:
    """Return each image's pixels, None where there is no image."""
    return [sampled.image.tobytes() if sampled.image is not None else None for sampled in images]
