"""What counts as a broken image."""

import numpy as np
import pytest
from PIL import Image

from samplers.guards import NEAR_CONSTANT_RANGE, RepeatGuard, flat_reason
from shards.statuses import Reason


def _spanning(levels: int, stray: int = 0, channels: int = 3) -> Image.Image:
    """A 100 x 100 image whose values span `levels` levels evenly, with `stray` white pixels."""
    values = np.arange(10_000) % (levels + 1) + 100
    values[:stray] = 255
    array = np.repeat(values.astype(np.uint8).reshape(100, 100, 1), channels, axis=2)
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_one_colour_is_constant(mode: str) -> None:
    assert flat_reason(Image.new(mode, (8, 8), 77 if mode == "L" else (1, 2, 3))) is Reason.constant


@pytest.mark.parametrize("channels", [1, 3])
def test_the_threshold_is_the_documented_range(channels: int) -> None:
    assert flat_reason(_spanning(NEAR_CONSTANT_RANGE, channels=channels)) is Reason.near_constant
    assert flat_reason(_spanning(NEAR_CONSTANT_RANGE + 1, channels=channels)) is Reason.none


def test_stray_dots_do_not_hide_a_flat_image() -> None:
    assert flat_reason(_spanning(0, stray=1)) is Reason.near_constant
    assert flat_reason(_spanning(0, stray=50)) is Reason.near_constant
    assert flat_reason(_spanning(0, stray=51)) is Reason.none


def test_one_varied_channel_is_enough() -> None:
    array = np.zeros((16, 16, 3), dtype=np.uint8)
    array[:, :, 2] = np.arange(256).reshape(16, 16)
    assert flat_reason(Image.fromarray(array)) is Reason.none


def test_repeats_are_exact() -> None:
    guard = RepeatGuard()
    assert [guard.repeated(digest) for digest in ("a", "b", "a", "a", "c")] == [False, False, True, True, False]
