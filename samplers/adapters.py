"""What sits on a resident base for a while, and can be switched off."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open

from samplers.failures import load_failures
from shards.statuses import Reason, UnitFailure


class Adapter(Protocol):
    """An attached LoRA or textual inversion. `record` is the JSON-ready part of a row's load options that it adds."""

    record: dict[str, Any]

    def off(self) -> AbstractContextManager[None]:
        """Let the pipeline sample as if the adapter were not there, for the time of the context."""


def adapter_file(folder: Path, weight_name: str | None, what: str) -> Path:
    """Return the safetensors file of an adapter or checkpoint: the named one, or the only one there is.

    Raises:
        UnitFailure: missing_file when there is none, or no name and several; corrupt_weights when it cannot be opened.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
    if weight_name is not None and not weight_name.endswith(".safetensors"):
        raise UnitFailure(Reason.missing_file, f"{what}: {weight_name} is not a safetensors file, others are not read")
    if weight_name is None and len(found) == 1:
        weight_name = found[0]
    if weight_name not in found:
        named = f"{weight_name} is absent" if weight_name else "weight_name must say which file"
        raise UnitFailure(Reason.missing_file, f"{what}: {named}; the repo has {', '.join(found[:5]) or 'none'}")
    path = folder / weight_name
    with load_failures(f"{what} {weight_name}"), safe_open(path, framework="pt"):
        return path
