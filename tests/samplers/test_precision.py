"""The precision that `auto` gives a family."""

from typing import get_args

import pytest

from crawlers.parameters.families import FAMILIES
from manifests.generator import Dtype
from samplers.precision import FAMILY_DTYPES, automatic_dtype

GIB = 1 << 30


def test_every_family_has_a_precision_and_none_is_made_up() -> None:
    assert FAMILY_DTYPES.keys() == FAMILIES.keys()
    assert set(FAMILY_DTYPES.values()) == set(get_args(Dtype))


def test_a_cpu_samples_everything_in_float32() -> None:
    assert {automatic_dtype(family, 0) for family in [*FAMILIES, "unknown", "of-tomorrow"]} == {"float32"}


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("sd1", "float16"),
        ("sdxl", "float16"),
        ("sd3", "bfloat16"),
        ("flux1-dev", "bfloat16"),
        ("sana", "bfloat16"),
        ("deepfloyd-if", "float16"),
        ("ddpm", "float32"),
        ("of-tomorrow", "bfloat16"),
    ],
)
def test_a_gpu_samples_each_family_in_its_own(family: str, dtype: str) -> None:
    assert automatic_dtype(family, 8 * GIB) == automatic_dtype(family, 80 * GIB) == dtype
