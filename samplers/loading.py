"""Load a generator's pipeline from local folders, however its repo packs it: by class, from safetensors, without
checker, watermarker or repo code.

Modules are loaded one by one, so that missing tensors are seen and shared ones come from the store; diffusers then adds
tokenizers and scheduler and builds the pipeline around them. What only changes a base (LoRA, textual inversion) is
attached to a base that stays resident, and taken off it again when the pipeline is closed.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from manifests.generator import BasePipeline, Dtype, GeneratorSpec, WeightFile
from samplers.adapters import Adapter
from samplers.component_repo import load_component
from samplers.component_store import ComponentStore, Lease
from samplers.latent_decoding import prepare_decoding
from samplers.lora import LoraAdapter, adaptable
from samplers.model_folder import Component, ModelFolder, read_model_folder
from samplers.module_loading import ModuleLoader
from samplers.module_snapshot import ModuleSnapshot
from samplers.pipeline_assembly import assemble, switches
from samplers.placement import Placement, free_device_memory, place
from samplers.schedulers import replace_scheduler
from samplers.single_file import is_taken, load_single_file
from samplers.textual_inversion import TextualInversion, teachable
from shards.statuses import Reason, UnitFailure

_ADAPTERS: dict[str, tuple[Callable[[type], tuple[str, ...]], Callable[[GeneratorSpec, Path, Any], Adapter]]] = {
    "lora": (adaptable, LoraAdapter),
    "textual-inversion": (teachable, TextualInversion),
}
"""Packaging -> (which components it changes, how it is attached)."""


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline on its device. `options` is the JSON-ready record of how it was loaded.

    `release` gives the resident modules back, as they were before; the pipeline is not used afterwards.
    """

    pipeline: Any
    options: dict[str, Any]
    adapter: Adapter | None
    release: Callable[[], None]


@dataclass(frozen=True)
class _Home:
    """The repo that holds model_index.json: the generator's own, or its base's."""

    folder: Path
    subfolder: str | None
    variant: str | None
    pipeline_class: str | None
    files: tuple[WeightFile, ...]


def load_pipeline(
    spec: GeneratorSpec,
    folder: Path,
    *,
    dtype: Dtype,
    device: str,
    components: ComponentStore,
    base_folder: Path | None = None,
    placement: Placement | None = None,
) -> LoadedPipeline:
    """Load `spec` from `folder`, its repo's files, and `base_folder`, its base's; `spec.dtype` wins over `dtype`.

    `placement` says how the pipeline runs on its device; None: all of it lies on `device`. What it leaves no room for
    is let go of `components` before anything is loaded, but for what the pipeline takes over.

    Raises:
        UnitFailure: corrupt_weights, missing_file, bad_config, invalid_pipeline, pipeline_class, remote_code,
            call_signature, no_keys_loaded, device_oom, host_oom. Nothing is held and no base is changed then.
    """
    home = _home(spec, folder, base_folder)
    with ExitStack() as undo:
        lease = components.lease()
        undo.callback(lease.release)
        return _load(spec, folder, home, spec.dtype or dtype, placement or Placement(device), components, lease, undo)


def _load(
    spec: GeneratorSpec,
    folder: Path,
    home: _Home,
    dtype: Dtype,
    placement: Placement,
    components: ComponentStore,
    lease: Lease,
    undo: ExitStack,
) -> LoadedPipeline:
    model = read_model_folder(
        home.folder / (home.subfolder or ""),
        home.variant,
        spec.pipeline_class or home.pipeline_class,
        weights_elsewhere=spec.packaging in ("component", "single-file"),
    )
    changed = _ADAPTERS[spec.packaging][0](model.pipeline_class) if spec.packaging in _ADAPTERS else ()
    loader = ModuleLoader(lease, dtype, placement, home.folder, home.files, changed)
    shared = [part for part in model.components if _is_shared(part, spec, loader)]
    made = components.make_room(placement.idle_bytes, keep={loader.key(part) for part in shared})
    if made or placement.device != "cpu":
        free_device_memory()
    modules, options = _modules(spec, folder, model, loader, changed)
    # With offloading, hooks come and go in every module, and what the store keeps must be found where it was put.
    snapshot = ModuleSnapshot(module for name, module in modules.items() if loader.alone or name in changed)
    undo.callback(_restore, snapshot, lease)
    pipeline = assemble(model, modules, dtype)
    marked = options.pop("marked_scheduler_config", {})
    replace_scheduler(pipeline, spec.params.scheduler, marked | spec.params.scheduler_config)
    options = _options(spec, dtype, model, modules) | options
    decoding = prepare_decoding(pipeline)
    if decoding is not None:
        tiling = bool(getattr(modules.get("vae"), "use_tiling", False))
        options |= {"vae_decode_dtype": decoding, "vae_tiling": tiling}
    adapter = None
    if spec.packaging in _ADAPTERS:
        adapter = _ADAPTERS[spec.packaging][1](spec, folder, pipeline)
        options |= adapter.record
    options |= place(pipeline, placement, [name for name in modules if loader.compiles(name)])
    return LoadedPipeline(pipeline, options, adapter, undo.pop_all().close)


