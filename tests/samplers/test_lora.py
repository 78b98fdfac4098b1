"""LoRAs of every format: what of the file is loaded, that it does something, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from manifests.generator import GeneratorSpec
from pipeline.demo.toy_adapter_weights import KOHYA_FILE, LORA_FILE
from samplers.base import Batch, Sampler
from samplers.component_store import ComponentStore
from shards.statuses import Reason, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]


def _load_options(sampler: Sampler) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(sampler.call_record(2))["load"]
    return options


def _reason(load: Callable[[], Any]) -> tuple[Reason, str]:
    with pytest.raises(UnitFailure) as failure:
        load()
    return failure.value.reason, failure.value.detail


@pytest.fixture
def copy_of(packaged_folder: Folders, tmp_path: Path) -> Folders:
    """A LoRA's folder that a test may change."""
    return lambda name: Path(shutil.copytree(packaged_folder(name), tmp_path / name))


def _change(file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _factors(module: torch.nn.Module, prefix: str, names: tuple[str, ...], seed: int) -> dict[str, torch.Tensor]:
    """LoRA factors of rank 2 for every linear layer of `module` whose path ends with one of `names`."""
    noise = torch.Generator().manual_seed(seed)
    factors = {}
    for path, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear) and path.endswith(names):
            down = torch.randn(2, layer.in_features, generator=noise) / layer.in_features**0.5
            factors[f"{prefix}.{path}.lora_A.weight"] = down
            factors[f"{prefix}.{path}.lora_B.weight"] = 0.5 * torch.randn(layer.out_features, 2, generator=noise)
    return factors


