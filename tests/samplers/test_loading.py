"""Loading a stranger's folder: what is left out, what is shared, and a name for everything that can be wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl
from safetensors.torch import load_file, save_file

from manifests.generator import GeneratorSpec, WeightFile
from samplers.base import Batch, Sampler
from samplers.component_store import ComponentStore
from samplers.loading import load_pipeline
from samplers.model_folder import read_model_folder
from samplers.registry import load_sampler
from shards.statuses import Reason, Status, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]


@pytest.fixture
def copy_of(model_folder: Folders, tmp_path: Path) -> Callable[[str], Path]:
    """A family's folder that a test may break."""

    def copied(family: str) -> Path:
        return Path(shutil.copytree(model_folder(family), tmp_path / family))

    return copied


def _load(spec: GeneratorSpec, folder: Path, store: ComponentStore | None = None, dtype: Any = "float32") -> Any:
    return load_pipeline(spec, folder, dtype=dtype, device="cpu", components=store or ComponentStore())


def _reason(spec: GeneratorSpec, folder: Path) -> tuple[Reason, str]:
    with pytest.raises(UnitFailure) as failure:
        _load(spec, folder)
    return failure.value.reason, failure.value.detail


def _edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# What is left out


def test_a_pipelines_own_checker_is_dropped(copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    entry = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
        "requires_safety_checker": True,
    }
    _edit(folder / "model_index.json", lambda index: index.update(entry))
    loaded = _load(spec_of("sd"), folder)
    assert loaded.pipeline.safety_checker is None and loaded.pipeline.feature_extractor is None
    assert loaded.options["omitted"] == ["feature_extractor", "safety_checker"]
    assert loaded.options["requires_safety_checker"] is False


def test_sdxl_has_no_watermark_even_where_the_library_is_installed(
    model_folder: Folders, spec_of: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_stable_diffusion_xl, "is_invisible_watermark_available", lambda: True)
    loaded = _load(spec_of("sdxl"), model_folder("sdxl"))
    assert loaded.pipeline.watermark is None
    assert loaded.options["add_watermarker"] is False


# What is shared


def test_twins_share_components_and_the_base_stays_the_same(
    model_folder: Folders, spec_of: Specs, draws_of: Callable[..., Any]
) -> None:
    store = ComponentStore()

    def load(family: str) -> Any:
        return load_sampler(spec_of(family), model_folder(family), dtype="float32", device="cpu", components=store)

    def pixels(sampler: Sampler) -> list[bytes]:
        return [sampled.image.tobytes() for sampled in sampler.sample(Batch.padded(draws_of(2), 2)) if sampled.image]

    base = load("sd")
    before = pixels(base)
    twin = load("sd-finetune")
    assert twin._pipeline.vae is base._pipeline.vae
    assert twin._pipeline.text_encoder is base._pipeline.text_encoder
    assert twin._pipeline.unet is not base._pipeline.unet
    assert store.count == 2
    assert pixels(twin) != before
    assert pixels(base) == before


def test_content_decides_not_the_name(copy_of: Folders, spec_of: Specs) -> None:
    store, folder = ComponentStore(), copy_of("sd")
    first = _load(spec_of("sd"), folder, store).pipeline
    assert _load(spec_of("sd"), folder, store, dtype="float16").pipeline.vae is not first.vae
    _edit(folder / "vae" / "config.json", lambda config: config.update(_name_or_path="elsewhere"))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    renamed = spec_of("sd").model_copy(update={"variant": "fp16"})
    assert _load(renamed, folder, store).pipeline.vae is first.vae
    _edit(folder / "vae" / "config.json", lambda config: config.update(scaling_factor=0.5))
    changed = _load(renamed, folder, store).pipeline
    assert changed.vae is not first.vae and changed.text_encoder is first.text_encoder


def test_a_known_digest_saves_reading_the_file(model_folder: Folders) -> None:
    folder = model_folder("sd")
    vae = next(part for part in read_model_folder(folder, None).components if part.name == "vae")
    assert vae.weights is not None
    path = "vae/diffusion_pytorch_model.safetensors"
    size = (folder / path).stat().st_size
    plain = vae.content_key(folder, {})
    assert vae.content_key(folder, {path: (size, "0" * 64)}) != plain
    assert vae.content_key(folder, {path: (size + 1, "0" * 64)}) == plain


