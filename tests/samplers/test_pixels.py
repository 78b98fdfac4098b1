"""Our 8-bit conversion is diffusers' own, and what is not a number is noticed before it."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from manifests.draws import Draw
from samplers.base import Batch, Sampler
from samplers.pixels import images_from_output

FAMILIES = ["sd", "lcm", "sdxl", "pixart", "sd3", "dit", "ddpm"]


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_the_pipelines_own_pil_output(
    family: str, sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]
) -> None:
    sampler: Any = sampler_of(family)
    batch = Batch.padded(draws_of(2), 2)
    ours = [sampled.image for sampled in sampler.sample(batch)]
    pipeline = sampler._pipeline
    arguments = {"num_inference_steps": 2, "output_type": "pil", **sampler.conditioning(batch)}
    if family == "pixart":
        arguments |= {"use_resolution_binning": False, "clean_caption": False}
    assert "generator" in inspect.signature(pipeline.__call__).parameters
    theirs = pipeline(**arguments, generator=[torch.Generator().manual_seed(draw.seed) for draw in batch.draws]).images
    assert len(ours) == len(theirs) == 2
    for our, their in zip(ours, theirs, strict=True):
        assert our is not None
        assert (our.mode, our.size, our.tobytes()) == (their.mode, their.size, their.tobytes())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_equals_diffusers_in_every_precision(channels: int, dtype: torch.dtype) -> None:
    tensor = torch.rand(2, channels, 33, 17, generator=torch.Generator().manual_seed(0)).to(dtype)
    theirs = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(tensor))
    for form in (tensor, tensor.float().permute(0, 2, 3, 1).numpy()):
        ours = images_from_output(form, 2)
        assert [image and (image.mode, image.tobytes()) for image in ours] == [
            (image.mode, image.tobytes()) for image in theirs
        ]


def test_padding_is_dropped_and_bad_slots_are_none() -> None:
    tensor = torch.full((4, 3, 8, 8), 0.5)
    tensor[1, 2, 3, 4] = float("nan")
    tensor[2, 0, 0, 0] = float("inf")
    first, second, third = images_from_output(tensor, 3)
    assert second is None and third is None
    assert first is not None and first.getpixel((0, 0)) == (128, 128, 128)


def test_pillow_output_loses_its_metadata() -> None:
    image = Image.new("RGB", (4, 4))
    image.info["parameters"] = "secret"
    (bare,) = images_from_output([image], 1)
    assert bare is not None and bare.info == {}
    assert bare.tobytes() == image.tobytes()


@pytest.mark.parametrize("output", [torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8), np.zeros((2, 2)), ["x"], None])
def test_other_forms_are_refused(output: object) -> None:
    with pytest.raises(ValueError, match="the pipeline's images are"):
        images_from_output(output, 1)


def test_fewer_images_than_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="returned 1 images for 2"):
        images_from_output(torch.zeros(1, 3, 8, 8), 2)
