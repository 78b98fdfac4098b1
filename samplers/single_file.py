"""A checkpoint in one file, in the layout of its training code: networks from the file, the rest from a base.

The folder of the base that the generator names gives configs, tokenizers and scheduler, so nothing is looked up on the
hub or in its cache. A network that the file leaves out (text encoders and VAE of most FLUX checkpoints) is the base's,
when its weights are among those that the catalog chose: the folder may hold more of them, for other generators' sake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    create_diffusers_clip_model_from_ldm,
    create_diffusers_t5_model_from_checkpoint,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
)
from torch import nn
from transformers import T5EncoderModel

from manifests.generator import Dtype, GeneratorSpec
from samplers.adapters import adapter_file
from samplers.failures import describe, load_failures
from samplers.model_folder import Component, ModelFolder
from samplers.module_loading import ModuleLoader, quiet, refuse_keys, settled
from samplers.schedulers import marked_prediction
from shards.statuses import Reason, UnitFailure

_DENOISERS = ("unet", "transformer")
_VAE_PREFIXES = ("first_stage_model.", "vae.")


@dataclass(frozen=True)
class FileParts:
    """What a checkpoint gave: the networks, of which those named in `from_base` are the base's own.

    `scheduler_config` holds the entries that the checkpoint's markers ask for.
    """

    modules: dict[str, nn.Module]
    weight_name: str
    from_base: list[str]
    scheduler_config: dict[str, Any]


def load_single_file(spec: GeneratorSpec, folder: Path, model: ModelFolder, loader: ModuleLoader) -> FileParts:
    """Load all networks of `model` from the checkpoint, or from the base where the checkpoint has none.

    Of the base only networks with weights in `spec.base.files` are taken; without any, the checkpoint has to be
    complete, unless it is known as one part alone (`spec.component`), which needs whatever else the base has.

    Raises:
        UnitFailure: missing_file, also when neither file nor base has a network; corrupt_weights; invalid_pipeline when
            the checkpoint is of another architecture, or lacks tensors.
    """
    quiet()
    file = adapter_file(folder, spec.weight_name, "checkpoint")
    with load_failures(file.name):
        checkpoint = safetensors.torch.load_file(file)
    modules: dict[str, nn.Module] = {}
    from_base = []
    networks = [part for part in model.components if part.weights is not None]
    # The denoiser first: without one it is no checkpoint at all, whatever else it lacks.
    for part in sorted(networks, key=lambda part: part.name not in _DENOISERS):
        if _in_file(part, checkpoint):
            with load_failures(f"{part.name} of {file.name}"):
                module = _convert(part, checkpoint, model.path, loader.dtype)
            refuse_keys(part.name, f"tensors that {file.name} lacks", _empty(module))
            modules[part.name] = settled(module, part.name, loader.device(part.name))
        elif is_taken(part, spec):
            modules[part.name] = loader.load(part, shared=True)
            from_base.append(part.name)
        else:
            lacks = f"{part.name}: {file.name} lacks its weights, and so does what is taken of the base"
            raise UnitFailure(Reason.missing_file, lacks)
    name = file.relative_to(folder).as_posix()
    return FileParts(modules, name, from_base, marked_prediction(checkpoint))


def is_taken(part: Component, spec: GeneratorSpec) -> bool:
    """True when the base has weights of this network that are the generator's to use.

    Others may lie there too: a generator that took them would depend on what was fetched before it.
    """
    if part.weights is None or not part.weights.files:
        return False
    if spec.base is None or not spec.base.files:
        return spec.component is not None
    folder = PurePosixPath(spec.base.subfolder or "", part.name)
    return any(PurePosixPath(file.path).parent == folder for file in spec.base.files)


def _in_file(part: Component, checkpoint: Mapping[str, Any]) -> bool:
    """True when the checkpoint holds this network; a denoiser is always asked of it, it is no checkpoint without."""
    if part.name in _DENOISERS:
        return True
    if issubclass(part.type, T5EncoderModel):
        return bool(is_t5_in_single_file(checkpoint))
    if part.type.__module__.startswith("diffusers.models.autoencoders"):
        return any(key.startswith(_VAE_PREFIXES) for key in checkpoint)
    return bool(is_clip_model_in_single_file(part.type, checkpoint))


def _convert(part: Component, checkpoint: Mapping[str, Any], base: Path, dtype: Dtype) -> nn.Module:
    """Build one network from its part of the checkpoint, with the base's config."""
    # The converters of some families take tensors out of the dictionary.
    own = dict(checkpoint)
    # Only an absolute path can never be read as the id of a repo, which the libraries would look for in their cache.
    options: dict[str, Any] = {"config": str(base.absolute()), "subfolder": part.name, "local_files_only": True}
    torch_dtype = getattr(torch, dtype)
    module: nn.Module
    if hasattr(part.type, "from_single_file"):
        try:
            module = part.type.from_single_file(own, torch_dtype=torch_dtype, **options)
        except SingleFileComponentError as error:
            raise UnitFailure(Reason.invalid_pipeline, f"{part.name}: {describe(error)}") from error
        except NotImplementedError as error:  # what torch says of moving a network that has tensors without values
            raise UnitFailure(Reason.invalid_pipeline, f"{part.name}: the checkpoint lacks tensors of it") from error
    elif issubclass(part.type, T5EncoderModel):
        module = create_diffusers_t5_model_from_checkpoint(part.type, own, torch_dtype=torch_dtype, **options)
    else:
        module = create_diffusers_clip_model_from_ldm(part.type, own, torch_dtype=torch_dtype, **options)
    return module


def _empty(module: nn.Module) -> list[str]:
    """The tensors that were never filled."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in tensors if tensor.is_meta]
