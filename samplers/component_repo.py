"""One component that takes the place of a base pipeline's own: the UNet or transformer of a fine-tune, published alone.

The repo holds it at its root, in a subfolder, or in the folder that it has in a pipeline; or, as the distilled SDXL
models do, only its weights in one file, with the base's config.
"""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
import torch
from accelerate import init_empty_weights
from torch import nn

from manifests.generator import GeneratorSpec
from samplers.adapters import adapter_file
from samplers.failures import load_failures
from samplers.model_folder import Component, ModelFolder, find_weights, read_json
from samplers.module_loading import ModuleLoader, load_module, refuse_keys, settled
from shards.statuses import Reason, UnitFailure

_INTERFACE = (
    "in_channels",
    "out_channels",
    "cross_attention_dim",
    "encoder_hid_dim",
    "joint_attention_dim",
    "pooled_projection_dim",
    "caption_channels",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)
"""Config entries that must be the base's: what a denoiser takes from the other components and gives to them."""


def load_component(spec: GeneratorSpec, folder: Path, model: ModelFolder, loader: ModuleLoader) -> nn.Module:
    """Load the component that takes the place of `spec.component` in the base `model`.

    Raises:
        UnitFailure: call_signature when the base has no such component; missing_file, bad_config, corrupt_weights;
            invalid_pipeline when it does not fit the base, or tensors are missing or have another shape.
    """
    parts = {part.name: part for part in model.components if part.weights is not None}
    if spec.component not in parts:
        raise UnitFailure(Reason.call_signature, f"the base has no {spec.component}; it has {', '.join(sorted(parts))}")
    base = parts[spec.component]
    if spec.weight_name is not None:
        return _from_file(adapter_file(folder, spec.weight_name, base.name), base, loader)
    place = _place(folder / (spec.subfolder or ""), base.name)
    config = read_json(place / "config.json")
    found = Component(base.name, _class(config, base), place, find_weights(place, spec.variant, base.name))
    _check_interface(config, read_json(base.folder / "config.json"), base)
    return load_module(found, loader.dtype, loader.device(base.name))


def _place(folder: Path, name: str) -> Path:
    inner = folder / name
    return inner if (inner / "config.json").is_file() else folder


def _class(config: dict[str, Any], base: Component) -> type:
    named = config.get("_class_name")
    found = getattr(diffusers, named, None) if isinstance(named, str) else base.type
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UnitFailure(Reason.pipeline_class, f"{base.name}: {named} is not a network of the installed diffusers")
    if not issubclass(found, base.type):
        raise UnitFailure(Reason.invalid_pipeline, f"{base.name}: {named} where the base has {base.type.__name__}")
    return found


def _check_interface(config: dict[str, Any], own: dict[str, Any], base: Component) -> None:
    # An entry that a config leaves out, as those of older versions do, is the class's default.
    type_: Any = base.type
    parameters = inspect.signature(type_.__init__).parameters
    for key in _INTERFACE:
        default = parameters[key].default if key in parameters else None
        found, needed = config.get(key, default), own.get(key, default)
        if found != needed:
            raise UnitFailure(Reason.invalid_pipeline, f"{base.name}: {key} is {found}, but {needed} in the base")


def _from_file(file: Path, base: Component, loader: ModuleLoader) -> nn.Module:
    """Fill the base's own architecture from one file in diffusers' layout."""
    type_: Any = base.type
    with load_failures(f"{base.name} {file.name}"):
        with init_empty_weights(include_buffers=False):
            module: nn.Module = type_.from_config(type_.load_config(base.folder, local_files_only=True))
        tensors = safetensors.torch.load_file(file)
        dtype = getattr(torch, loader.dtype)
        cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
        problems = module.load_state_dict(cast, strict=False, assign=True)
    refuse_keys(base.name, "missing_keys", problems.missing_keys)
    refuse_keys(base.name, "unexpected_keys", problems.unexpected_keys)
    return settled(module, base.name, loader.device(base.name))
