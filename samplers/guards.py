"""Images that show a broken model instead of anything to learn from."""

from PIL import Image

from shards.statuses import Reason

NEAR_CONSTANT_RANGE = 3
"""Grey levels. An image is nearly constant when in every channel the middle 99% of the pixels span no more than this:
what an overflown VAE leaves is black or white with stray dots, while even fog spans tens of levels. A range of
percentiles rather than a standard deviation, which a few stray dots lift."""

_TAIL = 0.005


def flat_reason(image: Image.Image) -> Reason:
    """Return constant, near_constant or none for an 8-bit image of any mode."""
    histogram = image.histogram()
    channels = [histogram[start : start + 256] for start in range(0, len(histogram), 256)]
    pixels = image.width * image.height
    if all(max(counts) == pixels for counts in channels):
        return Reason.constant
    widest = max(_middle_range(counts, pixels) for counts in channels)
    return Reason.near_constant if widest <= NEAR_CONSTANT_RANGE else Reason.none


def _middle_range(counts: list[int], pixels: int) -> int:
    """Levels between the values that 0.5% of the pixels lie below and above."""
    tail = pixels * _TAIL
    return _level(counts[::-1], tail, 255) - _level(counts, tail, 0)


def _level(counts: list[int], tail: float, origin: int) -> int:
    passed = 0
    for step, count in enumerate(counts):
        passed += count
        if passed > tail:
            return abs(origin - step)
    raise ValueError("an image without pixels")


class RepeatGuard:
    """Remembers a unit's images by the hash of their bytes, which are equal only when all pixels are."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def repeated(self, sha256: str) -> bool:
        """Return whether an image with these bytes came before, and remember it."""
        if sha256 in self._seen:
            return True
        self._seen.add(sha256)
        return False
