"""When a generator is called mostly degenerate or mostly flagged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.audit.health import FEWEST_DRAWS, verdict


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"ok": 4, "degenerate": 4}, "mostly degenerate"),
        ({"ok": 5, "degenerate": 4}, None),
        ({"degenerate": 8}, "mostly degenerate"),
        ({"degenerate": 7}, None),
        ({"ok": 3, "degenerate": 4}, None),
        ({"ok": 10, "flagged": 10}, "mostly flagged"),
        ({"ok": 11, "flagged": 10}, None),
        ({"flagged": 4, "degenerate": 4}, "mostly degenerate"),
        ({"ok": 1, "flagged": 5, "degenerate": 3}, "mostly flagged"),
        ({"ok": 4, "flagged": 3, "degenerate": 3}, None),
        ({"load_failed": 64}, None),
        ({"degenerate": 8, "timeout": 64}, "mostly degenerate"),
        ({}, None),
    ],
)
def test_half_of_eight_images_is_most(counts: dict[str, int], expected: str | None) -> None:
    assert verdict(counts) == expected


@given(ok=st.integers(0, 100), flagged=st.integers(0, 100), degenerate=st.integers(0, 100))
def test_more_good_images_never_make_it_worse(ok: int, flagged: int, degenerate: int) -> None:
    counts = {"ok": ok, "flagged": flagged, "degenerate": degenerate}
    if verdict(counts) is None and ok + flagged + degenerate >= FEWEST_DRAWS:
        assert verdict(counts | {"ok": ok + 1}) is None
