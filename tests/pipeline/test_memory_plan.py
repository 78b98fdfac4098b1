"""What `auto` plans: a concrete precision and batch size in each unit, from config and catalog alone."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from crawlers.parameters.families import FAMILIES
from manifests.generator import BasePipeline, GeneratorSpec, SamplingParams, WeightFile
from manifests.prompts import Prompt
from manifests.unit import UnitSpec
from pipeline.config import SampleConfig
from pipeline.memory_plan import (
    activation_bytes,
    fitting_batch_size,
    largest_component_bytes,
    model_bytes,
    planned_batch_size,
    planned_dtype,
)
from pipeline.plan import plan_generators
from samplers import placement
from samplers.placement import plan_placement

GIB = 1 << 30
FAMILY_NAMES = st.sampled_from([*sorted(FAMILIES), "of-tomorrow"])
DTYPES = st.sampled_from(["float32", "float16", "bfloat16"])


def _files(**gib: float) -> tuple[WeightFile, ...]:
    return tuple(WeightFile(path=f"{name}/model.fp16.safetensors", size=int(size * GIB)) for name, size in gib.items())


def _generator(family: str, gib: float = 2.0, side: int | None = None, **fields: Any) -> GeneratorSpec:
    given = {"files": _files(unet=gib * 0.7, text_encoder=gib * 0.2, vae=gib * 0.1)} | fields
    params = SamplingParams(width=side, height=side)
    return GeneratorSpec(
        name="owner--model", kind="text-to-image", repo_id="owner/model", family=family, params=params, **given
    )


def _units(generator: GeneratorSpec, **sample: Any) -> list[UnitSpec]:
    config = SampleConfig(images_per_generator=100, unit_images=48, **sample)
    prompts = [Prompt(prompt_id="p", prompt="a cat", prompt_source="caption", split="train")]
    plans = plan_generators([generator], {generator.name: "train"}, prompts, [], config, None)
    return list(itertools.chain.from_iterable(plan.units() for plan in plans))


@pytest.mark.parametrize(
    ("family", "gib", "memory", "dtype", "batch_size"),
    [
        ("sd1", 2.0, 24, "float16", 16),
        ("sd1", 2.0, 6, "float16", 4),
        ("sdxl", 7.0, 80, "float16", 4),
        ("sdxl", 7.0, 24, "float16", 2),
        ("flux1-dev", 33.0, 80, "bfloat16", 4),
        ("flux1-dev", 33.0, 24, "bfloat16", 1),
        ("ddpm", 0.2, 24, "float32", 8),
        ("sd1", 2.0, 0, "float32", 4),
        ("sdxl", 7.0, 0, "float32", 1),
    ],
)
def test_units_carry_what_auto_means_for_their_generator(
    family: str, gib: float, memory: int, dtype: str, batch_size: int
) -> None:
    sample = {"dtype": "auto", "batch_size": "auto", "device_memory": ByteSize(memory * GIB)}
    units = _units(_generator(family, gib), **sample)
    assert {(unit.dtype, unit.batch_size) for unit in units} == {(dtype, batch_size)}
    assert [unit.unit for unit in units] == [unit.unit for unit in _units(_generator(family, gib), **sample)]


def test_what_is_set_is_taken_and_a_manifests_dtype_wins() -> None:
    (unit, *_) = _units(_generator("sd1", dtype="bfloat16"), dtype="auto", device_memory=ByteSize(8 * GIB))
    assert (unit.dtype, unit.batch_size) == ("bfloat16", 4)
    (unit, *_) = _units(_generator("flux1-dev"), dtype="float16", batch_size=7)
    assert (unit.dtype, unit.batch_size) == ("float16", 7)


def test_nothing_is_guessed_before_the_memory_is_pinned() -> None:
    for sample in (SampleConfig(dtype="auto"), SampleConfig(batch_size="auto")):
        with pytest.raises(ValueError, match="device_memory is pinned"):
            planned_dtype(_generator("sd1"), sample)
            planned_batch_size(_generator("sd1"), sample)


@given(
    family=FAMILY_NAMES,
    dtype=DTYPES,
    gib=st.floats(0, 60),
    side=st.one_of(st.none(), st.integers(8, 4096)),
    memory=st.integers(0, 200),
    unit_images=st.integers(1, 4096),
    more=st.integers(0, 100),
)
def test_more_memory_is_never_a_smaller_batch_and_more_to_hold_never_a_larger(
    family: str, dtype: Any, gib: float, side: int | None, memory: int, unit_images: int, more: int
) -> None:
    generator = _generator(family, gib, side)
    size = fitting_batch_size(generator, dtype, memory * GIB, unit_images)
    assert size.bit_count() == 1 and 1 <= size <= min(64, unit_images)
    if memory > 0:
        assert fitting_batch_size(generator, dtype, (memory + more) * GIB, unit_images) >= size
    assert fitting_batch_size(generator, dtype, memory * GIB, unit_images + more) >= size
    heavier = _generator(family, gib + more, side)
    assert fitting_batch_size(heavier, dtype, memory * GIB, unit_images) <= size
    if side is not None:
        larger = _generator(family, gib, side + more)
        assert fitting_batch_size(larger, dtype, memory * GIB, unit_images) <= size
    if size > 1 and memory > 0:
        assert model_bytes(generator, dtype) + activation_bytes(generator, dtype, size) < memory * GIB


def test_bytes_count_the_base_and_follow_the_precision() -> None:
    base = BasePipeline(repo_id="owner/base", files=_files(unet=1.5, vae=0.5))
    adapter = _generator("sd1", packaging="lora", base=base, files=(WeightFile(path="lora.safetensors", size=GIB),))
    assert model_bytes(adapter, "float16") == 3 * GIB
    assert model_bytes(adapter, "float32") == 6 * GIB
    assert largest_component_bytes(adapter, "bfloat16") == int(1.5 * GIB)
    assert activation_bytes(adapter, "float32", 6) == 12 * activation_bytes(adapter, "float16", 1)


_SDXL = {
    "unet/diffusion_pytorch_model": 10_270_077_736,
    "text_encoder_2/model": 2_778_702_264,
    "text_encoder/model": 492_265_168,
    "vae/diffusion_pytorch_model": 334_643_268,
}
"""Bytes of the files of SDXL's base in float32, which have no variant in their names."""


@pytest.mark.parametrize(
    ("memory", "offload", "offload_unknown"), [(12, "model", "sequential"), (16, "none", "sequential")]
)
def test_ordinary_float32_files_take_half_in_half_precision(
    memory: int, offload: str, offload_unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SDXL runs on cards of 12 and 16 GiB; not knowing how files are stored costs layer-by-layer offloading."""
    monkeypatch.setattr(placement, "device_memory", lambda device: memory * GIB)

    def planned(dtype: str | None) -> str:
        files = tuple(WeightFile(path=f"{path}.safetensors", size=size, dtype=dtype) for path, size in _SDXL.items())
        generator = _generator("sdxl", files=files)
        assert abs(model_bytes(generator, "float16") - (6.9e9 if dtype else 13.9e9)) < 0.1e9
        assert largest_component_bytes(generator, "float32") == max(_SDXL.values()) * (1 if dtype else 2)
        return plan_placement(
            model_bytes(generator, "float16"),
            activation_bytes(generator, "float16", 1),
            "cuda",
            "auto",
            largest_bytes=largest_component_bytes(generator, "float16"),
        ).offload

    assert (planned("F32"), planned(None)) == (offload, offload_unknown)
