"""Checkpoints in one file: the images of the pipeline that they were made of, no network, no tensor made up."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from manifests.generator import BasePipeline, GeneratorSpec, WeightFile
from pipeline.demo.toy_adapter_weights import SINGLE_FILE
from pipeline.demo.toy_checkpoint import unet_name, vae_name
from samplers.base import Sampler
from shards.statuses import Reason, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]
Tensors = dict[str, torch.Tensor]

SD3_PARTS = ["text_encoder", "text_encoder_2", "text_encoder_3", "vae"]


@pytest.fixture
def copy_of(packaged_folder: Folders, tmp_path: Path) -> Callable[[], Path]:
    """The checkpoint's folder, for a test to break."""
    return lambda: Path(shutil.copytree(packaged_folder("single-file"), tmp_path / "single"))


def _change(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / SINGLE_FILE
    save_file(change(load_file(file)), file)


def _reason(load: Callable[[], Any]) -> tuple[Reason, str]:
    with pytest.raises(UnitFailure) as failure:
        load()
    return failure.value.reason, failure.value.detail


def _record(sampler: Sampler) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(sampler.call_record(2))
    return record


def test_images_are_those_of_diffusers_alone(
    packaged_folder: Folders, model_folder: Folders, draws_of: Any, fresh_pixels: Callable[[str], list[bytes]]
) -> None:
    pipeline: Any = StableDiffusionPipeline.from_single_file(
        str(packaged_folder("single-file") / SINGLE_FILE), config=str(model_folder("sd")), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    draws = draws_of(2)
    noise = [torch.Generator("cpu").manual_seed(draw.seed) for draw in draws]
    images = pipeline([draw.prompt for draw in draws], num_inference_steps=2, generator=noise).images
    assert fresh_pixels("single-file") == [image.tobytes() for image in images]


def test_the_record_says_what_came_from_where(packaged_spec: Specs, load_packaged: Loader) -> None:
    load = _record(load_packaged(packaged_spec("single-file")))["load"]
    assert (load["packaging"], load["weight_name"], load["base_components"]) == ("single-file", SINGLE_FILE, [])
    assert load["base"]["repo_id"] == "toy/sd" and load["requires_safety_checker"] is False


@pytest.mark.parametrize("name", ["single-file", "lora", "textual-inversion", "unet-only"])
def test_no_connection_is_even_tried(
    name: str,
    packaged_spec: Specs,
    load_packaged: Loader,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Any] = []

    def refuse(*address: Any, **_: Any) -> Any:
        tried.append(address)
        raise OSError("no network here")

    expected = fresh_pixels(name)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    with pytest.raises(OSError, match="no network"):  # the trap works
        socket.create_connection(("hub.invalid", 443))
    tried.clear()
    assert pixels_of(load_packaged(packaged_spec(name))) == expected
    assert tried == []


def test_an_sdxl_checkpoint_is_its_pipeline(
    packaged_spec: Specs,
    load_packaged: Loader,
    model_folder: Folders,
    sampler_of: Callable[[str], Sampler],
    pixels_of: Pixels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl

    monkeypatch.setattr(pipeline_stable_diffusion_xl, "is_invisible_watermark_available", lambda: True)
    save_file(_sdxl_checkpoint(model_folder("sdxl")), tmp_path / "xl.safetensors")
    base = _configs_of(model_folder("sdxl"), tmp_path / "base")
    spec = packaged_spec("single-file", base="sdxl").model_copy(update={"weight_name": "xl.safetensors"})
    sampler: Any = load_packaged(spec, folder=tmp_path, base_folder=base)
    assert sampler._pipeline.watermark is None and _record(sampler)["load"]["add_watermarker"] is False
    assert pixels_of(sampler) == pixels_of(sampler_of("sdxl"))


def test_what_the_file_leaves_out_is_the_bases(
    packaged_spec: Specs,
    load_packaged: Loader,
    model_folder: Folders,
    sampler_of: Callable[[str], Sampler],
    pixels_of: Pixels,
    tmp_path: Path,
) -> None:
    """A transformer alone in a file, as most checkpoints of the large families are."""
    (weights,) = (model_folder("sd3") / "transformer").glob("*.safetensors")
    folder = tmp_path / "repo"
    folder.mkdir()
    shutil.copy(weights, folder / "sd3.safetensors")
    spec = packaged_spec("single-file", base="sd3").model_copy(
        update={"weight_name": None, "base": _base_with(model_folder("sd3"), "sd3", SD3_PARTS)}
    )
    sampler = load_packaged(spec, folder=folder, base="sd3")
    assert _record(sampler)["load"]["base_components"] == SD3_PARTS
    assert pixels_of(sampler) == pixels_of(sampler_of("sd3"))
    bare = _configs_of(model_folder("sd3"), tmp_path / "base")
    reason, detail = _reason(lambda: load_packaged(spec, folder=folder, base_folder=bare))
    assert reason is Reason.missing_file and "text_encoder" in detail


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.middle_block.1.norm.weight",
        "model.diffusion_model.out.2.bias",
        "first_stage_model.decoder.conv_in.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_missing_tensors_are_not_filled_with_noise(
    lost: str, packaged_spec: Specs, load_packaged: Loader, copy_of: Callable[[], Path]
) -> None:
    folder = copy_of()
    _change(folder, lambda old: {key: value for key, value in old.items() if key != lost})
    reason, detail = _reason(lambda: load_packaged(packaged_spec("single-file"), folder=folder))
    assert reason is Reason.invalid_pipeline
    assert {"model": "unet", "first_stage_model": "vae", "cond_stage_model": "text_encoder"}[
        lost.split(".")[0]
    ] in detail


def test_what_is_no_checkpoint_of_the_base(
    packaged_spec: Specs, load_packaged: Loader, copy_of: Callable[[], Path]
) -> None:
    spec = packaged_spec("single-file")
    folder = copy_of()
    _change(folder, lambda old: {k: v for k, v in old.items() if not k.startswith("model.diffusion_model.")})
    assert _reason(lambda: load_packaged(spec, folder=folder))[0] is Reason.invalid_pipeline
    _change(folder, lambda old: {"some.weight": torch.ones(3)})
    assert _reason(lambda: load_packaged(spec, folder=folder))[0] is Reason.invalid_pipeline
    (folder / SINGLE_FILE).write_bytes(b"no tensors")
    assert _reason(lambda: load_packaged(spec, folder=folder))[0] is Reason.corrupt_weights
    pickled = spec.model_copy(update={"weight_name": "model.ckpt"})
    assert _reason(lambda: load_packaged(pickled, folder=folder))[0] is Reason.missing_file


def test_tensors_of_another_shape(packaged_spec: Specs, load_packaged: Loader, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    key = "model.diffusion_model.input_blocks.0.0.weight"
    _change(folder, lambda old: old | {key: torch.cat([old[key]] * 2, dim=1)})  # the nine channels of inpainting, say
    reason, detail = _reason(lambda: load_packaged(packaged_spec("single-file"), folder=folder))
    assert reason is Reason.invalid_pipeline and "conv_in.weight" in detail


def test_markers_in_the_file_choose_what_is_predicted(
    packaged_spec: Specs, load_packaged: Loader, copy_of: Callable[[], Path]
) -> None:
    folder = copy_of()
    _change(folder, lambda old: old | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)})
    config = _record(load_packaged(packaged_spec("single-file"), folder=folder))["scheduler"]["config"]
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert config["timestep_spacing"] == "trailing"
    asked = packaged_spec("single-file", scheduler_config={"timestep_spacing": "leading"})
    config = _record(load_packaged(asked, folder=folder))["scheduler"]["config"]
    assert (config["prediction_type"], config["timestep_spacing"]) == ("v_prediction", "leading")


def _base_with(folder: Path, name: str, parts: list[str]) -> BasePipeline:
    """The base `toy/NAME`, whose files are in `folder`, as the catalog pins it for a checkpoint that lacks `parts`."""
    weights = [file for part in parts for file in sorted((folder / part).glob("*.safetensors"))]
    files = tuple(WeightFile(path=file.relative_to(folder).as_posix(), size=file.stat().st_size) for file in weights)
    return BasePipeline(repo_id=f"toy/{name}", revision="0" * 40, files=files)


def _configs_of(folder: Path, target: Path) -> Path:
    """What is fetched of a base for a complete checkpoint: everything but weights."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors")))


def _sdxl_checkpoint(folder: Path) -> Tensors:
    """The original layout of SDXL: two text encoders, the second one in OpenCLIP's."""

    def tensors(name: str) -> Tensors:
        (file,) = (folder / name).glob("*.safetensors")
        return load_file(file)

    checkpoint = {}
    for key, value in tensors("unet").items():
        added = key.replace("add_embedding.linear_1", "label_emb.0.0").replace(
            "add_embedding.linear_2", "label_emb.0.2"
        )
        name = added if added != key else unet_name(key, layers=1)
        checkpoint[f"model.diffusion_model.{name}"] = value
    for key, value in tensors("vae").items():
        name = vae_name(key, blocks=4)
        flat = ".attn_1." in name and value.ndim == 2
        checkpoint[f"first_stage_model.{name}"] = value[:, :, None, None].contiguous() if flat else value
    for key, value in tensors("text_encoder").items():
        checkpoint[f"conditioner.embedders.0.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    return checkpoint | {
        f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(tensors("text_encoder_2")).items()
    }


def _open_clip(tensors: Tensors) -> Tensors:
    names = {
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    parts["self_attn.out_proj"] = "attn.out_proj"
    result = {"text_projection": tensors["text_projection.weight"].T.contiguous()}
    for key, value in tensors.items():
        name = key.removeprefix("text_model.")
        if name in names:
            result[names[name]] = value
        elif name.startswith("encoder.layers."):
            number, part = name.removeprefix("encoder.layers.").split(".", 1)
            stem, kind = part.rsplit(".", 1)
            if stem in parts:
                result[f"transformer.resblocks.{number}.{parts[stem]}.{kind}"] = value
            elif stem == "self_attn.q_proj":
                joined = [tensors[key.replace("q_proj", letter)] for letter in ("q_proj", "k_proj", "v_proj")]
                result[f"transformer.resblocks.{number}.attn.in_proj_{kind}"] = torch.cat(joined)
    return result
