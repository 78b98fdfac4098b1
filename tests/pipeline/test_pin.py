"""What `auto` plans for is decided once, written down, and asked of the user where nobody can know it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ByteSize

from manifests.draws import Draw
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.committing import commit_given_up
from pipeline.config import ExecuteConfig, RunConfig, SampleConfig
from pipeline.context import RunContext, open_run
from pipeline.resolve import pin_device_memory, read_run
from pipeline.run_folder import RunFolder
from pipeline.tasks import Failed, Task
from samplers import device_memory, environment
from shards.dataset import Dataset, IdentityChanged
from shards.statuses import Reason

GIB = 1 << 30
AUTO = {"dtype": "auto", "checker": None}


def _config(output: Path, sample: dict[str, Any], **execute: Any) -> RunConfig:
    given = {"executor": "inline"} | execute
    return RunConfig(name="auto", output=output, sample=SampleConfig(**sample), execute=ExecuteConfig(**given))


def _pinned(tmp_path: Path, sample: dict[str, Any], **execute: Any) -> int | None:
    config = _config(tmp_path, sample, **execute)
    return pin_device_memory(config, RunFolder.at(tmp_path)).sample.device_memory


@pytest.fixture
def gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have a GPU of 24 GiB."""
    monkeypatch.setattr(environment, "resolve_device", lambda device: "cuda" if device == "auto" else device)
    monkeypatch.setattr(device_memory, "device_memory", lambda device: 24 * GIB if device == "cuda" else 0)


def test_this_machines_device_is_measured_for_inline(tmp_path: Path, gpu_here: None) -> None:
    assert _pinned(tmp_path, AUTO) == 24 * GIB
    assert _pinned(tmp_path, {"batch_size": "auto"}) == 24 * GIB
    assert _pinned(tmp_path, AUTO, device="cpu") == 0


def test_ray_workers_without_a_gpu_are_cpus_whatever_the_driver_has(tmp_path: Path, gpu_here: None) -> None:
    assert _pinned(tmp_path, AUTO, executor="ray", gpus_per_worker=0) == 0
    assert _pinned(tmp_path, AUTO, executor="ray", gpus_per_worker=1, device="cpu") == 0


@pytest.mark.parametrize("key", ["dtype", "batch_size"])
def test_the_gpus_of_ray_workers_are_the_users_to_name(key: str, tmp_path: Path) -> None:
    for share in (0.5, 1):
        with pytest.raises(InputError, match=rf"sample\.device_memory: null, and sample\.{key} is auto.*80GB"):
            _pinned(tmp_path, {key: "auto"}, executor="ray", gpus_per_worker=share)
    assert _pinned(tmp_path, {key: "auto", "device_memory": "80GB"}, executor="ray", gpus_per_worker=1) == 80 * 10**9


def test_a_config_without_auto_keeps_null(tmp_path: Path, gpu_here: None) -> None:
    assert _pinned(tmp_path, {}) is None
    assert _pinned(tmp_path, {}, executor="ray", gpus_per_worker=1) is None


def _commit_something(run: RunContext) -> None:
    generator = GeneratorSpec(name="a--b", kind="unconditional", repo_id="a/b", revision="0" * 40)
    draw = Draw(index=0, seed=1, prompt_id="unconditional", prompt="", prompt_source="unconditional")
    unit = UnitSpec(generator=generator, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1)
    commit_given_up(run, Failed(Task(unit), Reason.repo_not_found, "gone"))


def test_a_run_that_made_nothing_decides_nothing(tmp_path: Path, gpu_here: None) -> None:
    """Opened on a login node without a GPU, then sampled on a machine that has one."""
    with open_run(_config(tmp_path, AUTO, device="cpu")) as run:
        assert run.config.sample.device_memory == 0
    with open_run(_config(tmp_path, AUTO)) as run:
        assert run.config.sample.device_memory == 24 * GIB


def test_the_first_run_decides_for_all_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset planned for a GPU goes on as it is on a machine without one."""
    monkeypatch.setattr(environment, "resolve_device", lambda device: "cuda")
    monkeypatch.setattr(device_memory, "device_memory", lambda device: 24 * GIB)
    with open_run(_config(tmp_path, AUTO)) as run:
        assert run.config.sample.device_memory == 24 * GIB
        _commit_something(run)
    monkeypatch.undo()
    assert read_run(tmp_path).sample.device_memory == ByteSize(24 * GIB)
    with open_run(_config(tmp_path, AUTO)) as run:
        assert run.config.sample.device_memory == 24 * GIB
    with open_run(_config(tmp_path, AUTO, executor="ray", gpus_per_worker=1)) as run:
        assert run.config.sample.device_memory == 24 * GIB
    dataset = Dataset.open(RunFolder.at(tmp_path).dataset)
    assert dataset.identity["sample.device_memory"] == 24 * GIB
    with pytest.raises(IdentityChanged, match=r"sample\.device_memory"):
        dataset.check_identity(_config(tmp_path, AUTO | {"device_memory": 8 * GIB}).identity())
