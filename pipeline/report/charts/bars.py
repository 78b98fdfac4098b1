"""Bars that fill their table cell. The numbers stand beside them as text, so the bars themselves are decoration."""

from collections.abc import Iterable

from markupsafe import Markup

from pipeline.report.charts.svg import element, join

_WIDTH = 1000.0
_LEAST = 4.0


def stacked_bar(parts: Iterable[tuple[str, float]], whole: float | None = None) -> Markup:
    """(CSS class, amount) side by side; `whole` is what a full bar stands for, by default their sum.

    A part that is there is never too thin to see.
    """
    present = [(name, value) for name, value in parts if value > 0]
    total = sum(value for _, value in present)
    scale = max(whole or 0, total)
    length = _WIDTH * total / scale if scale else 0.0
    widths = _at_least([length * value / total for _, value in present]) if total else []
    rectangles, left = [], 0.0
    for (name, _), width in zip(present, widths, strict=True):
        rectangles.append(element("rect", x=left, y=0, width=width, height=10, class_=f"fill-{name}"))
        left += width
    return Markup(
        '<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(join(rectangles))


def bar(name: str, value: float, largest: float) -> Markup:
    """One bar; `largest` fills the cell."""
    return stacked_bar([(name, value)], largest)


def interval_dot(value: float | None, other: float | None = None) -> Markup:
    """A metric in [0, 1] as a dot on a line with a tick at one half (chance); `other` is drawn as a ring."""
    marks = [
        element("line", x1=5, x2=105, y1=8, y2=8, class_="axis"),
        element("line", x1=55, x2=55, y1=4, y2=12, class_="axis"),
    ]
    if value is not None and other is not None:
        marks.append(element("line", x1=5 + 100 * value, x2=5 + 100 * other, y1=8, y2=8, class_="link"))
    if other is not None:
        marks.append(element("circle", cx=5 + 100 * other, cy=8, r=3.2, class_="ring"))
    if value is not None:
        marks.append(element("circle", cx=5 + 100 * value, cy=8, r=3.7, class_="dot"))
    return Markup('<svg class="dots" viewBox="0 0 110 16" aria-hidden="true">{}</svg>').format(join(marks))


def _at_least(widths: list[float]) -> list[float]:
    """Widths with the same sum, none below the least one while the others can spare it."""
    short = sum(_LEAST - width for width in widths if width < _LEAST)
    spare = sum(width - _LEAST for width in widths if width > _LEAST)
    if short == 0 or spare <= short:
        return widths
    return [_LEAST if width < _LEAST else width - short * (width - _LEAST) / spare for width in widths]
