"""A base that adapters come and go on: the same to the byte afterwards, whatever came, and loaded once for all."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from manifests.generator import GeneratorSpec
from pipeline.demo.toy_adapter_weights import KOHYA_FILE, LORA_FILE
from samplers.base import Sampler
from samplers.compiled_denoisers import release_compiled
from samplers.component_store import ComponentStore
from samplers.module_snapshot import ModuleSnapshot
from samplers.placement import Placement
from samplers.registry import load_sampler
from shards.statuses import UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]


def _state(modules: list[nn.Module]) -> dict[str, Any]:
    """Everything there is to see of modules: types, tensors by hash, flags, hooks, other attributes, configs."""
    state: dict[str, Any] = {}
    for number, root in enumerate(modules):
        for path, module in root.named_modules():
            state[f"{number}.{path}"] = (
                type(module),
                id(module),
                sorted(vars(module)),
                {name: repr(value) for name, value in vars(module).items() if not name.startswith("_")},
                [(n, len(v)) for n, v in sorted(vars(module).items()) if n.endswith("_hooks")],
            )
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
            digest = hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy()).hexdigest()
            state[f"{number}.{name}"] = (tuple(tensor.shape), tensor.dtype, tensor.requires_grad, digest)
        config: Any = root.config
        state[f"{number} config"] = json.dumps(
            dict(config.to_dict() if hasattr(config, "to_dict") else config), default=str
        )
    return state


def _modules(store: ComponentStore) -> list[nn.Module]:
    return [entry.module for entry in store._entries.values()]


@pytest.fixture(scope="module")
def base(packaged_spec: Specs, load_packaged: Loader) -> tuple[ComponentStore, list[nn.Module], dict[str, Any]]:
    """A store with the base `sd`, its modules, and their state: one for all tests, as it must stay the same."""
    store = ComponentStore()
    load_packaged(packaged_spec("lora"), store).close()
    modules = _modules(store)
    return store, modules, _state(modules)


@pytest.mark.parametrize("name", ["lora", "kohya-lora", "lcm-lora", "no-effect-lora", "textual-inversion"])
def test_nothing_of_an_adapter_is_left(
    name: str, base: Any, packaged_spec: Specs, load_packaged: Loader, pixels_of: Pixels
) -> None:
    store, modules, before = base
    sampler = load_packaged(packaged_spec(name), store)
    assert _state(modules) != before  # it is on the very modules that are looked at
    if name != "no-effect-lora":
        pixels_of(sampler)
    sampler.close()
    assert _state(modules) == before
    assert _modules(store) == modules


def test_the_base_is_what_its_files_say(base: Any, model_folder: Folders) -> None:
    """What `before` means above: after its first adapter, the base still is what lies on the disk."""
    _, modules, _ = base
    files = {"UNet2DConditionModel": "unet", "CLIPTextModel": "text_encoder", "AutoencoderKL": "vae"}
    for module in modules:
        (file,) = (model_folder("sd") / files[type(module).__name__]).glob("*.safetensors")
        tensors = load_file(file)
        assert dict(module.named_parameters()).keys() == tensors.keys()
        assert all(torch.equal(value, tensors[name]) for name, value in module.named_parameters())


@pytest.mark.parametrize(
    "break_it", ["widths", "half", "mismatch", "second encoder"], ids=lambda name: name.replace(" ", "-")
)
def test_an_adapter_that_fails_half_way_leaves_the_base_exact(
    break_it: str,
    base: Any,
    packaged_spec: Specs,
    load_packaged: Loader,
    packaged_folder: Folders,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
    tmp_path: Path,
) -> None:
    store, modules, before = base
    name = "kohya-lora" if break_it == "second encoder" else "lora"
    folder = Path(shutil.copytree(packaged_folder(name), tmp_path / name))
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    if break_it == "widths":
        tensors = {k: v[:, :-1].contiguous() if "up_blocks.1" in k and "_A." in k else v for k, v in tensors.items()}
    elif break_it == "half":
        tensors = {k: v for k, v in tensors.items() if "up_blocks.1" not in k or "_A." in k}
    elif break_it == "mismatch":
        tensors = load_file(packaged_folder("mismatched-lora") / LORA_FILE)
    else:  # the UNet's part is attached when the text encoder's is found to be of other widths
        te = "lora_te_text_model_encoder_layers_1_mlp_fc1.lora_down.weight"
        tensors[te] = tensors[te][:, :-1].contiguous()
    save_file(tensors, file)
    with pytest.raises(UnitFailure):
        load_packaged(packaged_spec(name), store, folder=folder)
    assert _state(modules) == before
    assert all(entry.holders == 0 and not entry.alone for entry in store._entries.values())
    good = load_packaged(packaged_spec("lora"), store)
    assert pixels_of(good) == fresh_pixels("lora")
    good.close()


def test_bytes_do_not_depend_on_what_was_on_the_base_before(
    packaged_spec: Specs,
    load_packaged: Loader,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
    model_folder: Folders,
    sampler_of: Callable[[str], Sampler],
    spec_of: Specs,
) -> None:
    store = ComponentStore()
    names = ["lora", "textual-inversion", "kohya-lora", "lcm-lora", "lora"]
    resident = []
    for name in names:
        sampler = load_packaged(packaged_spec(name), store)
        resident.append(pixels_of(sampler))
        sampler.close()
    assert resident == [fresh_pixels(name) for name in names]
    assert len({str(images) for images in resident}) == 4
    # The base itself, from the very modules that the adapters were on.
    plain: Any = load_sampler(spec_of("sd"), model_folder("sd"), dtype="float32", device="cpu", components=store)
    assert plain._pipeline.text_encoder in _modules(store)
    unet = next(module for module in _modules(store) if type(module).__name__ == "UNet2DConditionModel")
    plain._pipeline.unet = unet
    assert pixels_of(plain) == pixels_of(sampler_of("sd"))


def test_the_base_is_loaded_once_for_all_its_adapters(
    packaged_spec: Specs, load_packaged: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samplers import module_loading

    loaded = []
    original = module_loading.load_module
    monkeypatch.setattr(
        module_loading, "load_module", lambda part, *rest: loaded.append(part.name) or original(part, *rest)
    )
    store = ComponentStore()
    for name in ("lora", "kohya-lora", "textual-inversion", "lora"):
        load_packaged(packaged_spec(name), store).close()
    assert sorted(loaded) == ["text_encoder", "unet", "vae"]


def test_two_adapters_at_once_do_not_meet(
    packaged_spec: Specs, load_packaged: Loader, pixels_of: Pixels, fresh_pixels: Callable[[str], list[bytes]]
) -> None:
    """While one samples, the next may be loaded already: it gets a base of its own, but shares what neither changes."""
    store = ComponentStore()
    first: Any = load_packaged(packaged_spec("lora"), store)
    second: Any = load_packaged(packaged_spec("kohya-lora"), store)
    assert first._pipeline.vae is second._pipeline.vae
    assert first._pipeline.unet is not second._pipeline.unet
    assert pixels_of(first) == fresh_pixels("lora")
    assert pixels_of(second) == fresh_pixels("kohya-lora")
    first.close()
    second.close()
    assert store.count == 3


def test_a_sampler_that_cannot_be_built_gives_its_base_back(
    base: Any, packaged_spec: Specs, load_packaged: Loader
) -> None:
    store, modules, before = base
    with pytest.raises(UnitFailure, match="does not take no_such_argument"):
        load_packaged(packaged_spec("lora", call_kwargs={"no_such_argument": 1}), store)
    assert _state(modules) == before
    assert all(entry.holders == 0 for entry in store._entries.values())


@pytest.mark.parametrize("name", ["lora", "textual-inversion"])
def test_offloading_hooks_are_gone_afterwards(
    name: str,
    packaged_spec: Specs,
    load_packaged: Loader,
    pixels_of: Pixels,
    fresh_pixels: Callable[[str], list[bytes]],
) -> None:
    """The CPU stands in for the device that modules are moved to when they run."""
    store = ComponentStore()
    load_packaged(packaged_spec(name), store, placement=Placement("cpu")).close()
    modules = _modules(store)
    before = _state(modules)
    sampler: Any = load_packaged(packaged_spec(name), store, placement=Placement("cpu", offload="model"))
    assert hasattr(sampler._pipeline.unet, "_hf_hook")
    assert json.loads(sampler.call_record(2))["load"]["offload"] == "model"
    assert pixels_of(sampler) == fresh_pixels(name)
    sampler.close()
    assert _state(modules) == before and _modules(store) == modules


@pytest.mark.parametrize(("name", "resident", "compiled"), [("lora", 3, []), ("textual-inversion", 2, ["unet"])])
def test_a_compiled_denoiser_is_never_the_resident_one(
    name: str, resident: int, compiled: list[str], packaged_spec: Specs, load_packaged: Loader
) -> None:
    """The next model's weights are copied into a compiled denoiser, so the store must not give it to anybody."""
    store = ComponentStore()
    sampler: Any = load_packaged(packaged_spec(name), store, placement=Placement("cpu", compile=True))
    assert json.loads(sampler.call_record(2))["load"]["compiled"] == compiled
    assert store.count == resident and (sampler._pipeline.unet in _modules(store)) is (not compiled)
    sampler.close()
    release_compiled()


