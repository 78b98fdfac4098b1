"""Loading weights into a network: every key in its place, or an error that names the ones that are not."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from manifests.errors import InputError

WEIGHTS_FILE = "model.safetensors"
_NAMED_KEYS = 8


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, or of `model.safetensors` in a folder, on the CPU.

    Raises:
        InputError: the file is missing or is no safetensors file.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    try:
        return load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; weights are read from a local folder with {WEIGHTS_FILE}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: cannot be read as safetensors: {error}") from error


def load_strict(model: nn.Module, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """Give `model` these tensors, as float32; the names and shapes must match exactly.

    The tensors become the model's own, so a model built on the meta device, which has none, is filled.

    Raises:
        InputError: keys are missing, unexpected or of another shape; `model` is left as it was.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if problems:
        raise InputError(f"{where}: the weights do not fit the architecture; {'; '.join(problems)}")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=True, assign=True)


def load_backbone(model: nn.Module, path: Path) -> None:
    """Load a pretrained timm backbone into a detector, all but the classifier head, which keeps its fresh weights.

    `path` is timm's own file (names without prefix) or its folder. The backbone's keys must match strictly.

    Raises:
        InputError: as `read_weights` and `load_strict`.
    """
    current = model.state_dict()
    heads = {name: tensor for name, tensor in current.items() if name.startswith("vit.head.")}
    pretrained = {f"vit.{name}": tensor for name, tensor in read_weights(path).items() if not name.startswith("head.")}
    load_strict(model, pretrained | heads, path)


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED_KEYS
    return ", ".join(names[:_NAMED_KEYS]) + (f" and {rest} more" if rest > 0 else "")
