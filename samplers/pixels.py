"""From a pipeline's raw output to images, so that values that are not numbers are seen before they become pixels.

The conversion to 8 bits is diffusers' own rule, round(255 x) in float32, done where the tensor is: only bytes leave
the GPU. A test holds it equal to `output_type="pil"`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image


def images_from_output(output: Any, real: int) -> list[Image.Image | None]:
    """Return the first `real` images of a pipeline's `images`; None where a value is NaN or infinite.

    Args:
        output: float tensor (N, C, H, W) or array (N, H, W, C) with values in 0..1 and 1, 3 or 4 channels, or a list of
            Pillow images, from a pipeline that knows no other form.
        real: how many are wanted; the rest is padding.

    Raises:
        ValueError: any other form, or fewer images than wanted.
    """
    if isinstance(output, np.ndarray) and output.ndim == 4:
        output = torch.from_numpy(output).permute(0, 3, 1, 2)
    if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[1] in (1, 3, 4):
        _enough(len(output), real)
        return _from_tensor(output[:real])
    if isinstance(output, Sequence) and all(isinstance(image, Image.Image) for image in output):
        _enough(len(output), real)
        return [_bare(image) for image in output[:real]]
    shape = getattr(output, "shape", None)
    raise ValueError(
        f"the pipeline's images are a {type(output).__name__}{f' of shape {tuple(shape)}' if shape else ''}"
    )


def _enough(found: int, wanted: int) -> None:
    if found < wanted:
        raise ValueError(f"the pipeline returned {found} images for {wanted} prompts")


def _from_tensor(tensor: torch.Tensor) -> list[Image.Image | None]:
    finite = torch.isfinite(tensor).flatten(1).all(dim=1).tolist()
    pixels = (tensor.float().nan_to_num() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    arrays = pixels.contiguous().cpu().numpy()
    return [_image(array) if good else None for array, good in zip(arrays, finite, strict=True)]


def _image(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _bare(image: Image.Image) -> Image.Image:
    """The image without metadata, which the encoder would otherwise write into the file."""
    if image.info:
        image = image.copy()
        image.info = {}
    return image
