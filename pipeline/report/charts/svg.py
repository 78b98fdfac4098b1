"""The small part of SVG that the charts need, with everything escaped."""

from collections.abc import Iterable

from markupsafe import Markup, escape


def number(value: float) -> str:
    """A coordinate with at most two decimals, spelled in one way only."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, content: object = "", **attributes: object) -> Markup:
    """An element; `class_` is class, `_` in a name is `-`, floats are shortened, None is left out."""
    parts = [
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), number(value) if isinstance(value, float) else value
        )
        for key, value in attributes.items()
        if value is not None
    ]
    start = Markup("<") + Markup(name) + Markup("").join(parts)
    if content == "":
        return start + Markup("/>")
    return start + Markup(">") + escape(content) + Markup("</") + Markup(name) + Markup(">")


def group(parts: Iterable[Markup], **attributes: object) -> Markup:
    """A `g` of the parts."""
    return element("g", join(parts), **attributes)


def join(parts: Iterable[Markup]) -> Markup:
    """The parts one after the other."""
    return Markup("").join(parts)


def path(points: Iterable[tuple[float, float]]) -> str:
    """The `d` of a line through the points."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def figure(width: int, height: int, label: str, parts: Iterable[Markup], class_: str) -> Markup:
    """A drawing that scales with its column; `label` says in words what it shows."""
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        class_, width, height, label, join(parts)
    )