def _restore(snapshot: ModuleSnapshot, lease: Lease) -> None:
    """Make modules what they were before the pipeline; what cannot be made that again is nobody's base any more."""
    for module in snapshot.restore():
        lease.drop(module)


def _home(spec: GeneratorSpec, folder: Path, base_folder: Path | None) -> _Home:
    if spec.packaging == "pipeline":
        return _Home(folder, spec.subfolder, spec.variant, None, spec.files)
    if spec.base is None or base_folder is None:
        raise UnitFailure(Reason.bad_config, f"{spec.packaging}: {spec.name} names no base pipeline to be loaded into")
    base = spec.base
    return _Home(base_folder, base.subfolder, base.variant, base.pipeline_class, base.files)


def _modules(
    spec: GeneratorSpec, folder: Path, model: ModelFolder, loader: ModuleLoader, changed: tuple[str, ...]
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Return the pipeline's networks by name, and what the way they were got adds to the options."""
    parts = [part for part in model.components if part.weights is not None]

    def own(part: Component) -> nn.Module:
        return loader.load(part, shared=_is_shared(part, spec, loader), alone=part.name in changed)

    if spec.packaging == "single-file":
        file = load_single_file(spec, folder, model, loader)
        record: dict[str, Any] = {"weight_name": file.weight_name, "base_components": file.from_base}
        if spec.component is not None:
            record["component"] = spec.component
        return file.modules, record | {"marked_scheduler_config": file.scheduler_config}
    if spec.packaging == "component":
        modules = {spec.component or "": load_component(spec, folder, model, loader)}
        modules |= {part.name: own(part) for part in parts if part.name != spec.component}
        return modules, {"component": spec.component, "weight_name": spec.weight_name}
    return {part.name: own(part) for part in parts}, {}


def _is_shared(part: Component, spec: GeneratorSpec, loader: ModuleLoader) -> bool:
    """Whether this component of the folder with model_index.json is taken from the store, if it has to be loaded.

    Of an adapter's base all is, and what a checkpoint takes of its base. Otherwise text and image encoders and
    autoencoders are shared between repos; denoisers hardly ever are. What will be compiled is not, whosever it is.
    """
    if part.weights is None or part.name == spec.component or loader.compiles(part.name):
        return False
    if spec.packaging in _ADAPTERS:
        return True
    if spec.packaging == "single-file":
        return is_taken(part, spec)
    return issubclass(part.type, transformers.PreTrainedModel) or part.type.__module__.startswith(
        "diffusers.models.autoencoders"
    )


def _options(spec: GeneratorSpec, dtype: Dtype, model: ModelFolder, modules: dict[str, nn.Module]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "packaging": spec.packaging,
        "subfolder": spec.subfolder,
        "variant": spec.variant,
        "dtype": dtype,
        "use_safetensors": True,
        "omitted": list(model.omitted),
        "component_dtypes": {name: _dtype_name(module) for name, module in sorted(modules.items())},
        **switches(model.pipeline_class),
    }
    if isinstance(spec.base, BasePipeline):
        # A checkpoint takes of its base what it lacks itself, and only these files say what that is. Anything else
        # takes the same files of any base, so that they can be chosen anew.
        told = spec.packaging == "single-file" and spec.base.files
        options["base"] = spec.base.model_dump(mode="json", exclude=None if told else {"files"})
    if spec.params.scheduler_config:
        options["scheduler_config"] = spec.params.scheduler_config
    if spec.params.trigger_words:
        options["trigger_words"] = list(spec.params.trigger_words)
    return options


def _dtype_name(module: nn.Module) -> str:
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()})
    return "+".join(dtypes)
