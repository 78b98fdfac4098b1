"""How a detector's scores spread: generated images above the axis, real ones below, each as shares of its own class."""

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report.charts.svg import element, figure, join
from pipeline.report.detector_facts import Histogram

_LEFT, _RIGHT, _WIDTH = 58, 16, 368
_AXIS, _HALF = 92, 84
_HEIGHT = _AXIS + _HALF + 54
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def score_chart(histogram: Histogram, label: str, threshold: float = 0.5) -> Markup:
    """Draw the mirrored histogram with the decision threshold; `label` describes the chart in words."""
    fake, real = _shares(histogram.fake), _shares(histogram.real)
    largest = max([*fake, *real, 1e-9])
    parts = [
        *_bars(histogram.edges, fake, largest, "fill-fake", 1),
        *_bars(histogram.edges, real, largest, "fill-real", -1),
        *_frame(largest, threshold),
    ]
    return figure(_LEFT + _WIDTH + _RIGHT, _HEIGHT, label, parts, "chart scores")


def _bars(edges: Sequence[float], shares: Sequence[float], largest: float, class_: str, side: int) -> list[Markup]:
    bars = []
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        if share > 0:
            height = max(1.0, _HALF * share / largest)
            top = _AXIS - height if side > 0 else float(_AXIS)
            x, width = _LEFT + _WIDTH * left, _WIDTH * (right - left) - 1
            title = element("title", f"{left:.3g}–{right:.3g}: {100 * share:.1f}%")
            bars.append(element("rect", title, x=x + 0.5, y=top, width=width, height=height, class_=class_))
    return bars


def _frame(largest: float, threshold: float) -> list[Markup]:
    parts = [element("line", x1=_LEFT, x2=_LEFT + _WIDTH, y1=_AXIS, y2=_AXIS, class_="base")]
    for tick in _TICKS:
        x = _LEFT + _WIDTH * tick
        parts.append(element("text", f"{tick:g}", x=x, y=_AXIS + _HALF + 22, text_anchor="middle"))
    at = _LEFT + _WIDTH * threshold
    parts += [
        element("line", x1=at, x2=at, y1=_AXIS - _HALF, y2=_AXIS + _HALF + 6, class_="chance"),
        element("text", f"{100 * largest:.0f}%", x=_LEFT - 8, y=_AXIS - _HALF + 8, text_anchor="end"),
        element("text", f"{100 * largest:.0f}%", x=_LEFT - 8, y=_AXIS + _HALF, text_anchor="end"),
        element("text", "0", x=_LEFT - 8, y=_AXIS + 4, text_anchor="end"),
        element("text", "Score: probability of fake", x=_LEFT + _WIDTH / 2, y=_AXIS + _HALF + 46, text_anchor="middle",
                class_="name"),
        _rotated("Generated", _AXIS - _HALF / 2, "name text-fake"),
        _rotated("Real", _AXIS + _HALF / 2, "name text-real"),
    ]  # fmt: skip
    return [join(parts)]


def _rotated(text: str, y: float, class_: str) -> Markup:
    return element("text", text, x=12, y=y, text_anchor="middle", class_=class_, transform=f"rotate(-90 12 {y:g})")


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
