"""How the report writes numbers."""

import pytest

from pipeline.report import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.9994, "0.999"),
        (0.99999, "0.999"),
        (1 - 2**-52, "1.000"),
        (1.0, "1.000"),
        (0.12345, "0.123"),
    ],
)
def test_score_never_rounds_up_to_perfect(value: float | None, text: str) -> None:
    assert formatting.score(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (3 << 42, "12.0 TiB")],
)
def test_size(value: int | None, text: str) -> None:
    assert formatting.size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (9.04, "9.0 s"), (65, "1 min 05 s"), (3599.7, "1 h 00 min")])
def test_duration(value: float | None, text: str) -> None:
    assert formatting.duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.0, "0.00 s"), (9.994, "9.99 s"), (65, "1 min 05 s")])
def test_short_duration(value: float | None, text: str) -> None:
    assert formatting.short_duration(value) == text


def test_plural() -> None:
    assert [formatting.plural(value, "draw") for value in (0, 1, 1200)] == ["0 draws", "1 draw", "1,200 draws"]


@pytest.mark.parametrize(
    ("last", "text"),
    [
        ("2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05 UTC"),
        ("2026-01-02T04:09:00+01:00", "2026-01-02 03:04:05 to 03:09:00 UTC"),
        ("2026-01-03T00:00:01+00:00", "2026-01-02 03:04:05 to 2026-01-03 00:00:01 UTC"),
    ],
)
def test_period(last: str, text: str) -> None:
    assert formatting.period("2026-01-02T03:04:05+00:00", last) == text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("StableDiffusionXLPipeline", ["Stable", "Diffusion", "XL", "Pipeline"]),
        ("unet.cross_attention_dim 32", ["unet.", "cross_", "attention_", "dim 32"]),
        ("http://127.0.0.1/<b>", ["http://", "127.0.0.1/", "&lt;b&gt;"]),
    ],
)
def test_breakable(name: str, parts: list[str]) -> None:
    assert formatting.breakable(name) == "<wbr>".join(parts)


def test_words_keep_the_command_and_escape_it() -> None:
    assert formatting.words("a --b '<i>'") == "<span>a</span> <span>--b</span> <span>&#39;&lt;i&gt;&#39;</span>"
