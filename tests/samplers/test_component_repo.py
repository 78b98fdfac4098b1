"""A UNet published alone: wherever it lies in its repo, it is the base's pipeline with another UNet."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from manifests.generator import GeneratorSpec
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from shards.statuses import Reason, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy_of(packaged_folder: Folders, tmp_path: Path) -> Callable[[], Path]:
    """The UNet's folder, for a test to change."""
    return lambda: Path(shutil.copytree(packaged_folder("unet-only"), tmp_path / "unet-only"))


def _reason(load: Callable[[], Any]) -> tuple[Reason, str]:
    with pytest.raises(UnitFailure) as failure:
        load()
    return failure.value.reason, failure.value.detail


def test_images_are_those_of_the_whole_pipeline(
    packaged_folder: Folders,
    model_folder: Folders,
    spec_of: Specs,
    fresh_pixels: Callable[[str], list[bytes]],
    pixels_of: Pixels,
    tmp_path: Path,
) -> None:
    whole = Path(shutil.copytree(model_folder("sd"), tmp_path / "whole"))
    shutil.copytree(packaged_folder("unet-only"), whole / "unet", dirs_exist_ok=True)
    sampler = load_sampler(spec_of("sd"), whole, dtype="float32", device="cpu", components=ComponentStore())
    assert fresh_pixels("unet-only") == pixels_of(sampler)


@pytest.mark.parametrize("place", ["unet", "checkpoint-500/unet_ema", "checkpoint-500/unet"])
def test_it_may_lie_in_a_folder(
    place: str,
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Callable[[], Path],
    fresh_pixels: Callable[[str], list[bytes]],
    pixels_of: Pixels,
    tmp_path: Path,
) -> None:
    repo = tmp_path / "repo"
    (repo / place).parent.mkdir(parents=True)
    copy_of().rename(repo / place)
    subfolder = {"unet": None, "checkpoint-500/unet": "checkpoint-500"}.get(place, place)
    spec = packaged_spec("unet-only").model_copy(update={"subfolder": subfolder})
    sampler = load_packaged(spec, folder=repo)
    assert pixels_of(sampler) == fresh_pixels("unet-only")
    assert json.loads(sampler.call_record(1))["load"]["component"] == "unet"


def test_weights_in_one_named_file_take_the_bases_config(
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Callable[[], Path],
    fresh_pixels: Callable[[str], list[bytes]],
    pixels_of: Pixels,
) -> None:
    """As the 4-step UNets of SDXL are published."""
    folder = copy_of()
    (folder / "config.json").unlink()
    (folder / WEIGHTS).rename(folder / "toy_4step_unet.safetensors")
    spec = packaged_spec("unet-only").model_copy(update={"weight_name": "toy_4step_unet.safetensors"})
    assert pixels_of(load_packaged(spec, folder=folder)) == fresh_pixels("unet-only")
    file = folder / "toy_4step_unet.safetensors"
    tensors = load_file(file)
    lost = sorted(tensors)[5]
    save_file({key: value for key, value in tensors.items() if key != lost}, file)
    reason, detail = _reason(lambda: load_packaged(spec, folder=folder))
    assert reason is Reason.invalid_pipeline and lost in detail


def test_the_base_gives_the_rest_and_its_own_unet_is_never_read(
    packaged_spec: Specs, load_packaged: Loader, model_folder: Folders, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(model_folder("sd"), tmp_path / "base"))
    (base / "unet" / WEIGHTS).unlink()
    store = ComponentStore()
    first: Any = load_packaged(packaged_spec("unet-only"), store, base_folder=base)
    second: Any = load_packaged(packaged_spec("lora"), store)
    assert first._pipeline.vae is second._pipeline.vae
    assert first._pipeline.text_encoder is not second._pipeline.text_encoder  # which the LoRA may change
    assert store.count == 3


def test_missing_tensors_are_not_filled_with_noise(
    packaged_spec: Specs, load_packaged: Loader, copy_of: Callable[[], Path]
) -> None:
    folder = copy_of()
    tensors = load_file(folder / WEIGHTS)
    lost = sorted(tensors)[7]
    save_file({k: v for k, v in tensors.items() if k != lost}, folder / WEIGHTS, metadata={"format": "pt"})
    reason, detail = _reason(lambda: load_packaged(packaged_spec("unet-only"), folder=folder))
    assert reason is Reason.invalid_pipeline and lost in detail


@pytest.mark.parametrize(
    ("change", "reason", "named"),
    [
        ({"in_channels": 9}, Reason.invalid_pipeline, "in_channels is 9, but 4 in the base"),
        ({"cross_attention_dim": 48}, Reason.invalid_pipeline, "cross_attention_dim is 48, but 32"),
        ({"_class_name": "SD3Transformer2DModel"}, Reason.invalid_pipeline, "SD3Transformer2DModel"),
        ({"_class_name": "MyUNet"}, Reason.pipeline_class, "MyUNet"),
    ],
)
def test_what_does_not_fit_the_base(
    change: dict[str, Any],
    reason: Reason,
    named: str,
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Callable[[], Path],
) -> None:
    folder = copy_of()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    found, detail = _reason(lambda: load_packaged(packaged_spec("unet-only"), folder=folder))
    assert found is reason and named in detail


def test_a_unet_of_other_depth_is_fine(
    packaged_spec: Specs, load_packaged: Loader, packaged_folder: Folders, pixels_of: Pixels, tmp_path: Path
) -> None:
    """Only what the other components see must be the base's; distilled UNets are smaller inside."""
    config = json.loads((packaged_folder("unet-only") / "config.json").read_text()) | {"block_out_channels": [16, 32]}
    torch.manual_seed(1)
    unet: Any = UNet2DConditionModel.from_config(config)
    unet.save_pretrained(tmp_path)
    assert len(pixels_of(load_packaged(packaged_spec("unet-only"), folder=tmp_path))) == 2


def test_a_component_that_the_base_does_not_have(packaged_spec: Specs, load_packaged: Loader) -> None:
    spec = packaged_spec("unet-only").model_copy(update={"component": "transformer"})
    reason, detail = _reason(lambda: load_packaged(spec))
    assert reason is Reason.call_signature and "text_encoder, unet, vae" in detail
