"""Community Forensics' training augmentation (section 4), "random state augmentation", from an explicit generator.

Eleven operations are each drawn 0, 1 or 2 times and the drawn multiset is applied in random order. Parameters are those
of the released code. One deliberate difference: there, the padding operation hands (width, height) to a resize that
expects (height, width), so that a non-square image comes back with its sides swapped; here it comes back as it was.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812 (torchvision's own name for it)

from detectors.architecture import ArchitectureConfig, Preprocessing
from detectors.preprocessing import resize_short_side, to_normalised_tensor

Operation = Callable[[Image.Image, int, np.random.Generator], Image.Image]
"""(image, crop in pixels, generator) -> image. An image whose sides are at least `crop` keeps them so."""

MAX_REPEATS = 2
JPEG_QUALITY = (75, 100)
RESIZE_FACTOR = 1.228
CROP_AREA = (0.9, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
ROTATION_DEGREES = 15.0
TRANSLATION = 0.1
SHEAR_DEGREES = 15.0
PADDING = 0.05
CUTOUT_AREA = (0.02, 0.06)
CUTOUT_ASPECT = (0.3, 3.3)
_ATTEMPTS = 10


def jpeg(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Compress at a quality of 75 to 100 with Pillow or OpenCV, even odds."""
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as compressed:
            return compressed.convert("RGB")
    bgr = np.asarray(image)[:, :, ::-1]
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode a {image.width} × {image.height} image as JPEG")
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV could not decode the JPEG that it encoded")
    return Image.fromarray(decoded[:, :, ::-1])


def resize(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Resize the short side to U[crop + 1, 1.228 × crop], bilinear or bicubic."""
    size = int(rng.integers(crop + 1, max(round(RESIZE_FACTOR * crop), crop + 1) + 1))
    return resize_short_side(image, size, "bilinear" if rng.random() < 0.5 else "bicubic")


def random_crop(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Cut a square of side `crop` at a uniformly drawn place."""
    left = int(rng.integers(image.width - crop + 1))
    top = int(rng.integers(image.height - crop + 1))
    return F.crop(image, top, left, crop, crop)


def horizontal_flip(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Mirror left and right with probability 0.5."""
    return F.hflip(image) if rng.random() < 0.5 else image


def vertical_flip(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Mirror top and bottom with probability 0.5."""
    return F.vflip(image) if rng.random() < 0.5 else image


def random_resized_crop(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Cut 90 to 100% of the area at an aspect of 3/4 to 4/3 and resize it to `crop` × `crop` with one of six filters.

    When ten draws do not fit inside the image, the largest centred rectangle within the aspect bounds is taken.
    """
    filters = (
        InterpolationMode.NEAREST,
        InterpolationMode.BILINEAR,
        InterpolationMode.BICUBIC,
        InterpolationMode.LANCZOS,
        InterpolationMode.HAMMING,
        InterpolationMode.BOX,
    )
    top, left, height, width = _rectangle(image, rng)
    interpolation = filters[int(rng.integers(len(filters)))]
    return F.resized_crop(image, top, left, height, width, [crop, crop], interpolation)


def _rectangle(image: Image.Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
    area = image.width * image.height
    for _ in range(_ATTEMPTS):
        width, height = _sides(area * rng.uniform(*CROP_AREA), _log_uniform(CROP_ASPECT, rng))
        if 0 < width <= image.width and 0 < height <= image.height:
            top = int(rng.integers(image.height - height + 1))
            left = int(rng.integers(image.width - width + 1))
            return top, left, height, width
    low, high = CROP_ASPECT
    aspect = image.width / image.height
    width = image.width if aspect <= high else round(image.height * high)
    height = image.height if aspect >= low else round(image.width / low)
    return (image.height - height) // 2, (image.width - width) // 2, height, width


def _sides(area: float, aspect: float) -> tuple[int, int]:
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def rotation(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Rotate by U[-15°, 15°] about the centre, bilinear; corners become black."""
    angle = float(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    return F.rotate(image, angle, InterpolationMode.BILINEAR)


def translation(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Shift by up to 10% of the width and of the height, in whole pixels; uncovered pixels become black."""
    shift = [
        round(float(rng.uniform(-TRANSLATION, TRANSLATION)) * image.width),
        round(float(rng.uniform(-TRANSLATION, TRANSLATION)) * image.height),
    ]
    return F.affine(image, 0.0, shift, 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)


def shear(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Shear by U[-15°, 15°] along each axis, bilinear; uncovered pixels become black."""
    angles = [float(rng.uniform(-SHEAR_DEGREES, SHEAR_DEGREES)) for _ in range(2)]
    return F.affine(image, 0.0, [0, 0], 1.0, angles, InterpolationMode.BILINEAR)


def padding(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """Pad each side by up to 5% with one random grey and resize back, bilinear."""
    left, top, right, bottom = (int(float(rng.uniform(0, PADDING)) * side) for side in (image.width, image.height) * 2)
    grey = int(rng.integers(256))
    padded = F.pad(image, [left, top, right, bottom], fill=grey)
    return F.resize(padded, [image.height, image.width], InterpolationMode.BILINEAR)


def cutout(image: Image.Image, crop: int, rng: np.random.Generator) -> Image.Image:
    """With probability 0.5, fill a rectangle of 2 to 6% of the area, aspect 0.3 to 3.3, with one random grey."""
    if rng.random() >= 0.5:
        return image
    grey = int(rng.integers(256))
    for _ in range(_ATTEMPTS):
        area = image.width * image.height * float(rng.uniform(*CUTOUT_AREA))
        width, height = _sides(area, _log_uniform(CUTOUT_ASPECT, rng))
        if width < image.width and height < image.height:
            left = int(rng.integers(image.width - width + 1))
            top = int(rng.integers(image.height - height + 1))
            erased = image.copy()
            erased.paste((grey, grey, grey), (left, top, left + width, top + height))
            return erased
    return image


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "jpeg": jpeg,
        "resize": resize,
        "random_crop": random_crop,
        "horizontal_flip": horizontal_flip,
        "vertical_flip": vertical_flip,
        "random_resized_crop": random_resized_crop,
        "rotation": rotation,
        "translation": translation,
        "shear": shear,
        "padding": padding,
        "cutout": cutout,
    }
)
"""The eleven operations by name."""


def draw_operations(rng: np.random.Generator) -> list[str]:
    """Return the names to apply, in order: each of the eleven 0, 1 or 2 times (uniform), shuffled."""
    counts = rng.integers(0, MAX_REPEATS + 1, size=len(OPERATIONS))
    names = [name for name, count in zip(OPERATIONS, counts, strict=True) for _ in range(count)]
    return [names[place] for place in rng.permutation(len(names))]


@dataclass(frozen=True)
class TrainingTransform:
    """Resize the short side, augment by the architecture's recipe, crop at random, normalise.

    Called with an RGB image and the generator that decides everything random; returns float32 (3, crop, crop).
    With the recipe "none" only the random crop is drawn.
    """

    config: ArchitectureConfig

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> torch.Tensor:
        preprocessing: Preprocessing = self.config.preprocessing
        image = resize_short_side(image, preprocessing.resize_short_side, preprocessing.interpolation)
        if self.config.augmentation == "community-forensics":
            for name in draw_operations(rng):
                image = OPERATIONS[name](image, preprocessing.crop, rng)
        return to_normalised_tensor(random_crop(image, preprocessing.crop, rng), preprocessing)
