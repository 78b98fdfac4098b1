"""The environment's id, and that pinning is enough for another process to make the same bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from samplers.base import Sampler
from samplers.environment import current_environment, pin_threads, resolve_device
from samplers.unit_drawing import draw_unit

_CHILD = """
import json, sys
from pathlib import Path
from samplers.environment import current_environment, pin_threads, set_deterministic
pin_threads(1)
set_deterministic()
import torch
from manifests.unit import UnitSpec
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from samplers.unit_drawing import draw_unit
unit = UnitSpec.model_validate_json(sys.argv[1])
sampler = load_sampler(unit.generator, Path(sys.argv[2]), dtype="float32", device="cpu", components=ComponentStore())
hashes = [image.sha256 for image in draw_unit(unit, sampler, None)]
threads = [torch.get_num_threads(), torch.get_num_interop_threads()]
print(json.dumps([threads, current_environment("cpu", "float32").id, hashes]))
"""


def test_a_fresh_process_makes_the_same_bytes_on_one_thread(
    spec_of: Callable[..., GeneratorSpec],
    unit_of: Callable[..., UnitSpec],
    sampler_of: Callable[[str], Sampler],
    model_folder: Callable[[str], Path],
) -> None:
    unit = unit_of(spec_of("sd"), 3)
    here = [image.sha256 for image in draw_unit(unit, sampler_of("sd"), None)]
    arguments = [sys.executable, "-c", _CHILD, unit.model_dump_json(), str(model_folder("sd"))]
    environ = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    child = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environ)
    threads, environment, there = json.loads(child.stdout)
    assert threads == [1, 1]
    assert environment == current_environment("cpu", "float32").id
    assert there == here


def test_id_is_readable_and_depends_on_threads_and_dtype() -> None:
    one = current_environment("cpu", "float32")
    assert one.id.startswith("cpu-") and "-t1-float32-" in one.id
    assert one == current_environment("cpu", "float32")
    assert {"processor", "threads", "torch", "diffusers", "transformers", "pillow", "numpy"} <= one.details.keys()
    assert current_environment("cpu", "bfloat16").id != one.id
    pin_threads(2)
    two = current_environment("cpu", "float32")
    pin_threads(1)
    assert two.id != one.id
    assert two.details["threads"] == "2"


def test_compiled_kernels_are_another_environment_that_names_the_compiler() -> None:
    plain, compiled = current_environment("cpu", "float32"), current_environment("cpu", "float32", compiled=True)
    assert "compiler" not in plain.details
    assert "-float32-compiled-" in compiled.id
    version = subprocess.run(["c++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    assert compiled.details == plain.details | {"compiler": f"gcc version {version}"}


def test_pin_threads_sets_torch_and_the_children() -> None:
    pin_threads(1)
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"
    with pytest.raises(ValueError, match="at least 1"):
        pin_threads(0)


def test_auto_device_is_the_best_there_is() -> None:
    assert resolve_device("cuda:3") == "cuda:3"
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto") == best
