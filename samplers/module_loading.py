"""Load one network of a pipeline and check that every tensor of it came from the files.

The libraries only warn of missing tensors and fill them with noise. Here they are a failure.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from manifests.generator import Dtype, WeightFile
from samplers.compiled_denoisers import DENOISERS
from samplers.component_store import Lease
from samplers.failures import load_failures
from samplers.model_folder import Component
from samplers.placement import Placement
from shards.statuses import Reason, UnitFailure

_SHOWN_KEYS = 3


class ModuleLoader:
    """Loads the components of one repo in one precision to where a placement wants them, under a pipeline's lease."""

    def __init__(
        self,
        lease: Lease,
        dtype: Dtype,
        placement: Placement,
        root: Path,
        files: tuple[WeightFile, ...] = (),
        changed: tuple[str, ...] = (),
    ) -> None:
        """`root` is the repo's folder; `files` are what is known of its weight files, which saves hashing them.

        `changed` are the components that the pipeline's adapter changes; they are not compiled.
        """
        self.dtype = dtype
        self.alone = placement.offload != "none"
        """Whether the pipeline puts hooks into its modules, so that no other may run them meanwhile."""
        self._lease = lease
        self._changed = changed
        self._placement = placement
        self._root = root
        self._known: Mapping[str, tuple[int, str]] = {
            file.path: (file.size, file.sha256) for file in files if file.sha256 is not None
        }

    def compiles(self, name: str) -> bool:
        """Whether the component of this name will be compiled."""
        return self._placement.compile and not self.alone and name in DENOISERS and name not in self._changed

    def device(self, name: str) -> str:
        """Where the component of this name waits until it is placed."""
        return "cpu" if self.alone or self.compiles(name) else self._placement.device

    def key(self, component: Component) -> str:
        """Return what the component is called in the store: whoever loads the same to the same place has this key too.

        Raises:
            UnitFailure: missing_file or bad_config.
        """
        content = component.content_key(self._root, self._known)
        return f"{content} {self.dtype} {self.device(component.name)}"

    def load(self, component: Component, *, shared: bool, alone: bool = False) -> nn.Module:
        """Load a component, or get it from the store when it is `shared`; `alone` when it will be changed for a while.

        What will be compiled is never shared: the next model's weights are copied into it.

        Raises:
            UnitFailure: as `load_module`.
        """
        device = self.device(component.name)
        if not shared or self.compiles(component.name):
            return load_module(component, self.dtype, device)
        load = partial(load_module, component, self.dtype, device)
        return self._lease.fetch(self.key(component), load, alone=alone or self.alone)


def load_module(component: Component, dtype: Dtype, device: str) -> nn.Module:
    """Load one component from its folder.

    Raises:
        UnitFailure: missing_file, bad_config, corrupt_weights, device_oom, host_oom; invalid_pipeline when tensors are
            missing or have another shape.
    """
    if component.weights is None:
        raise ValueError(f"{component.name} has no weights")
    if not component.weights.files:
        raise UnitFailure(Reason.missing_file, f"{component.name}: safetensors weights are needed, found none")
    quiet()
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
        refuse_keys(component.name, problem, info.get(problem) or ())
    return settled(module, component.name, device)


def refuse_keys(what: str, problem: str, keys: Any) -> None:
    """Raise UnitFailure invalid_pipeline naming the first of `keys`, if there are any."""
    found = sorted(map(str, keys))
    if found:
        shown = ", ".join(found[:_SHOWN_KEYS]) + (", ..." if len(found) > _SHOWN_KEYS else "")
        raise UnitFailure(Reason.invalid_pipeline, f"{what}: {len(found)} {problem}: {shown}")


def settled(module: nn.Module, what: str, device: str) -> nn.Module:
    """Put a loaded network onto its device, for sampling only."""
    with load_failures(f"moving {what} to {device}"):
        return module.to(device).eval().requires_grad_(False)


def quiet() -> None:
    """Only errors and no progress bars: a worker's log is read by people, and what the libraries warn of at each call
    (cut prompts) is in the rows."""
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
