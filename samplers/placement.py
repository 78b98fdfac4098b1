"""Where a pipeline's modules wait and run: all on the device, one at a time, or layer by layer.

What waits in main memory is copied to the device before it runs, and runs there with the same kernels. So offloading
costs time and changes no byte, and it is chosen by the device at hand, while precision and batch size are planned.
"""

import gc
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate.hooks import remove_hook_from_module
from torch import nn

from samplers.compiled_denoisers import adopt_compiled, release_compiled
from samplers.device_memory import device_memory, usable_bytes
from samplers.failures import load_failures

Offload = Literal["none", "model", "sequential"]
OffloadSetting = Literal["auto", "none", "model", "sequential"]


@dataclass(frozen=True)
class Placement:
    """Where and how a pipeline shall run.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        offload: `model` moves whole components to the device for as long as they run, `sequential` single layers.
        compile: compile the denoiser, when nothing is offloaded.
        idle_bytes: what components that no pipeline uses may take up beside it in each memory (`cpu`, `cuda`, `mps`);
            in a memory that is not named, as much as they will.
    """

    device: str
    offload: Offload = "none"
    compile: bool = False
    idle_bytes: Mapping[str, int] = field(default_factory=dict, hash=False)


def plan_placement(
    pipeline_bytes: int,
    activation_bytes: int,
    device: str,
    offload_setting: OffloadSetting,
    *,
    largest_bytes: int | None = None,
    share: float = 1.0,
    main_bytes: int | None = None,
    compile: bool = False,
) -> Placement:
    """Choose as little offloading as `device` needs; a setting other than `auto` is taken as it is.

    Args:
        pipeline_bytes: all modules in the precision that they run in.
        activation_bytes: what one batch takes beside them.
        largest_bytes: the largest module; None when unknown, which is taken to be all of them.
        share: of the device's memory that is this process's, such as Ray's fraction of a GPU.
        main_bytes: of main memory that are this process's; None when nothing is to be let go for its sake.
        compile: whether the run compiles denoisers. A hook that moves weights cannot be compiled, so an offloaded
            pipeline is not.
    """
    memory = device_memory(device)
    largest = pipeline_bytes if largest_bytes is None else largest_bytes
    usable = usable_bytes(int(memory * min(1.0, share)))
    offload: Offload = "sequential"
    if memory == 0:
        offload = "none"  # modules run where they would wait
    elif offload_setting != "auto":
        offload = offload_setting
    elif pipeline_bytes + activation_bytes <= usable:
        offload = "none"
    elif largest + activation_bytes <= usable:
        offload = "model"
    idle: dict[str, int] = {}
    if memory > 0:
        # Layer by layer is for what is larger than the device: it may have all of it.
        running = {"none": pipeline_bytes, "model": largest, "sequential": usable}[offload]
        idle[torch.device(device).type] = max(0, usable - running - activation_bytes)
    if main_bytes is not None:
        # What runs on a device passes through main memory one by one; what is offloaded waits there.
        waiting = largest if memory > 0 and offload == "none" else pipeline_bytes
        idle["cpu"] = max(0, usable_bytes(main_bytes) - waiting - (0 if memory > 0 else activation_bytes))
    return Placement(device, offload, compile and offload == "none", idle)


def place(pipeline: Any, placement: Placement, compilable: Collection[str] = ()) -> dict[str, Any]:
    """Move the pipeline's modules to the device or have them moved when they run, and compile what shall be.

    Modules may be anywhere before, and may carry the hooks of an earlier placement. Denoisers that will be compiled
    should be in main memory still: then the device never holds two of them.

    Args:
        compilable: names of the denoisers that nobody else has and no adapter is for; no other is compiled.

    Returns:
        The JSON-ready record for `call_kwargs.load`: `offload`, and in `compiled` the names of compiled components.

    Raises:
        UnitFailure: device_oom or host_oom; invalid_pipeline when the pipeline cannot be placed so.
    """
    offload = placement.offload
    if offload == "model" and pipeline.model_cpu_offload_seq is None:
        offload = "sequential"  # the class does not say in which order its components run
    compiled: tuple[str, ...] = ()
    with load_failures(f"moving to {placement.device}"):
        _remove_hooks(pipeline)
        if placement.compile and offload == "none":
            compiled = adopt_compiled(pipeline, placement.device, compilable)
        else:
            release_compiled()
        if offload == "none":
            pipeline.to(placement.device)
        elif offload == "model":
            pipeline.enable_model_cpu_offload(device=placement.device)
        else:
            pipeline.to("cpu")
            pipeline.enable_sequential_cpu_offload(device=placement.device)
    return {"offload": offload, "compiled": list(compiled)}


def _remove_hooks(pipeline: Any) -> None:
    """Give modules back from an earlier placement: a shared one may come from a pipeline that was offloaded."""
    for module in pipeline.components.values():
        if isinstance(module, nn.Module) and hasattr(module, "_hf_hook"):
            remove_hook_from_module(module, recurse=True)


def free_device_memory() -> None:
    """Give back what the allocator keeps of modules that are gone.

    One that hangs in a cycle of references is gone for everybody but the collector, hence that first.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
