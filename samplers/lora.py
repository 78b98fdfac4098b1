"""Low-rank adapters on a resident base: attached through diffusers, every key accounted for.

The layers are never fused into the base's weights. What the loader made of the file is compared, by content, with what
sits in the base afterwards: so a key counts as loaded in every format (diffusers, peft, kohya, ...), whatever it was
called, and a key that was dropped on the way is seen.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from manifests.generator import GeneratorSpec
from samplers.adapters import adapter_file
from samplers.failures import load_failures
from samplers.module_loading import quiet
from shards.statuses import Reason, UnitFailure

_NAME = "generator"
_DROPPED = ("dora_scale", "bundle_emb")
"""Parts of a file that diffusers leaves out before it converts the rest."""


def adaptable(pipeline_class: type) -> tuple[str, ...]:
    """Return the names of the components that a LoRA of this pipeline may change.

    Raises:
        UnitFailure: call_signature, when the class takes no LoRA.
    """
    if not hasattr(pipeline_class, "load_lora_weights"):
        raise UnitFailure(Reason.call_signature, f"{pipeline_class.__name__} takes no LoRA")
    return tuple(pipeline_class._lora_loadable_modules)  # type: ignore[attr-defined]


class LoraAdapter:
    """A LoRA that is attached to a pipeline."""

    def __init__(self, spec: GeneratorSpec, folder: Path, pipeline: Any) -> None:
        """Attach the adapter of `folder` to the pipeline's modules, with the scale that `spec` asks for.

        Raises:
            UnitFailure: no_keys_loaded when nothing of the file fits the base; invalid_pipeline when a part fits and
                another does not; missing_file, corrupt_weights. The base is then left half changed.
        """
        file = adapter_file(folder, spec.weight_name, "LoRA")
        names = adaptable(type(pipeline))
        parts = {name: getattr(pipeline, name, None) for name in names}
        self._modules = [part for part in parts.values() if isinstance(part, nn.Module)]
        scale = 1.0 if spec.params.adapter_scale is None else spec.params.adapter_scale
        converted = self._load(pipeline, file)
        loaded, ignored = self._account(converted, file)
        with load_failures("LoRA scale"):
            pipeline.set_adapters([_NAME], [scale])
        self.record: dict[str, Any] = {
            "weight_name": file.relative_to(folder).as_posix(),
            "adapter": {"scale": scale, "loaded_keys": loaded, "ignored_keys": ignored},
        }

    @contextmanager
    def off(self) -> Iterator[None]:
        """Skip the adapter's layers: what they wrap answers alone."""
        layers = [layer for layer in self._layers() if isinstance(layer, BaseTunerLayer)]
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    def _layers(self) -> Iterator[nn.Module]:
        for module in self._modules:
            yield from module.modules()

    def _load(self, pipeline: Any, file: Path) -> dict[str, torch.Tensor]:
        """Attach; return the tensors that the loader took the file for."""
        quiet()
        converted: dict[str, torch.Tensor] = {}
        convert = pipeline.lora_state_dict

        def noted(*args: Any, **kwargs: Any) -> Any:
            answer = convert(*args, **kwargs)
            converted.update(answer[0] if isinstance(answer, tuple) else answer)
            return answer

        # Found on the instance before the class, for this one call: the loader converts once, and we see the result.
        vars(pipeline)["lora_state_dict"] = noted
        try:
            with load_failures(f"LoRA {file.name}"):
                pipeline.load_lora_weights(
                    str(file.parent),
                    weight_name=file.name,
                    adapter_name=_NAME,
                    use_safetensors=True,
                    local_files_only=True,
                )
        except UnitFailure as failure:
            touched = any(isinstance(layer, BaseTunerLayer) for layer in self._layers())
            if failure.reason is Reason.invalid_pipeline and not touched:
                raise UnitFailure(Reason.no_keys_loaded, failure.detail) from failure
            raise
        finally:
            del vars(pipeline)["lora_state_dict"]
        return converted

    def _account(self, converted: Mapping[str, torch.Tensor], file: Path) -> tuple[int, int]:
        """Return how many of the file's tensors sit in the base, and how many do not."""
        attached = [
            tensor for module in self._modules for name, tensor in module.named_parameters() if _NAME in name.split(".")
        ]
        if not attached:
            raise UnitFailure(Reason.no_keys_loaded, f"LoRA {file.name}: no key of it fits the base")
        dtypes = {tensor.dtype for tensor in attached}
        offered = {key: value for key, value in converted.items() if not key.endswith("alpha")}
        prints = {key: [_fingerprint(value.to(dtype)) for dtype in dtypes] for key, value in offered.items()}
        present = Counter(_fingerprint(tensor) for tensor in attached if not tensor.is_meta)
        loaded = 0
        for candidates in prints.values():
            match = next((candidate for candidate in candidates if present[candidate] > 0), None)
            if match is not None:
                present[match] -= 1
                loaded += 1
        if not loaded:
            raise UnitFailure(Reason.no_keys_loaded, f"LoRA {file.name}: no key of it fits the base")
        if loaded < len(attached):
            raise UnitFailure(
                Reason.invalid_pipeline, f"LoRA {file.name}: {len(attached) - loaded} of its layers' tensors are absent"
            )
        return loaded, len(offered) - loaded + _dropped(file)


def _dropped(file: Path) -> int:
    """How many tensors of the file diffusers leaves out before it converts."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        return sum(any(part in key for part in _DROPPED) for key in content.keys())  # noqa: SIM118


def _fingerprint(tensor: torch.Tensor) -> tuple[tuple[int, ...], str, bytes]:
    plain = tensor.detach().cpu().contiguous()
    return (
        tuple(plain.shape),
        str(plain.dtype),
        hashlib.sha256(plain.reshape(-1).view(torch.uint8).numpy().data).digest(),
    )
