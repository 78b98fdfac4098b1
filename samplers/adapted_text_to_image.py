"""A prompt-painting pipeline with an adapter on it, which must show that it does something.

An adapter for another base, an untrained one, or one whose layers diffusers does not know can load without complaint
and leave every image as the base makes it. Such images must not enter a dataset as the adapter's. So the first batch is
sampled a second time, same draws and seeds, with the adapter off: one batch for each loading.
"""

from manifests.generator import GeneratorSpec
from samplers.base import Batch, SampledImage
from samplers.loading import LoadedPipeline
from samplers.text_to_image import TextToImageSampler
from shards.statuses import Reason, UnitFailure


class AdaptedTextToImageSampler(TextToImageSampler):
    """As for every text-to-image pipeline, after the adapter has changed at least one pixel of the first batch."""

    def __init__(self, spec: GeneratorSpec, loaded: LoadedPipeline) -> None:
        super().__init__(spec, loaded)
        if loaded.adapter is None:
            raise ValueError(f"{spec.name}: no adapter is attached")
        self._adapter = loaded.adapter
        self._shown = False

    def sample(self, batch: Batch) -> list[SampledImage]:
        """Return one image for each wanted slot of `batch`, in order.

        Raises:
            UnitFailure: no_pixel_changed; else as for every pipeline.
        """
        images = super().sample(batch)
        if not self._shown and any(sampled.image is not None for sampled in images):
            with self._adapter.off():
                plain = super().sample(batch)
            if pixels(images) == pixels(plain):
                raise UnitFailure(
                    Reason.no_pixel_changed, f"{len(images)} images are equal with the adapter on and off"
                )
            self._shown = True
        return images


def pixels(images: list[SampledImage]) -> list[bytes | None]:
    """Return each image's pixels, None where there is no image."""
    return [sampled.image.tobytes() if sampled.image is not None else None for sampled in images]
