"""How the page writes numbers and names: one place, so that a table and a chart never disagree."""

import re
from datetime import UTC, datetime

from markupsafe import Markup

ABSENT = "–"

_PERFECT = 1 - 1e-9
"""A perfect score may lack a few units in its last place: it is a sum."""

_BREAKS = re.compile(r"(?<=[/_])(?=[^/_])|(?<=\.)(?=[A-Za-z])|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def count(value: int | None) -> str:
    """1234567 as 1,234,567."""
    return ABSENT if value is None else f"{value:,}"


def score(value: float | None) -> str:
    """A metric with three decimals; a value below 1 is never rounded up to a perfect 1.000."""
    if value is None:
        return ABSENT
    return "0.999" if 0.999 <= value < _PERFECT else f"{value:.3f}"


def size(value: float | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return ABSENT
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def duration(seconds: float | None) -> str:
    """Seconds as 12.3 s, 4 min 05 s or 3 h 07 min."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"


def short_duration(seconds: float | None) -> str:
    """As `duration`, with two decimals below ten seconds: the time of one image."""
    return f"{seconds:.2f} s" if seconds is not None and seconds < 10 else duration(seconds)


def percent(share: float) -> str:
    """0.1234 as 12.3%."""
    return f"{share:.1%}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """1 model, 2 models."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def period(first: str, last: str) -> str:
    """Two ISO 8601 times as 2026-01-02 03:04:05 to 03:09:00 UTC; the day is repeated only where it is another."""
    start, end = (datetime.fromisoformat(moment).astimezone(UTC) for moment in (first, last))
    text = f"{start:%Y-%m-%d %H:%M:%S}"
    if end != start:
        text += f"{end: to %H:%M:%S}" if end.date() == start.date() else f"{end: to %Y-%m-%d %H:%M:%S}"
    return f"{text} UTC"


def breakable(name: str) -> Markup:
    """A class name, key or address that lines can break inside: after / _ or a dot, and between CamelCase's words."""
    return Markup("<wbr>").join(_BREAKS.split(name))


def words(command: str) -> Markup:
    """A shell command whose lines break between its words only, never after the hyphens of an option."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in command.split(" "))
