"""What byte equality depends on besides the unit: the processor, its threads, the precision and the libraries.

The same unit gives the same bytes wherever the environment's id is the same. Across ids images are alike, not equal.
"""

import hashlib
import json
import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import features

_LIBRARIES = ("torch", "diffusers", "transformers", "pillow", "numpy")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Environment:
    """`id` is a readable prefix and a hash of `details`, such as `cpu-avx512-t1-float32-9f86d081884c`."""

    id: str
    details: dict[str, str]


def current_environment(device: str, dtype: str, *, compiled: bool = False) -> Environment:
    """Describe this process as it would sample on `device` (`cpu`, `cuda`, `cuda:1`, `mps`) in `dtype`.

    `compiled` says that denoisers are compiled (`call_kwargs.load.compiled` is not empty): other kernels than torch's
    own, made by a compiler that is part of the answer. Offloading is not: what is offloaded runs the same kernels.
    Call it after `pin_threads` and `set_deterministic`: their settings are part of the answer.
    """
    kind = torch.device(device).type
    details = {
        "device": kind,
        "processor": _processor(device),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "dtype": dtype,
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        # The PNG encoder is part of the bytes, and Pillow may be built against another zlib.
        "zlib": str(features.version("zlib_ng") or features.version("zlib")),
        **{library: version(library) for library in _LIBRARIES},
    }
    if kind == "cuda":
        details |= {
            "cuda": str(torch.version.cuda or torch.version.hip),
            "cudnn": str(torch.backends.cudnn.version()),
            "tf32": str(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
        }
    if compiled:
        details["compiler"] = _compiler(kind)
    canonical = json.dumps(details, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()
    name = re.sub(r"[^a-z0-9]+", "", details["processor"].rsplit("/", 1)[-1].lower())[:24]
    made = "compiled-" if compiled else ""
    return Environment(f"{kind}-{name}-t{details['threads']}-{dtype}-{made}{digest}", details)


def _compiler(kind: str) -> str:
    """What turns inductor's code into kernels: Triton on a GPU, the C++ compiler that torch finds on a CPU."""
    if kind == "cuda":
        return f"triton {version('triton')}"
    from torch._inductor.cpp_builder import get_compiler_version_info, get_cpp_compiler

    said = get_compiler_version_info(get_cpp_compiler())
    found = re.search(r"(gcc|clang) version \S+", said)
    return found.group() if found else said


def _processor(device: str) -> str:
    """The GPU's name, or the CPU's maker and the vector instructions that torch's kernels use on it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_vendor()}/{torch.backends.cpu.get_cpu_capability()}"


def _cpu_vendor() -> str:
    # The maths libraries choose code paths by maker as well as by instruction set.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^vendor_id\s*:\s*(\S+)", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found.group(1)
    return platform.processor() or "unknown"


def pin_threads(threads: int) -> None:
    """Fix the number of CPU threads; call it before the first operation.

    One and two threads split sums differently and so give different bytes in every family. The variables are set for
    libraries that are loaded later and for child processes.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(threads)
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:
            # Refused once parallel work has begun. Only forked TorchScript uses these threads, which sampling does
            # not, so bytes do not depend on it.
            return


def set_deterministic() -> None:
    """Choose reproducible kernels: deterministic algorithms where one exists, no benchmarking, full float32.

    Operations without a deterministic kernel warn instead of refusing, since many pipelines have one whose result is
    stable in practice. Uninitialised memory is not filled: it costs time and no pipeline reads it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def resolve_device(device: str) -> str:
    """Return the device that `auto` means here: cuda, else mps, else cpu. Other names are returned as they are."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
