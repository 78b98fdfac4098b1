"""Give every image the same format and size before it is scored, so that neither can tell the label.

A dataset whose reals are JPEG files of camera size and whose fakes are square PNG files lets a detector score well on
the container alone. Metrics after this step stand beside the native ones; a large drop says that the container helped.
"""

import io
from dataclasses import dataclass

import torch
from PIL import Image

from detectors.architecture import Preprocessing
from detectors.preprocessing import InferenceTransform

JPEG_QUALITY = 90


def equalise(image: Image.Image, side: int) -> Image.Image:
    """Return the centre square of an RGB image, resized to `side` × `side` and passed through JPEG.

    Bicubic, antialiased; JPEG quality 90, 4:2:0, Pillow. The resize comes before the JPEG, so that an earlier
    compression's block grid does not survive in one class only (it does where the square already had this size).
    """
    square = min(image.size)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    box = (left, top, left + square, top + square)
    resized = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
    buffer = io.BytesIO()
    resized.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    with Image.open(buffer) as encoded:
        return encoded.convert("RGB")


def describe_equalisation(config: Preprocessing) -> str:
    """Return one sentence that says what `equalise` does for this preprocessing."""
    side = config.resize_short_side
    return (
        f"every image: centre square, bicubic resize to {side} × {side}, JPEG quality {JPEG_QUALITY} 4:2:0 in memory, "
        f"then the detector's own preprocessing (centre crop {config.crop})"
    )


@dataclass(frozen=True)
class NativeAndEqualised:
    """Both views of an image from one decode: (native, equalised), each float32 (3, crop, crop)."""

    config: Preprocessing

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        transform = InferenceTransform(self.config)
        return transform(image), transform(equalise(image, self.config.resize_short_side))
