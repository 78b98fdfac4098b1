"""Latents whose decoding overflows in float16 become pixels all the same, and the precision is recorded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from samplers.unit_drawing import draw_unit
from shards.statuses import Reason

Specs = Callable[..., GeneratorSpec]
Units = Callable[..., UnitSpec]
Folders = Callable[[str], Path]


@pytest.fixture
def load_half(model_folder: Folders, spec_of: Specs, tmp_path: Path) -> Callable[..., Sampler]:
    """A family in float16 whose VAE has these config entries, and activations that float16 does or doesn't hold."""

    def load(family: str, *, loud: bool, dtype: Any = "float16", **config: Any) -> Sampler:
        folder = tmp_path / f"{family}-{loud}-{dtype}-{len(config)}"
        shutil.copytree(model_folder(family), folder)
        vae = AutoencoderKL.from_pretrained(folder / "vae")
        vae.register_to_config(**config)
        if loud:
            _make_loud(vae)
        vae.save_pretrained(folder / "vae")
        return load_sampler(spec_of(family), folder, dtype=dtype, device="cpu", components=ComponentStore())

    return load


def _make_loud(vae: AutoencoderKL) -> None:
    """Let the activations before the last norm pass 65,504 with weights that do not; the norm undoes it."""
    with torch.no_grad():
        vae.decoder.up_blocks[-1].resnets[-1].conv2.weight.mul_(3e5)


def _reasons(sampler: Sampler, unit: UnitSpec) -> list[Reason]:
    return [image.reason for image in draw_unit(unit, sampler, None)]


def _decode_dtype(sampler: Sampler) -> str:
    dtype: str = json.loads(sampler.call_record(1))["load"]["vae_decode_dtype"]
    return dtype


@pytest.mark.parametrize("family", ["pixart", "sdxl"])
def test_a_vae_that_overflows_is_lifted_by_us_or_by_its_pipeline(
    family: str, load_half: Callable[..., Sampler], spec_of: Specs, unit_of: Units
) -> None:
    unit = unit_of(spec_of(family), 2)
    lifted = load_half(family, loud=True, scaling_factor=0.13025)
    assert _decode_dtype(lifted) == "float32"
    assert _reasons(lifted, unit) == [Reason.none, Reason.none]
    left = load_half(family, loud=True, scaling_factor=0.13025, force_upcast=False)
    assert _decode_dtype(left) == "float16"
    assert set(_reasons(left, unit)) == {Reason.nan}


def test_the_repaired_vae_and_that_of_sd1_stay_in_float16(
    load_half: Callable[..., Sampler], spec_of: Specs, unit_of: Units
) -> None:
    for family, config in (("pixart", {"scaling_factor": 0.13025, "force_upcast": False}), ("sd", {})):
        sampler: Any = load_half(family, loud=False, **config)
        assert _decode_dtype(sampler) == "float16"
        assert _reasons(sampler, unit_of(spec_of(family), 2)) == [Reason.none, Reason.none]
        assert sampler._pipeline.vae.dtype == torch.float16


def test_lifting_decodes_as_a_float32_vae_with_the_same_weights_would_and_leaves_the_module_as_it_was(
    load_half: Callable[..., Sampler],
) -> None:
    sampler: Any = load_half("pixart", loud=False, scaling_factor=0.13025)
    vae = sampler._pipeline.vae
    reference = AutoencoderKL.from_config(vae.config).eval()
    reference.load_state_dict({name: tensor.float() for name, tensor in vae.state_dict().items()})
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    with torch.no_grad():
        for _ in range(2):
            ours = vae.decode(latents, return_dict=False)[0]
            assert ours.dtype == torch.float32 and torch.equal(ours, reference.decode(latents.float()).sample)
            assert vae.dtype == torch.float16
            assert torch.equal(vae.decode(latents).sample, ours)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_precisions_hold_any_value_and_are_left_alone(
    dtype: str, load_half: Callable[..., Sampler], spec_of: Specs, unit_of: Units
) -> None:
    sampler = load_half("pixart", loud=True, dtype=dtype, scaling_factor=0.13025)
    assert _decode_dtype(sampler) == dtype
    assert _reasons(sampler, unit_of(spec_of("pixart"), 1)) == [Reason.none]
