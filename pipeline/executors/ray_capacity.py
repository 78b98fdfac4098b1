"""Do the workers fit on the cluster? Ray itself would wait for a place for ever, and silently."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from manifests.errors import InputError
from pipeline.config import ExecuteConfig


def check_capacity(nodes: Sequence[Mapping[str, Any]], execute: ExecuteConfig, cpu_threads: int) -> int:
    """Return how many of the workers fit on the nodes (as `ray.nodes()` lists them) when nobody else uses them.

    A worker takes `cpu_threads` CPUs and `execute.gpus_per_worker` GPUs of one node.

    Raises:
        InputError: no node can hold even one worker, or a worker asks for a part of a GPU beside whole ones.
    """
    gpus = execute.gpus_per_worker
    if gpus > 1 and gpus != int(gpus):
        raise InputError(f"execute.gpus_per_worker = {gpus:g}: above 1 it must be a whole number")
    alive = [node.get("Resources", {}) for node in nodes if node.get("Alive")]
    fitting = sum(_fitting(float(node.get("CPU", 0)), float(node.get("GPU", 0)), cpu_threads, gpus) for node in alive)
    if fitting < 1:
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in alive) or "nothing"
        raise InputError(
            f"execute.workers = {execute.workers}, execute.gpus_per_worker = {gpus:g}: the cluster can hold no worker; "
            f"each needs {cpu_threads} CPUs (sample.cpu_threads) and {gpus:g} GPUs on one node, and its nodes have: "
            f"{has}"
        )
    return min(fitting, execute.workers)


def _fitting(node_cpus: float, node_gpus: float, cpus: int, gpus: float) -> int:
    by_cpu = int(node_cpus // cpus)
    if gpus == 0:
        return by_cpu
    if gpus < 1:  # parts of one worker never lie on two GPUs
        return min(by_cpu, int(node_gpus) * math.floor(1 / gpus + 1e-6))
    return min(by_cpu, int(node_gpus // gpus))
