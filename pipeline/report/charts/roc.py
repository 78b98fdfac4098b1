"""ROC curves: each generator's as a thin line, their average as a bold one."""

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report.charts.svg import element, figure, group, path
from pipeline.report.detector_facts import Roc
from pipeline.report.formatting import score

_LEFT, _TOP, _SIDE = 46, 12, 330
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc_chart(curves: Sequence[Roc], macro: Roc | None, label: str) -> Markup:
    """Draw the curves over the diagonal of chance; `label` describes the chart in words."""
    lines = [_curve(curve, "curve") for curve in curves]
    if macro is not None:
        lines.append(_curve(macro, "curve macro"))
    return figure(_LEFT + _SIDE + 16, _TOP + _SIDE + 44, label, [_frame(), *lines], "chart roc")


def _curve(curve: Roc, class_: str) -> Markup:
    points = [_point(x, y) for x, y in zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)]
    title = element("title", f"{curve.name}: AUC {score(curve.auc)}")
    return element("path", title, d=path(points), class_=class_, data_generator=curve.name)


def _frame() -> Markup:
    parts = []
    for tick in _TICKS:
        x, y = _point(tick, tick)
        parts += [
            element("line", x1=x, x2=x, y1=_TOP, y2=_TOP + _SIDE, class_="grid"),
            element("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=y, y2=y, class_="grid"),
            element("text", f"{tick:g}", x=x, y=_TOP + _SIDE + 16, text_anchor="middle"),
            element("text", f"{tick:g}", x=_LEFT - 8, y=y + 4.0, text_anchor="end"),
        ]
    middle, across = _TOP + _SIDE / 2, _LEFT + _SIDE / 2
    parts += [
        element("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=_TOP + _SIDE, y2=_TOP, class_="chance"),
        element("text", "Real images called fake", x=across, y=_TOP + _SIDE + 36, text_anchor="middle", class_="name"),
        element("text", "Fakes found", x=12, y=middle, text_anchor="middle", class_="name",
                transform=f"rotate(-90 12 {middle:g})"),
    ]  # fmt: skip
    return group(parts, class_="frame")


def _point(x: float, y: float) -> tuple[float, float]:
    return _LEFT + _SIDE * x, _TOP + _SIDE * (1 - y)