@pytest.mark.parametrize("half", ["lora_te", "lora_unet"])
def test_a_finetune_after_a_lora_on_half_of_the_base_leaves_the_base_exact(
    half: str,
    packaged_spec: Specs,
    packaged_folder: Folders,
    model_folder: Folders,
    spec_of: Specs,
    load_packaged: Loader,
    tmp_path: Path,
) -> None:
    """A LoRA of the text encoder alone leaves the UNet plain, and it still is the base of all: were it compiled and
    kept, the finetune's weights would be copied into it."""
    file = tmp_path / KOHYA_FILE
    weights = load_file(packaged_folder("kohya-lora") / KOHYA_FILE)
    save_file({key: value for key, value in weights.items() if key.startswith(half)}, file)
    store, compile_ = ComponentStore(), Placement("cpu", compile=True)
    load_packaged(packaged_spec("lora"), store).close()
    modules = _modules(store)
    before = _state(modules)
    sampler: Any = load_packaged(packaged_spec("kohya-lora"), store, folder=tmp_path, placement=compile_)
    assert sampler._pipeline.unet in modules
    assert json.loads(sampler.call_record(2))["load"]["compiled"] == []
    sampler.close()
    finetune: Any = load_sampler(
        spec_of("sd-finetune"),
        model_folder("sd-finetune"),
        dtype="float32",
        device="cpu",
        components=store,
        placement=compile_,
    )
    assert finetune._pipeline.unet not in modules
    assert json.loads(finetune.call_record(2))["load"]["compiled"] == ["unet"]
    assert _state(modules) == before
    finetune.close()
    release_compiled()


