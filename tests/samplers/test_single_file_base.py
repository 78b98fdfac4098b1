"""What a checkpoint in one file takes of its base: what the catalog chose, whatever else lies in the caches."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from manifests.generator import BasePipeline, GeneratorSpec, WeightFile
from pipeline.demo.toy_adapter_weights import SINGLE_FILE
from samplers.base import Sampler
from shards.statuses import Reason, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]

GUESSED = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "openai/clip-vit-large-patch14", "toy/sd")
"""What diffusers guesses a Stable Diffusion 1 checkpoint to be for, and the id of the catalog's own choice."""
VAE, TEXT_ENCODER = "first_stage_model.", "cond_stage_model."


@pytest.fixture
def decoys(model_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub client's own cache, warm with whole pipelines of another make under every id that might be guessed."""
    cache = tmp_path / "hub"
    for repo_id in GUESSED:
        repo = cache / f"models--{repo_id.replace('/', '--')}"
        snapshot = repo / "snapshots" / ("d" * 40)
        shutil.copytree(model_folder("sd-finetune"), snapshot)
        _edit(snapshot / "unet" / "config.json", act_fn="gelu")
        _edit(snapshot / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
        _edit(snapshot / "tokenizer" / "tokenizer_config.json", model_max_length=7)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("d" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_the_trap_works(packaged_folder: Folders, decoys: Path) -> None:
    file = str(packaged_folder("single-file") / SINGLE_FILE)
    pipeline: Any = StableDiffusionPipeline.from_single_file(file, local_files_only=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.unet.config.act_fn == "gelu"
    for repo_id in GUESSED:
        assert UNet2DConditionModel.load_config(repo_id, subfolder="unet", local_files_only=True)["act_fn"] == "gelu"


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_complete_checkpoint_takes_nothing_of_the_cache(
    relative: bool,
    packaged_spec: Specs,
    load_packaged: Loader,
    model_folder: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
    decoys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the base's folder, given from here, reads like the id of a cached repo."""
    expected = fresh_pixels("single-file")
    base = _configs_of(model_folder("sd"), tmp_path / "toy" / "sd")
    monkeypatch.chdir(tmp_path)
    sampler = load_packaged(packaged_spec("single-file"), base_folder=Path("toy/sd") if relative else base)
    assert pixels_of(sampler) == expected


@pytest.mark.parametrize("lacking", [VAE, TEXT_ENCODER], ids=["vae", "text encoder"])
def test_what_a_checkpoint_lacks_is_no_other_generators(
    lacking: str, packaged_spec: Specs, load_packaged: Loader, packaged_folder: Folders, decoys: Path, tmp_path: Path
) -> None:
    """The catalog calls it complete, and the base's folder has all weights, fetched for others."""
    folder = _without(packaged_folder("single-file"), tmp_path / "single", lacking)
    with pytest.raises(UnitFailure) as failure:
        load_packaged(packaged_spec("single-file"), folder=folder, base="sd")
    assert failure.value.reason is Reason.missing_file
    assert failure.value.detail.startswith("vae: " if lacking == VAE else "text_encoder: ")


def test_only_the_chosen_parts_of_the_base_are_taken(
    packaged_spec: Specs,
    load_packaged: Loader,
    packaged_folder: Folders,
    model_folder: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
    decoys: Path,
    tmp_path: Path,
) -> None:
    """The base is a folder of its repo; its weights of a part that the catalog did not choose are not there for us."""
    expected = fresh_pixels("single-file")
    shutil.copytree(model_folder("sd"), tmp_path / "base" / "inner")
    folder = _without(packaged_folder("single-file"), tmp_path / "single", VAE)
    spec = packaged_spec("single-file")
    chosen = spec.model_copy(update={"base": _inner("vae/diffusion_pytorch_model.safetensors")})
    sampler = load_packaged(chosen, folder=folder, base_folder=tmp_path / "base")
    assert json.loads(sampler.call_record(2))["load"]["base_components"] == ["vae"]
    assert pixels_of(sampler) == expected
    other = spec.model_copy(update={"base": _inner("text_encoder/model.safetensors")})
    with pytest.raises(UnitFailure) as failure:
        load_packaged(other, folder=folder, base_folder=tmp_path / "base")
    assert failure.value.reason is Reason.missing_file and failure.value.detail.startswith("vae: ")


def _inner(path: str) -> BasePipeline:
    """The base pipeline in the folder `inner` of its repo, of which one weight file is needed."""
    files = (WeightFile(path=f"inner/{path}", size=1),)
    return BasePipeline(repo_id="toy/sd", revision="0" * 40, subfolder="inner", files=files)


def _without(checkpoint: Path, folder: Path, prefix: str) -> Path:
    """A copy of the checkpoint's folder without the tensors below `prefix`."""
    folder.mkdir()
    kept: dict[str, torch.Tensor] = load_file(checkpoint / SINGLE_FILE)
    save_file({key: value for key, value in kept.items() if not key.startswith(prefix)}, folder / SINGLE_FILE)
    return folder


def _configs_of(folder: Path, target: Path) -> Path:
    """What is fetched of a base for a complete checkpoint: everything but weights."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors")))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
