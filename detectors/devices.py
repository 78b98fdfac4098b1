"""Which device computes, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from manifests.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def resolve_device(name: DeviceName = "auto") -> torch.device:
    """Return the device; "auto" takes CUDA, then MPS, then the CPU. InputError when the named one is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise InputError(f"device {name!r} is unknown; allowed: auto, {', '.join(available)}")
    if not available[name]:
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise InputError(f"device {name!r} is not available on this machine; available: {usable}")
    return torch.device(name)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run the block with `count` torch threads: sums are split by thread, so the last bits depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
