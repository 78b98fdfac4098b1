"""The memory estimate: its formula, that more never needs less, and what the usual models are known to need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlers.parameters.families import FAMILIES
from crawlers.recognition.memory_estimate import gpu_memory_bytes, half_precision_bytes, variant_dtype, with_dtypes
from crawlers.recognition.safetensors_header import DTYPE_BYTES
from manifests.generator import SamplingParams, WeightFile

GB = 10**9


def weights(size: int, dtype: str | None = "F16") -> list[WeightFile]:
    return [WeightFile(path="unet/diffusion_pytorch_model.safetensors", size=size, dtype=dtype)]


def square(side: int) -> SamplingParams:
    return SamplingParams(width=side, height=side)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("F32", 500), ("F16", 1000), ("BF16", 1000), ("F64", 250), ("F8_E4M3", 2000), ("unheard", 1000), (None, 1000)],
)
def test_weights_are_counted_in_half_precision(dtype: str | None, expected: int) -> None:
    assert half_precision_bytes(weights(1000, dtype)) == expected


def test_an_index_of_shards_takes_no_memory() -> None:
    index = WeightFile(path="unet/diffusion_pytorch_model.safetensors.index.json", size=10**6)
    assert half_precision_bytes([index]) == 0
    assert with_dtypes([index], "F32") == (index,)


def test_a_name_that_tells_its_type_is_taken_at_its_word_and_one_header_speaks_for_the_other_files() -> None:
    names = ("unet/model-00001-of-00002", "vae/model", "text_encoder/model.fp16")
    files = [WeightFile(path=f"{name}.safetensors", size=1000) for name in names]
    assert [file.dtype for file in with_dtypes(files, "F32")] == ["F32", "F32", "F16"]
    assert [file.dtype for file in with_dtypes(files, None)] == [None, None, "F16"]
    assert half_precision_bytes(with_dtypes(files, "F32")) == 500 + 500 + 1000
    # Where nobody has read anything, the name still tells; else a file counts as half precision.
    older = [*files, WeightFile(path="vae/model.fp32.safetensors", size=1000)]
    assert half_precision_bytes(older) == 3000 + 500


@pytest.mark.parametrize(
    ("path", "dtype"),
    [
        ("unet/diffusion_pytorch_model.fp16.safetensors", "F16"),
        ("unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", None),
        ("text_encoder/model.bf16.safetensors", "BF16"),
        ("fp16/model.safetensors", None),
        ("model.non_ema.safetensors", None),
    ],
)
def test_a_variant_names_its_type(path: str, dtype: str | None) -> None:
    assert variant_dtype(path) == dtype


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 10**11),
    st.integers(0, 10**10),
    st.integers(8, 4096),
    st.integers(0, 512),
    st.sampled_from(sorted(DTYPE_BYTES)),
)
def test_more_never_needs_less(family: str, size: int, more: int, side: int, larger: int, dtype: str) -> None:
    least = gpu_memory_bytes(family, square(side), {}, weights(size, dtype))
    assert gpu_memory_bytes(family, square(side), {}, weights(size + more, dtype)) >= least
    assert gpu_memory_bytes(family, square(side + larger), {}, weights(size, dtype)) >= least
    assert gpu_memory_bytes(family, square(side), {}, weights(size, dtype) + weights(more, dtype)) >= least
    assert least >= half_precision_bytes(weights(size, dtype))


@pytest.mark.parametrize(
    ("family", "side", "stored", "dtype", "low", "high"),
    [
        # weights on disk in bytes -> GB that their authors and users report for one image in half precision
        ("sd1", 512, 4_265_000_000, "F32", 2.4, 3.5),
        ("sdxl", 1024, 6_938_000_000, "F16", 9.5, 13.0),
        ("flux1-dev", 1024, 33_700_000_000, "BF16", 33.0, 38.0),
    ],
)
def test_the_usual_models(family: str, side: int, stored: int, dtype: str, low: float, high: float) -> None:
    assert low <= gpu_memory_bytes(family, square(side), {}, weights(stored, dtype)) / GB <= high


def test_a_call_without_a_size_is_made_at_the_size_of_the_config_or_the_family() -> None:
    nothing = SamplingParams()
    configs = {"unet": {"sample_size": 32}}
    assert gpu_memory_bytes("ddpm", nothing, configs, ()) == 32 * 32 * 5120
    assert gpu_memory_bytes("ddpm", nothing, {}, ()) == 512 * 512 * 5120
    assert gpu_memory_bytes("dit", nothing, {}, ()) == 256 * 256 * 2560
    assert gpu_memory_bytes("sdxl", SamplingParams(width=512), {}, ()) == 512 * 1024 * 5120
