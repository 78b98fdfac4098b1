"""What this machine can run, and what stands in the way."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import psutil

import pipeline

_PACKAGES = ("manifests", "shards", "crawlers", "captioning", "samplers", "detectors", "pipeline")
_LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "huggingface_hub", "accelerate", "timm", "ray")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DISK_WANTED = 10 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str


def check_machine() -> list[Check]:
    """Return every check, the ones that matter most first."""
    return [
        Check("python", (3, 11) <= sys.version_info[:2] < (3, 14), f"{sys.version.split()[0]} (3.11 to 3.13 needed)"),
        *(_library(name) for name in _LIBRARIES),
        *(_own_package(name) for name in _PACKAGES),
        _device(),
        Check("cores and memory", True, f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"),
        _disk(),
        _token(),
        _browser(),
    ]


def check_the_hub(endpoint: str | None) -> list[Check]:
    """Return what a hub lets us do, with this machine's token; `endpoint` None is the public one.

    Raises:
        InputError: it is no address.
    """
    from crawlers.hub.hub_check import check_hub
    from crawlers.hub.hub_client import DEFAULT_ENDPOINT
    from pipeline.hub_token import hub_token

    return [Check(check.name, check.ok, check.found) for check in check_hub(endpoint or DEFAULT_ENDPOINT, hub_token())]


def _library(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed: run `make demo` or install requirements.lock")


def _own_package(name: str) -> Check:
    """Tell whether another distribution's package of the same name comes first on the path."""
    spec = util.find_spec(name)
    home = Path(pipeline.__file__).parents[1]
    found = Path(spec.origin).parents[1] if spec is not None and spec.origin else None
    if found == home:
        return Check(f"package {name}", True, "ours")
    return Check(f"package {name}", False, f"shadowed by {found}: uninstall the distribution that brings it")


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Check("accelerator", True, ", ".join(cards))
    if torch.backends.mps.is_available():
        return Check("accelerator", True, "Apple GPU (mps)")
    return Check("accelerator", True, "none: sampling runs on the CPU, which is enough for the demo")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check("disk", free > _DISK_WANTED, f"{free / 2**30:.0f} GiB free here")


def _token() -> Check:
    from pipeline.hub_token import hub_token

    return Check("hub token", True, "found" if hub_token() else "none: gated models will be left out (set HF_TOKEN)")


def _browser() -> Check:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    return Check("browser", True, found or "none: only the report's own tests need one")