def _diffusers_pixels(folder: Path, load: Callable[[Any], None], draws: Any) -> list[bytes]:
    """The images that diffusers alone makes: an independent reference for bytes."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    load(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    noise = [torch.Generator("cpu").manual_seed(draw.seed) for draw in draws]
    prompts = [draw.prompt for draw in draws]
    return [image.tobytes() for image in pipeline(prompts, num_inference_steps=2, generator=noise).images]


# What is loaded


@pytest.mark.parametrize(("name", "keys"), [("lora", 112), ("kohya-lora", 136), ("lcm-lora", 112)])
def test_every_key_of_every_format_is_accounted_for(
    name: str, keys: int, packaged_spec: Specs, load_packaged: Loader, packaged_folder: Folders
) -> None:
    (file,) = packaged_folder(name).glob("*.safetensors")
    assert keys == sum(not key.endswith(".alpha") for key in load_file(file))
    options = _load_options(load_packaged(packaged_spec(name)))
    assert options["adapter"] == {"scale": 1.0, "loaded_keys": keys, "ignored_keys": 0}
    assert options["weight_name"] == file.name and options["packaging"] == "lora"
    assert options["base"]["repo_id"] == "toy/sd"


def test_images_are_those_of_diffusers_alone(
    packaged_spec: Specs,
    load_packaged: Loader,
    packaged_folder: Folders,
    model_folder: Folders,
    draws_of: Any,
    pixels_of: Pixels,
) -> None:
    def lora(pipeline: Any) -> None:
        pipeline.load_lora_weights(packaged_folder("kohya-lora"), weight_name=KOHYA_FILE, adapter_name="a")
        pipeline.set_adapters(["a"], [0.7])

    draws = [
        draw.model_copy(update={"prompt": f"toydoodle, {draw.prompt}"}) for draw in draws_of(2, prompt="a red cat")
    ]
    expected = _diffusers_pixels(model_folder("sd"), lora, draws)
    sampler = load_packaged(packaged_spec("kohya-lora", adapter_scale=0.7))
    assert pixels_of(sampler, prompt="a red cat") == expected
    assert _load_options(sampler)["adapter"]["scale"] == 0.7


def test_the_scale_counts(
    packaged_spec: Specs, load_packaged: Loader, pixels_of: Pixels, fresh_pixels: Callable[[str], list[bytes]]
) -> None:
    full, half = (pixels_of(load_packaged(packaged_spec("lora", adapter_scale=scale))) for scale in (1.0, 0.5))
    unset = fresh_pixels("lora")
    assert full == unset != half


def test_alpha_halves_what_the_file_says(
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
) -> None:
    """Twice the alpha at half the scale is the same adapter, for the UNet as for the text encoder."""
    folder = copy_of("kohya-lora")
    _change(folder / KOHYA_FILE, lambda old: {k: 2 * v if k.endswith("alpha") else v for k, v in old.items()})
    doubled = load_packaged(packaged_spec("kohya-lora", adapter_scale=0.5), folder=folder)
    assert pixels_of(doubled) == fresh_pixels("kohya-lora")


def test_a_file_that_is_partly_of_another_model_says_how_much_was_ignored(
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
) -> None:
    folder = copy_of("lora")
    foreign = {f"unet.up_blocks.9.attn.to_q.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    _change(folder / LORA_FILE, lambda old: old | foreign)
    sampler = load_packaged(packaged_spec("lora"), folder=folder)
    assert _load_options(sampler)["adapter"] == {"scale": 1.0, "loaded_keys": 112, "ignored_keys": 2}
    assert pixels_of(sampler) == fresh_pixels("lora")


def test_dora_in_diffusers_own_format_is_loaded_whole(
    packaged_spec: Specs,
    load_packaged: Loader,
    copy_of: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
) -> None:
    folder = copy_of("lora")

    def magnitudes(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ups = {key: value for key, value in old.items() if ".lora_B." in key}
        return old | {
            key.replace(".lora_B.weight", ".lora_magnitude_vector"): torch.full((len(value),), 0.7)
            for key, value in ups.items()
        }

    _change(folder / LORA_FILE, magnitudes)
    sampler = load_packaged(packaged_spec("lora"), folder=folder)
    assert _load_options(sampler)["adapter"] == {"scale": 1.0, "loaded_keys": 168, "ignored_keys": 0}
    assert pixels_of(sampler) != fresh_pixels("lora")


def test_the_named_file_of_several_is_taken(
    packaged_spec: Specs, load_packaged: Loader, copy_of: Folders, packaged_folder: Folders, pixels_of: Pixels
) -> None:
    folder = copy_of("lora")
    (folder / "checkpoints").mkdir()
    shutil.copy(packaged_folder("lcm-lora") / LORA_FILE, folder / "checkpoints" / "step-9.safetensors")
    named = packaged_spec("lora").model_copy(update={"weight_name": "checkpoints/step-9.safetensors"})
    chosen = load_packaged(named, folder=folder)
    assert _load_options(chosen)["weight_name"] == "checkpoints/step-9.safetensors"
    only = load_packaged(packaged_spec("lora"), folder=packaged_folder("lcm-lora"))
    assert pixels_of(chosen) == pixels_of(only)
    reason, detail = _reason(lambda: load_packaged(packaged_spec("lora"), folder=folder))
    assert reason is Reason.missing_file and "checkpoints/step-9.safetensors" in detail


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_architectures_with_their_text_encoders(
    family: str, dtype: str, packaged_spec: Specs, load_packaged: Loader, sampler_of: Any, tmp_path: Path
) -> None:
    parts = sampler_of(family)._pipeline.components
    denoiser = "unet" if family == "sdxl" else "transformer"
    tensors = _factors(parts[denoiser], denoiser, ("to_q", "to_k", "to_v", "add_k_proj"), 1)
    for number, encoder in enumerate(("text_encoder", "text_encoder_2")):
        tensors |= _factors(parts[encoder], encoder, ("q_proj", "v_proj", "fc1"), 2 + number)
    save_file(tensors, tmp_path / "adapter.safetensors", metadata={"format": "pt"})
    spec = packaged_spec("lora", base=family).model_copy(update={"dtype": dtype})
    sampler: Any = load_packaged(spec, folder=tmp_path, base=family)
    assert _load_options(sampler)["adapter"]["loaded_keys"] == len(tensors)
    for name in (denoiser, "text_encoder", "text_encoder_2"):
        assert getattr(sampler._pipeline, name).peft_config.keys() == {"generator"}
    assert {p.dtype for n, p in sampler._pipeline.components[denoiser].named_parameters()} == {getattr(torch, dtype)}
    sampler._pipeline = None


# That it does something


def test_an_adapter_that_changes_no_pixel_is_found(packaged_spec: Specs, load_packaged: Loader) -> None:
    sampler = load_packaged(packaged_spec("no-effect-lora"))
    assert _load_options(sampler)["adapter"]["loaded_keys"] == 112
    reason, _ = _reason(sampler.check_effect)
    assert reason is Reason.no_pixel_changed


def test_the_guard_asks_for_the_same_image_whatever_was_sampled_before(
    packaged_spec: Specs, load_packaged: Loader, draws_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its answer cannot depend on the unit that happens to be first in a worker."""
    sampler: Any = load_packaged(packaged_spec("lora"))
    calls = []
    original = type(sampler._pipeline).__call__
    monkeypatch.setattr(
        type(sampler._pipeline),
        "__call__",
        lambda self, **kw: calls.append((kw["prompt"], kw["generator"][0].initial_seed())) or original(self, **kw),
    )
    sampler.check_effect()
    sampler.sample(Batch.padded(draws_of(2), 2))
    sampler.check_effect()
    on, off, drawn, on_again, off_again = calls
    assert on == off == on_again == off_again != drawn


