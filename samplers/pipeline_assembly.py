"""Build a pipeline around loaded networks: tokenizers and scheduler from its folder, no checker and no watermarker."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import nn

from manifests.generator import Dtype
from samplers.failures import describe, load_failures
from samplers.model_folder import OMITTED, ModelFolder
from samplers.module_loading import quiet
from shards.statuses import Reason, UnitFailure

_OFF = ("requires_safety_checker", "add_watermarker")


def switches(pipeline_class: type[diffusers.DiffusionPipeline]) -> dict[str, bool]:
    """The constructor's switches that must be off, of those that the class has."""
    accepted = inspect.signature(pipeline_class.__init__).parameters
    return {name: False for name in _OFF if name in accepted}


def assemble(model: ModelFolder, modules: Mapping[str, nn.Module], dtype: Dtype) -> Any:
    """Return the pipeline of `model` with these networks.

    Raises:
        UnitFailure: bad_config, missing_file, invalid_pipeline or pipeline_class.
    """
    quiet()
    accepted = inspect.signature(model.pipeline_class.__init__).parameters
    absent = dict.fromkeys(name for name in OMITTED if name in accepted)
    try:
        with load_failures(model.pipeline_class.__name__):
            pipeline: Any = model.pipeline_class.from_pretrained(
                model.path,
                **modules,
                **absent,
                **switches(model.pipeline_class),
                dtype=getattr(torch, dtype),
                local_files_only=True,
            )
    except Exception as error:
        # The tokenizers library has no exception class of its own: it raises bare Exception for a bad tokenizer.json.
        if type(error) is not Exception:
            raise
        raise UnitFailure(Reason.bad_config, f"{model.pipeline_class.__name__}: {describe(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
