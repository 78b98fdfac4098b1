"""Load a diffusers pipeline from a local folder: by class, from safetensors, without checker, watermarker or repo code.

Modules are loaded one by one, so that missing tensors are seen (the libraries only warn and fill them with noise) and
shared ones come from the store; diffusers then adds tokenizers and scheduler and builds the pipeline around them.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from manifests.generator import Dtype, GeneratorSpec
from samplers.component_store import ComponentStore
from samplers.failures import describe, load_failures
from samplers.model_folder import OMITTED, Component, ModelFolder, read_model_folder
from shards.statuses import Reason, UnitFailure

_OFF = ("requires_safety_checker", "add_watermarker")
_SHOWN_KEYS = 3


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline on its device. `options` is the JSON-ready record of how it was loaded."""

    pipeline: Any
    options: dict[str, Any]


def load_pipeline(
    spec: GeneratorSpec, folder: Path, *, dtype: Dtype, device: str, components: ComponentStore
) -> LoadedPipeline:
    """Load `spec` from `folder`, its repo's files; `spec.dtype` wins over `dtype`.

    Raises:
        UnitFailure: corrupt_weights, missing_file, bad_config, invalid_pipeline, pipeline_class, remote_code,
            device_oom, host_oom.
    """
    dtype = spec.dtype or dtype
    model = read_model_folder(folder / (spec.subfolder or ""), spec.variant, spec.pipeline_class)
    known = {file.path: (file.size, file.sha256) for file in spec.files if file.sha256 is not None}

    def module_of(component: Component) -> nn.Module:
        if not _shareable(component.type):
            return load_module(component, dtype, device)
        key = f"{component.content_key(folder, known)} {dtype} {device}"
        return components.fetch(key, lambda: load_module(component, dtype, device))

    modules = {part.name: module_of(part) for part in model.components if part.weights is not None}
    accepted = inspect.signature(model.pipeline_class.__init__).parameters
    switches = {name: False for name in _OFF if name in accepted}
    pipeline = _assemble(model, modules, switches, dtype)
    with load_failures(f"moving to {device}"):
        pipeline.to(device)
    if spec.params.scheduler is not None:
        _replace_scheduler(pipeline, spec.params.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    vae = modules.get("vae")
    options: dict[str, Any] = {
        "subfolder": spec.subfolder,
        "variant": spec.variant,
        "dtype": dtype,
        "use_safetensors": True,
        "omitted": list(model.omitted),
        "component_dtypes": {name: _dtype_name(module) for name, module in sorted(modules.items())},
        **switches,
    }
    if vae is not None:
        options |= {
            "vae_decode_dtype": _decode_dtype(pipeline, vae),
            "vae_tiling": bool(getattr(vae, "use_tiling", False)),
        }
    return LoadedPipeline(pipeline, options)


def load_module(component: Component, dtype: Dtype, device: str) -> nn.Module:
    """Load one component with weights and check that every tensor came from the files.

    Raises:
        UnitFailure: as `load_pipeline`; invalid_pipeline when tensors are missing or have another shape.
    """
    if component.weights is None:
        raise ValueError(f"{component.name} has no weights")
    _quiet()
    loader: Any = component.type
    with load_failures(component.name):
        module, info = loader.from_pretrained(
            component.folder,
            variant=component.weights.variant,
            use_safetensors=True,
            local_files_only=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):
        keys = sorted(map(str, info.get(problem) or ()))
        if keys:
            shown = ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
            raise UnitFailure(Reason.invalid_pipeline, f"{component.name}: {len(keys)} {problem}: {shown}")
    with load_failures(f"moving {component.name} to {device}"):
        return module.to(device).eval().requires_grad_(False)


def _assemble(model: ModelFolder, modules: dict[str, nn.Module], switches: dict[str, bool], dtype: Dtype) -> Any:
    _quiet()
    accepted = inspect.signature(model.pipeline_class.__init__).parameters
    absent = dict.fromkeys(name for name in OMITTED if name in accepted)
    try:
        with load_failures(model.pipeline_class.__name__):
            return model.pipeline_class.from_pretrained(
                model.path, **modules, **absent, **switches, dtype=getattr(torch, dtype), local_files_only=True
            )
    except Exception as error:
        # The tokenizers library has no exception class of its own: it raises bare Exception for a bad tokenizer.json.
        if type(error) is not Exception:
            raise
        raise UnitFailure(Reason.bad_config, f"{model.pipeline_class.__name__}: {describe(error)}") from error


def _replace_scheduler(pipeline: Any, name: str) -> None:
    if type(pipeline.scheduler).__name__ == name:
        return
    type_: Any = getattr(diffusers, name, None)
    if type_ is None or diffusers.SchedulerMixin not in getattr(type_, "__mro__", ()):
        raise UnitFailure(Reason.pipeline_class, f"{name} is not a scheduler of the installed diffusers")
    with load_failures(f"scheduler {name}"):
        pipeline.scheduler = type_.from_config(pipeline.scheduler.config)


def _shareable(type_: type) -> bool:
    """Text and image encoders and autoencoders are shared between repos; denoisers hardly ever are."""
    return issubclass(type_, transformers.PreTrainedModel) or type_.__module__.startswith(
        "diffusers.models.autoencoders"
    )


def _dtype_name(module: nn.Module) -> str:
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()})
    return "+".join(dtypes)


def _decode_dtype(pipeline: Any, vae: nn.Module) -> str:
    """The precision that latents are decoded in: some pipelines lift a float16 VAE that would overflow to black."""
    name = _dtype_name(vae)
    lifts = hasattr(pipeline, "upcast_vae") and getattr(vae.config, "force_upcast", False)
    return "float32" if name == "float16" and lifts else name


def _quiet() -> None:
    """Only errors and no progress bars: a worker's log is read by people, and what the libraries warn of at each call
    (cut prompts) is in the rows."""
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
