"""From image bytes to the tensor a detector sees at test time."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812 (torchvision's own name for it)

from detectors.architecture import Preprocessing

_MAX_RESIZED_PIXELS = 1 << 27

_INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}

ImageTransform = Callable[[Image.Image], torch.Tensor]


class UnreadableImage(Exception):  # noqa: N818 - named for what is the case
    """The bytes are not an image that can be decoded, or not one that can be resized within reason."""


def decode_rgb(data: bytes) -> Image.Image:
    """Return the image in `data` as 8-bit RGB.

    First frame, alpha dropped, EXIF orientation ignored, as in the papers' code. 16-bit greyscale is scaled to 8 bits
    (Pillow's own conversion would clip it to white).

    Raises:
        UnreadableImage: truncated, not an image, or larger than Pillow's decompression limit.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.mode.startswith("I;16"):
                grey = np.asarray(image, dtype=np.uint16) // 257
                return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"cannot decode the image: {error}") from error


def resize_short_side(image: Image.Image, size: int, interpolation: str = "bilinear") -> Image.Image:
    """Return `image` with its short side at `size` pixels, up or down, the aspect kept.

    Raises:
        UnreadableImage: so elongated that the result would have more than 2^27 pixels.
    """
    long_side, short_side = max(image.size), min(image.size)
    if size * size * (long_side / short_side) > _MAX_RESIZED_PIXELS:
        raise UnreadableImage(f"{image.width} × {image.height} is too elongated to resize its short side to {size}")
    return F.resize(image, [size], _INTERPOLATION[interpolation], antialias=True)


@dataclass(frozen=True)
class InferenceTransform:
    """Community Forensics' test transform: resize the short side, crop the centre, normalise.

    Called with an RGB image of any size, returns float32 (3, crop, crop). The resize enlarges images below the crop.
    """

    config: Preprocessing

    def __call__(self, image: Image.Image) -> torch.Tensor:
        resized = resize_short_side(image, self.config.resize_short_side, self.config.interpolation)
        return to_normalised_tensor(F.center_crop(resized, [self.config.crop]), self.config)


def to_normalised_tensor(image: Image.Image, config: Preprocessing) -> torch.Tensor:
    """Return float32 (3, H, W): pixels over 255, minus the mean, over the standard deviation."""
    return F.normalize(F.to_tensor(image), list(config.mean), list(config.std))
