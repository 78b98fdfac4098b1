"""How the page writes numbers: one place, so that a table and a chart never disagree."""

ABSENT = "–"


def count(value: int | None) -> str:
    """1234567 as 1,234,567."""
    return ABSENT if value is None else f"{value:,}"


def score(value: float | None) -> str:
    """A metric with three decimals; a value below 1 is never rounded up to a perfect 1.000."""
    if value is None:
        return ABSENT
    return "0.999" if 0.999 <= value < 1 else f"{value:.3f}"


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


def plural(value: int, one: str, many: str | None = None) -> str:
    """1 model, 2 models."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"