# What is refused


def test_a_lora_for_another_architecture_loads_nothing(packaged_spec: Specs, load_packaged: Loader) -> None:
    assert _reason(lambda: load_packaged(packaged_spec("mismatched-lora")))[0] is Reason.no_keys_loaded


def test_a_lora_whose_layers_the_base_does_not_have(
    packaged_spec: Specs, load_packaged: Loader, tmp_path: Path
) -> None:
    tensors = {f"unet.no_such.to_q.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(tensors, tmp_path / LORA_FILE)
    assert _reason(lambda: load_packaged(packaged_spec("lora"), folder=tmp_path))[0] is Reason.no_keys_loaded


def test_a_file_without_lora_keys(packaged_spec: Specs, load_packaged: Loader, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 2)}, tmp_path / LORA_FILE)
    assert _reason(lambda: load_packaged(packaged_spec("lora"), folder=tmp_path))[0] is Reason.no_keys_loaded


def test_a_lora_of_other_widths(packaged_spec: Specs, load_packaged: Loader, copy_of: Folders) -> None:
    folder = copy_of("lora")
    _change(
        folder / LORA_FILE,
        lambda old: {k: v[:, :-1].contiguous() if ".attn2.to_k.lora_A" in k else v for k, v in old.items()},
    )
    assert _reason(lambda: load_packaged(packaged_spec("lora"), folder=folder))[0] is Reason.invalid_pipeline


def test_half_a_pair_is_not_filled_with_noise(packaged_spec: Specs, load_packaged: Loader, copy_of: Folders) -> None:
    folder = copy_of("lora")
    _change(folder / LORA_FILE, lambda old: {k: v for k, v in old.items() if "down_blocks.0" not in k or "_A." in k})
    reason, detail = _reason(lambda: load_packaged(packaged_spec("lora"), folder=folder))
    assert reason is Reason.invalid_pipeline and LORA_FILE in detail


def test_broken_and_pickled_files(packaged_spec: Specs, load_packaged: Loader, copy_of: Folders) -> None:
    folder = copy_of("lora")
    file = folder / LORA_FILE
    file.write_bytes(file.read_bytes()[:-9])
    assert _reason(lambda: load_packaged(packaged_spec("lora"), folder=folder))[0] is Reason.corrupt_weights
    file.rename(file.with_suffix(".bin"))
    assert _reason(lambda: load_packaged(packaged_spec("lora"), folder=folder))[0] is Reason.missing_file
    pickled = packaged_spec("lora").model_copy(update={"weight_name": "pytorch_lora_weights.bin"})
    assert _reason(lambda: load_packaged(pickled, folder=folder))[0] is Reason.missing_file


def test_only_text_to_image_takes_adapters(
    packaged_spec: Specs, load_packaged: Loader, packaged_folder: Folders
) -> None:
    for kind, family in (("class-conditional", "dit"), ("unconditional", "ddpm")):
        spec = packaged_spec("lora", base=family).model_copy(update={"kind": kind})
        assert _reason(lambda: load_packaged(spec, base=family))[0] is Reason.call_signature  # noqa: B023
    claimed = packaged_spec("lora", base="pixart")  # a text-to-image class whose loader knows no LoRA
    assert _reason(lambda: load_packaged(claimed, base="pixart"))[0] is Reason.call_signature


def test_an_adapter_without_a_base_is_refused(packaged_spec: Specs, load_packaged: Loader) -> None:
    alone = packaged_spec("lora").model_copy(update={"base": None})
    assert _reason(lambda: load_packaged(alone))[0] is Reason.bad_config


def test_sdxl_adapters_have_no_watermark(
    packaged_spec: Specs, load_packaged: Loader, sampler_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl

    monkeypatch.setattr(pipeline_stable_diffusion_xl, "is_invisible_watermark_available", lambda: True)
    unet = sampler_of("sdxl")._pipeline.unet
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path, unet_lora_layers={k.removeprefix("unet."): v for k, v in _factors(unet, "unet", ("to_q",), 3).items()}
    )
    sampler: Any = load_packaged(packaged_spec("lora", base="sdxl"), ComponentStore(), folder=tmp_path, base="sdxl")
    assert sampler._pipeline.watermark is None and sampler.watermark is False
