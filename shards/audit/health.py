"""Is a generator worth its images? One whose draws are mostly broken or mostly flagged is named, not just counted."""

from collections.abc import Mapping
from typing import Literal

from shards.statuses import Status

FEWEST_DRAWS = 8
"""Draws with an image below which nothing is said: three bad ones of four may be chance."""
MOSTLY = 0.5
"""Share of the draws with an image from which on a generator is mostly bad."""

Verdict = Literal["mostly degenerate", "mostly flagged"]


def verdict(counts: Mapping[str, int]) -> Verdict | None:
    """Return what is wrong with most of a generator's images; None when most are good, or there are too few to say.

    Args:
        counts: status -> draws, of one generator. Draws that made no image, since the model failed, do not count: they
            say nothing of what it makes.

    A generator that is half broken and half flagged is mostly degenerate: broken images were never checked properly.
    """
    degenerate, flagged = (counts.get(status, 0) for status in (Status.degenerate, Status.flagged))
    made = degenerate + flagged + counts.get(Status.ok, 0)
    if made < FEWEST_DRAWS:
        return None
    if degenerate >= MOSTLY * made:
        return "mostly degenerate"
    return "mostly flagged" if flagged >= MOSTLY * made else None
