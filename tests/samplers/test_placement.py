"""Offloading follows from sizes, runs the same kernels, and gives shared modules back as they were.

No GPU is needed: hooks move modules to whatever device they are told, and only the question for a device's size is
answered by the test.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import device_memory, placement
from samplers.device_memory import GIB, limit_device_memory, main_memory_share, usable_bytes
from samplers.placement import Placement, place, plan_placement
from shards.statuses import Reason, UnitFailure


@pytest.fixture(scope="module")
def gpu() -> Any:
    """Let `cuda` have 24 GiB."""
    patch = pytest.MonkeyPatch()
    patch.setattr(placement, "device_memory", lambda device: 0 if device == "cpu" else 24 * GIB)
    yield
    patch.undo()


def _plan(pipeline: float, activations: float, largest: float | None = None, **options: Any) -> Placement:
    given = {"offload_setting": "auto", "device": "cuda"} | options
    largest_bytes = None if largest is None else int(largest * GIB)
    return plan_placement(int(pipeline * GIB), int(activations * GIB), largest_bytes=largest_bytes, **given)


@pytest.mark.parametrize(
    ("sizes", "offload"),
    [
        ((7, 5, 5), "none"),
        ((16, 5, 12), "none"),
        ((17, 5, 12), "model"),
        ((34, 3, 18), "model"),
        ((34, 5, 22), "sequential"),
        ((34, 3, None), "sequential"),
    ],
)
def test_as_little_is_offloaded_as_the_device_needs(sizes: tuple[float, ...], offload: str, gpu: None) -> None:
    assert usable_bytes(24 * GIB) == int(24 * GIB * 0.92) - GIB
    plan = _plan(*sizes)
    assert (plan.device, plan.offload) == ("cuda", offload)


@settings(max_examples=60)
@given(st.floats(0, 60), st.floats(0, 30), st.floats(0, 1), st.floats(0, 20), st.floats(0.1, 1))
def test_more_to_hold_or_less_room_never_means_less_offloading(
    gpu: None, pipeline: float, activations: float, part: float, more: float, share: float
) -> None:
    order = ["none", "model", "sequential"]
    largest = pipeline * part
    base = order.index(_plan(pipeline, activations, largest).offload)
    assert order.index(_plan(pipeline + more, activations, largest).offload) >= base
    assert order.index(_plan(pipeline, activations + more, largest).offload) >= base
    assert order.index(_plan(pipeline, activations, largest, share=share).offload) >= base


@pytest.mark.parametrize(
    ("sizes", "on_device", "in_main"),
    [
        # usable are 21.08 GiB of the device and 28.44 of main memory
        ((7, 5, 5), 21.08 - 7 - 5, 28.44 - 5),  # all of it runs on the device; one after another gets there
        ((24, 3, 18), 21.08 - 18 - 3, 28.44 - 24),  # one component runs at a time, all of them wait
        ((24, 3, 20), 0, 28.44 - 24),  # layer by layer: the device is all the model's
        ((34, 3, 20), 0, 0),
    ],
)
def test_what_is_idle_has_the_room_that_the_plan_leaves(
    sizes: tuple[float, ...], on_device: float, in_main: float, gpu: None
) -> None:
    idle = {name: bytes_ / GIB for name, bytes_ in _plan(*sizes, main_bytes=32 * GIB).idle_bytes.items()}
    assert idle == {"cuda": pytest.approx(on_device, abs=0.01), "cpu": pytest.approx(in_main, abs=0.01)}
    # One worker has one device, so a module's memory goes by its kind.
    assert set(_plan(*sizes, device="cuda:1").idle_bytes) == {"cuda"}
    half = _plan(*sizes, share=0.5).idle_bytes["cuda"] / GIB
    assert half <= on_device


def test_on_a_cpu_everything_shares_main_memory(gpu: None) -> None:
    assert _plan(9, 2, 5, device="cpu").idle_bytes == {}
    idle = _plan(9, 2, 5, device="cpu", main_bytes=16 * GIB).idle_bytes
    assert idle == {"cpu": usable_bytes(16 * GIB) - 11 * GIB}
    assert _plan(90, 2, 5, device="cpu", main_bytes=16 * GIB).idle_bytes == {"cpu": 0}


@settings(max_examples=100)
@given(
    st.floats(0, 60), st.floats(0, 30), st.floats(0, 1), st.floats(0.1, 1), st.sampled_from(["auto", "none", "model"])
)
def test_a_plan_and_what_may_lie_beside_it_never_fill_more_than_the_device(
    gpu: None, pipeline: float, activations: float, part: float, share: float, setting: str
) -> None:
    plan = _plan(pipeline, activations, pipeline * part, share=share, offload_setting=setting)
    running = {"none": pipeline, "model": pipeline * part, "sequential": 0}[plan.offload]
    idle = plan.idle_bytes["cuda"]
    assert idle >= 0
    assert idle == 0 or idle + (running + activations) * GIB <= usable_bytes(int(24 * GIB * share)) + 3


def test_a_setting_is_obeyed_and_a_cpu_has_nothing_to_offload_from(gpu: None) -> None:
    for setting in ("none", "model", "sequential"):
        assert _plan(1, 1, 1, offload_setting=setting).offload == setting
        assert _plan(900, 1, 1, offload_setting=setting, device="cpu").offload == "none"


def test_only_what_stays_on_the_device_is_compiled(gpu: None) -> None:
    assert _plan(7, 5, compile=True).compile
    assert not _plan(7, 5).compile
    assert not _plan(34, 3, 18, compile=True).compile
    assert not _plan(7, 5, offload_setting="model", compile=True).compile


def test_a_device_is_as_large_as_torch_says_in_whole_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 85_045_084_160  # an 80 GB card, as it reports itself

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card())
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 11 * GIB + 5)
    assert device_memory.device_memory("cuda:1") == 79 * GIB
    assert device_memory.device_memory("mps") == 11 * GIB
    assert device_memory.device_memory("cpu") == 0


def test_a_container_has_the_main_memory_that_it_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = device_memory.main_memory()
    assert machine > GIB // 4
    limits = (tmp_path / "memory.max", tmp_path / "absent")
    monkeypatch.setattr(device_memory, "_MEMORY_LIMITS", limits)
    for text, expected in (("max\n", None), ("9223372036854771712\n", None), ("1000000\n", 1_000_000)):
        limits[0].write_text(text)
        assert device_memory.main_memory() == (expected or _physical())


def _physical() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_workers_share_of_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "main_memory", lambda: 64 * GIB)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert main_memory_share(1, None) == 4 * GIB
    assert main_memory_share(32, None) == 64 * GIB
    assert main_memory_share(1, 20 * GIB) == 20 * GIB
    assert main_memory_share(1, 200 * GIB) == 64 * GIB


def test_a_share_of_a_gpu_limits_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *asked: limits.append(asked))
    for device, share in (("cuda", 0.5), ("cuda", 1.0), ("cuda", 0.0), ("cuda", 2.0), ("cpu", 0.5), ("mps", 0.5)):
        limit_device_memory(device, share)
    assert limits == [(0.5, "cuda")]


# The hooks themselves


def _images(pipeline: Any) -> torch.Tensor:
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    if isinstance(pipeline, DDPMPipeline):
        return torch.as_tensor(pipeline(2, seeds, 2, output_type="np").images)
    images: torch.Tensor = pipeline(["a cat", "a dog"], num_inference_steps=2, generator=seeds, output_type="pt").images
    return images


@pytest.mark.parametrize(("family", "type_"), [("sd", StableDiffusionPipeline), ("ddpm", DDPMPipeline)])
def test_every_placement_gives_the_same_bytes_and_can_be_undone(
    family: str, type_: Any, model_folder: Callable[[str], Path]
) -> None:
    """On a CPU, accelerate's hooks run a pipeline whose modules wait, but not one whose layers do."""
    pipeline = type_.from_pretrained(model_folder(family))
    pipeline.set_progress_bar_config(disable=True)
    assert place(pipeline, Placement("cpu")) == {"offload": "none", "compiled": []}
    plain = _images(pipeline)
    weights = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    for offload in ("model", "none", "sequential", "model", "sequential", "none"):
        assert place(pipeline, Placement("cpu", offload))["offload"] == offload  # type: ignore[arg-type]
        waiting = pipeline.unet.conv_in.weight.device.type
        assert waiting == ("meta" if offload == "sequential" else "cpu")
        if offload != "sequential":
            assert torch.equal(_images(pipeline), plain)
    assert not hasattr(pipeline.unet, "_hf_hook")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in pipeline.unet.state_dict().items())


def test_a_module_of_an_offloaded_pipeline_can_serve_another(model_folder: Callable[[str], Path]) -> None:
    first: Any = StableDiffusionPipeline.from_pretrained(model_folder("sd"))
    second: Any = StableDiffusionPipeline.from_pretrained(model_folder("sd-finetune"), text_encoder=first.text_encoder)
    second.set_progress_bar_config(disable=True)
    plain = _images(second)
    place(first, Placement("cpu", "sequential"))
    del first
    gc.collect()
    place(second, Placement("cpu"))
    assert torch.equal(_images(second), plain)


def test_a_class_without_an_order_is_offloaded_by_layers(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(model_folder("sd"))
    monkeypatch.setattr(StableDiffusionPipeline, "model_cpu_offload_seq", None)
    assert place(pipeline, Placement("cpu", "model"))["offload"] == "sequential"


def test_a_device_that_is_full_is_a_named_failure(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(model_folder("sd"))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pipeline.unet, "to", full)
    with pytest.raises(UnitFailure, match="moving to cpu") as failure:
        place(pipeline, Placement("cpu"))
    assert failure.value.reason is Reason.device_oom
