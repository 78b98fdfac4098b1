"""A worker that is to have a GPU and finds none says so, instead of drawing a GPU's units on the CPU."""

from pathlib import Path

import pytest
import torch

from detectors.devices import DeviceName
from manifests.errors import InputError
from pipeline.device_check import check_device
from pipeline.worker import Worker
from pipeline.worker_config import WorkerConfig


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def _config(folder: Path, gpus: float, device: str = "auto") -> WorkerConfig:
    return WorkerConfig(
        dataset=folder / "dataset",
        spool=folder / "spool",
        endpoint="",
        token=None,
        cache=folder / "cache",
        download_timeout=1,
        unit_timeout=1,
        cpu_threads=1,
        device=device,
        gpus_per_worker=gpus,
    )


@pytest.mark.parametrize("gpus", [0.25, 1])
def test_a_worker_whose_gpu_is_gone_is_refused(gpus: float, without_gpu: None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        Worker(_config(tmp_path, gpus))
    assert f"execute.device = auto, execute.gpus_per_worker = {gpus:g}: " in str(refusal.value)
    assert not (tmp_path / "spool").exists(), "it was asked too late"


def test_a_named_device_that_is_gone_is_refused_too(without_gpu: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"execute\.device = cuda: .*not available"):
        Worker(_config(tmp_path, 1, "cuda"))


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cpu", 0), ("cpu", 1)])
def test_the_cpu_is_for_whoever_asked_for_it(device: DeviceName, gpus: float, without_gpu: None) -> None:
    check_device("execute.device", device, gpus=gpus)


def test_auto_takes_the_gpu_that_is_there(without_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("execute.device", "auto", gpus=1)
