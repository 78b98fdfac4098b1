"""How much memory a device and a machine have, and how much of it a model may be planned to fill.

Torch is imported when a device is asked, not before: the driver plans without it.
"""

import os
from pathlib import Path

GIB = 1 << 30
_KEPT_FREE = 0.08
"""Share that is planned for nobody: fragments of the allocator and workspaces of the libraries."""
_LIBRARIES = GIB
"""Bytes that the driver's context, the kernels and the safety checker take; in main memory an idle worker."""
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's limit is; the word `max` or an enormous number where there is none."""


def usable_bytes(memory: int) -> int:
    """Return how many of `memory` bytes a model and its activations may be planned to take.

    Args:
        memory: a device's, or a worker's share of main memory.
    """
    return max(0, int(memory * (1 - _KEPT_FREE)) - _LIBRARIES)


def device_memory(device: str) -> int:
    """Return the bytes of `device` (`cuda`, `cuda:1`, `mps`, `cpu`), in whole GiB; 0 for a CPU, which has none.

    It is the device's size, not what happens to be free, so that what follows from it is the same after a restart.
    Cards of one model differ by some MiB, hence the rounding (down).

    Raises:
        RuntimeError: there is no such device.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return _whole_gib(torch.cuda.get_device_properties(device).total_memory)
    if kind == "mps":
        return _whole_gib(torch.mps.recommended_max_memory())
    return 0


def main_memory() -> int:
    """Return the bytes of main memory that this machine has, or its container may use."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _MEMORY_LIMITS:
        if file.is_file() and (limit := file.read_text().strip()).isdigit():
            sizes.append(int(limit))
    return min(sizes)


def main_memory_share(cpu_threads: int, worker_memory: int | None) -> int:
    """Return the bytes of main memory that are one worker's.

    Args:
        cpu_threads: of the worker. As many workers run on a machine as have threads there, so it has their share.
        worker_memory: the run's limit for a worker; None for none.
    """
    if worker_memory is not None:
        return min(worker_memory, main_memory())
    return int(main_memory() * min(1.0, cpu_threads / (os.cpu_count() or 1)))


def limit_device_memory(device: str, share: float) -> None:
    """Keep this process to its `share` of a GPU (0 < share < 1) that other workers use too; else do nothing.

    Beyond it torch reports that memory is out, so a worker fails for its own model's size, never for its neighbour's.
    """
    import torch

    if torch.device(device).type == "cuda" and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def _whole_gib(bytes_: int) -> int:
    return bytes_ // GIB * GIB