def test_a_snapshot_undoes_anything_but_writing_into_tensors() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
    held = [module[0], module[1]]
    weight = module[0].weight
    snapshot = ModuleSnapshot([module])
    for _ in range(2):
        module[0] = nn.Sequential(nn.Linear(3, 3), held[0])
        held[0].weight.data = torch.zeros(9, 9)
        held[0].bias = None
        held[0].register_forward_hook(lambda *_: None)
        held[0].requires_grad_(True)
        held[1].register_buffer("extra", torch.ones(1))
        held[1].__class__ = nn.BatchNorm2d
        module.added = "attribute"
        assert snapshot.restore() == ()
        assert list(module) == held and module[0].weight is weight and weight.shape == (4, 3)
        assert module[0].bias is not None and not module[0].bias.requires_grad
        assert not held[0]._forward_hooks and "extra" not in dict(held[1].named_buffers())
        assert type(held[1]) is nn.BatchNorm1d and not hasattr(module, "added")


def test_writing_into_tensors_is_noticed() -> None:
    roots = [nn.Linear(2, 2), nn.Linear(2, 2)]
    snapshot = ModuleSnapshot(roots)
    roots[1].load_state_dict({"weight": torch.zeros(2, 2)}, strict=False)
    assert snapshot.restore() == (roots[1],)


def test_a_base_that_was_written_into_is_nobodys_base_again(
    packaged_spec: Specs, load_packaged: Loader, pixels_of: Pixels, fresh_pixels: Callable[[str], list[bytes]]
) -> None:
    """Some LoRAs of FLUX bring norms, which diffusers copies into the base's own."""
    store = ComponentStore()
    sampler: Any = load_packaged(packaged_spec("lora"), store)
    spoilt = sampler._pipeline.unet
    spoilt.conv_norm_out.load_state_dict({"weight": torch.zeros(32)}, strict=False)
    sampler.close()
    assert spoilt not in _modules(store) and store.count == 2
    again = load_packaged(packaged_spec("lora"), store)
    assert pixels_of(again) == fresh_pixels("lora") and store.count == 3