# What a folder may look like


def test_sharded_weights_subfolder_and_variant(copy_of: Folders, spec_of: Specs, tmp_path: Path) -> None:
    folder = copy_of("sd")
    expected = _load(spec_of("sd"), folder).pipeline.unet.state_dict()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    names = sorted(tensors)
    parts = {"a.fp16-1.safetensors": names[::2], "a.fp16-2.safetensors": names[1::2]}
    for part, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, weights.with_name(part), metadata={"format": "pt"})
    weight_map = {key: part for part, keys in parts.items() for key in keys}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    weights.with_name("diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    weights.unlink()
    (tmp_path / "repo").mkdir()
    folder.rename(tmp_path / "repo" / "nested")
    spec = spec_of("sd").model_copy(update={"subfolder": "nested", "variant": "fp16"})
    loaded = _load(spec, tmp_path / "repo")
    assert loaded.options["subfolder"] == "nested" and loaded.options["variant"] == "fp16"
    found = loaded.pipeline.unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    (tmp_path / "repo" / "nested" / "unet" / "a.fp16-2.safetensors").unlink()
    assert _reason(spec, tmp_path / "repo")[0] is Reason.missing_file


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_the_same_way(
    dtype: Any, model_folder: Folders, spec_of: Specs, draws_of: Callable[..., Any]
) -> None:
    spec = spec_of("sdxl").model_copy(update={"dtype": dtype})
    sampler: Any = load_sampler(spec, model_folder("sdxl"), dtype="float32", device="cpu", components=ComponentStore())
    load = json.loads(sampler.call_record(2))["load"]
    assert load["dtype"] == dtype and load["component_dtypes"]["vae"] == dtype
    assert load["vae_decode_dtype"] == ("float32" if dtype == "float16" else dtype)
    decoded = []
    sampler._pipeline.vae.decoder.register_forward_pre_hook(lambda _, given: decoded.append(given[0].dtype))
    (image, _) = sampler.sample(Batch.padded(draws_of(2), 2))
    assert image.image is not None and image.image.size == (64, 64)
    assert decoded == [getattr(torch, load["vae_decode_dtype"])]


def test_another_scheduler_replaces_the_repos(model_folder: Folders, spec_of: Specs) -> None:
    loaded = _load(spec_of("sd", scheduler="EulerDiscreteScheduler"), model_folder("sd"))
    assert type(loaded.pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert loaded.pipeline.scheduler.config.beta_end == 0.012
    assert _reason(spec_of("sd", scheduler="AutoencoderKL"), model_folder("sd"))[0] is Reason.pipeline_class
    assert _reason(spec_of("sd", scheduler="NoSuchScheduler"), model_folder("sd"))[0] is Reason.pipeline_class


# What can be wrong


def test_truncated_weights(copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    reason, detail = _reason(spec_of("sd"), folder)
    assert reason is Reason.corrupt_weights and reason.status is Status.load_failed
    assert "unet/diffusion_pytorch_model.safetensors" in detail and "SafetensorError" in detail


def test_a_git_lfs_pointer_is_no_weight_file(copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
    (folder / "text_encoder" / "model.safetensors").write_text(pointer)
    assert _reason(spec_of("sd"), folder)[0] is Reason.corrupt_weights


def test_pickles_are_not_read(copy_of: Folders, spec_of: Specs, tmp_path: Path) -> None:
    folder = copy_of("sd")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"x": Bomb()}, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    reason, detail = _reason(spec_of("sd"), folder)
    assert reason is Reason.missing_file
    assert "only pickles" in detail and "diffusion_pytorch_model.bin" in detail
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "path", ["model_index.json", "vae", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"]
)
def test_missing_parts_are_named(path: str, copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    target = folder / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    reason, detail = _reason(spec_of("sd"), folder)
    assert reason.status is Status.load_failed
    if not path.startswith(("scheduler", "tokenizer")):
        assert reason is Reason.missing_file and path.split("/")[0] in detail


@pytest.mark.parametrize("path", ["model_index.json", "unet/config.json", "tokenizer/vocab.json"])
def test_broken_json_is_a_bad_config(path: str, copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    (folder / path).write_text('{"_class_name": ')
    assert _reason(spec_of("sd"), folder)[0] is Reason.bad_config


def test_a_broken_tokenizer_file_is_a_bad_config(copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("pixart")
    _edit(folder / "tokenizer" / "tokenizer.json", lambda content: content["model"].update(vocab="none"))
    assert _reason(spec_of("pixart"), folder)[0] is Reason.bad_config


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_missing_tensors_are_not_filled_with_noise(component: str, copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    (file,) = (folder / component).glob("*.safetensors")
    tensors = load_file(file)
    lost = sorted(tensors)[3]
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    reason, detail = _reason(spec_of("sd"), folder)
    assert reason is Reason.invalid_pipeline and component in detail
    assert "missing_keys" in detail


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_tensors_of_another_shape(component: str, copy_of: Folders, spec_of: Specs) -> None:
    folder = copy_of("sd")
    (file,) = (folder / component).glob("*.safetensors")
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, file, metadata={"format": "pt"})
    reason, detail = _reason(spec_of("sd"), folder)
    assert reason is Reason.invalid_pipeline and component in detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_class_name": "NoSuchPipeline"}, Reason.pipeline_class),
        ({"_class_name": "AutoencoderKL"}, Reason.pipeline_class),
        ({"_class_name": "KandinskyCombinedPipeline"}, Reason.pipeline_class),
        ({"_class_name": ["pipeline", "MyPipeline"]}, Reason.remote_code),
        ({"_class_name": None}, Reason.bad_config),
        ({"unet": ["my_unet", "MyUNet"]}, Reason.remote_code),
        ({"unet": ["diffusers", "NoSuchModel"]}, Reason.pipeline_class),
    ],
)
def test_classes_that_are_not_ours_to_run(
    change: dict[str, Any], reason: Reason, copy_of: Folders, spec_of: Specs
) -> None:
    folder = copy_of("sd")
    _edit(folder / "model_index.json", lambda index: index.update(change))
    assert _reason(spec_of("sd"), folder)[0] is reason


def test_code_in_the_repo_is_never_run(copy_of: Folders, spec_of: Specs, tmp_path: Path) -> None:
    folder = copy_of("sd")
    mark = tmp_path / "ran"
    for name in ("pipeline.py", "unet/diffusers.py", "unet/my_unet.py"):
        (folder / name).write_text(f"open({str(mark)!r}, 'w').close()\n")
    assert _reason(spec_of("sd"), folder)[0] is Reason.remote_code
    _edit(folder / "model_index.json", lambda index: index.update(_class_name="MyPipeline"))
    assert _reason(spec_of("sd"), folder)[0] is Reason.remote_code
    assert not mark.exists()


def test_a_pipeline_of_another_kind(model_folder: Folders, spec_of: Specs, load: Callable[..., Sampler]) -> None:
    spec = spec_of("ddpm").model_copy(update={"kind": "text-to-image"})
    with pytest.raises(UnitFailure, match="must take 'prompt'") as failure:
        load(spec)
    assert failure.value.reason is Reason.call_signature


def test_known_files_of_a_spec_are_used(model_folder: Folders, spec_of: Specs) -> None:
    """Two repos whose recorded digests agree share, without their bytes being read again."""
    path = "vae/diffusion_pytorch_model.safetensors"
    size = (model_folder("sd") / path).stat().st_size
    known = spec_of("sd").model_copy(update={"files": (WeightFile(path=path, size=size, sha256="ab" * 32),)})
    store = ComponentStore()
    assert _load(known, model_folder("sd"), store).pipeline.vae is _load(known, model_folder("sd"), store).pipeline.vae
    assert store.count == 2
    _load(spec_of("sd"), model_folder("sd"), store)
    assert store.count == 3
