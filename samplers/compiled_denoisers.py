"""A compiled denoiser outlives its model: the next model of the same make moves its weights into it.

Compiling a denoiser takes minutes, and thousands of models share a dozen makes. Compiled code takes weights as inputs,
so it fits every module of equal class, config, shapes, precision and device: the kept module gets the new model's
tensors by copy, all of them and bit by bit, and the results are those of compiling anew.

One make is kept at a time, as torch keeps compiled code for the whole process and gives up compiling a function that
was compiled too often. Here a new make starts with all of that forgotten, and reaching the limit is an error: falling
back to other kernels in silence would make bytes depend on what a worker happened to do before.
"""

import gc
import weakref
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

DENOISERS = ("unet", "transformer")
"""Components that are compiled: they run at every step. Further stages of staged pipelines stay as they are."""

_INCIDENTAL = ("_name_or_path", "_commit_hash", "_diffusers_version", "_use_default_values")
"""Config entries that say where a copy came from."""
_SHAPES = 32
"""Batch shapes that one make may be compiled for: halved batches and other sizes of the same model."""


@dataclass
class _Kept:
    make: tuple[Any, ...]
    module: nn.Module
    user: "weakref.ref[Any]"


_kept: dict[str, _Kept] = {}
"""Component's name -> the compiled module. Of the process, as torch's own store of compiled code is."""


def adopt_compiled(pipeline: Any, device: str, names: Collection[str]) -> tuple[str, ...]:
    """Give the pipeline compiled denoisers on `device`: kept ones with its weights, else its own, compiled and kept.

    Compiling itself happens at the first call with each shape.

    Args:
        names: of the denoisers to compile. Each must be the pipeline's alone and stay as it is: the next model's
            weights are copied into it. So one that others share, or that an adapter is for, may not be among them,
            whether the adapter changed it or not.

    Returns:
        The names of the components that are compiled.
    """
    components = {name: getattr(pipeline, name, None) for name in DENOISERS if name in names}
    chosen = {name: module for name, module in components.items() if isinstance(module, nn.Module)}
    makes = {name: _make(module, device) for name, module in chosen.items()}
    reusable = {name for name, make in makes.items() if _is_free(name, make)}
    if reusable != makes.keys():
        _kept.clear()
        reusable = set()
        torch.compiler.reset()
    for name, module in chosen.items():
        if name in reusable:
            kept = _kept[name].module
            copy_tensors(module, kept)
            pipeline.register_modules(**{name: kept})
        else:
            module.to(device)
            _compile(module)
        _kept[name] = _Kept(makes[name], getattr(pipeline, name), weakref.ref(pipeline))
    return tuple(chosen)


def release_compiled() -> None:
    """Keep no compiled module any longer; a pipeline that uses one keeps it."""
    _kept.clear()


@torch.no_grad()
def copy_tensors(source: nn.Module, target: nn.Module) -> None:
    """Copy every parameter and buffer of `source` into the one of the same name of `target`, where it is.

    Raises:
        ValueError: names, shapes or precisions differ; then nothing is copied.
    """
    if _layout(source) != _layout(target):
        raise ValueError("modules with other tensors")
    targets = dict(_tensors(target))
    for name, tensor in _tensors(source):
        targets[name].copy_(tensor)


def _compile(module: nn.Module) -> None:
    dynamo: Any = torch._dynamo.config
    dynamo.recompile_limit = _SHAPES
    dynamo.fail_on_recompile_limit_hit = True
    module.compile(mode="default", dynamic=False)


def _is_free(name: str, make: tuple[Any, ...]) -> bool:
    """Whether a kept module fits and no pipeline uses it: two models in one module would be one model's images."""
    kept = _kept.get(name)
    if kept is None or kept.make != make:
        return False
    if kept.user() is not None:
        gc.collect()  # a pipeline in a reference cycle may be gone for everybody but the collector
    return kept.user() is None


def _make(module: nn.Module, device: str) -> tuple[Any, ...]:
    config = {key: value for key, value in dict(getattr(module, "config", {})).items() if key not in _INCIDENTAL}
    return type(module), repr(sorted(config.items())), _layout(module), device


def _layout(module: nn.Module) -> tuple[tuple[str, torch.Size, torch.dtype], ...]:
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in _tensors(module))


def _tensors(module: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
