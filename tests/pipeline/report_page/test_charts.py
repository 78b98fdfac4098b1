"""The report's charts."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts.bars import interval_dot, stacked_bar
from pipeline.report.charts.histogram import score_chart
from pipeline.report.charts.roc import roc_chart
from pipeline.report.detector_facts import Histogram, Roc


def rectangles(svg: str) -> list[tuple[float, float]]:
    """(x, width) of each rectangle."""
    return [(float(rect.attrib["x"]), float(rect.attrib["width"])) for rect in ElementTree.fromstring(svg).iter("rect")]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=6))
def test_stacked_bar_fills_its_cell_without_gaps_and_shows_every_part(counts: list[int]) -> None:
    rects = rectangles(stacked_bar([("ok", count) for count in counts]))
    assert len(rects) == sum(count > 0 for count in counts)
    position = 0.0
    for x, width in rects:
        assert x == pytest.approx(position, abs=0.05)
        assert width >= 3.99
        position = x + width
    assert position == pytest.approx(1000 if rects else 0, abs=0.1)


def test_bar_of_a_part_has_its_share() -> None:
    assert rectangles(stacked_bar([("ok", 1), ("failed", 2)], 12)) == [(0, 83.33), (83.33, 166.67)]


def test_roc_goes_through_its_points() -> None:
    curve = Roc("a", 0.75, (0.0, 0.5, 1.0), (0.0, 1.0, 1.0))
    drawing = ElementTree.fromstring(roc_chart([curve], curve, "two curves"))
    paths = [element.attrib for element in drawing.iter("path")]
    assert [attributes["d"] for attributes in paths] == ["M46 342L211 12L376 12"] * 2
    assert [attributes["class"] for attributes in paths] == ["curve", "curve macro"]
    assert drawing.attrib["aria-label"] == "two curves"


def test_histogram_has_fakes_above_the_axis_and_reals_below_as_shares_of_their_class() -> None:
    histogram = Histogram((0.0, 0.5, 1.0), real=(300, 100), fake=(0, 2))
    drawing = ElementTree.fromstring(score_chart(histogram, "scores"))
    rects = list(drawing.iter("rect"))
    (axis,) = [line for line in drawing.iter("line") if line.attrib["class"] == "base"]
    height = {(rect.attrib["class"], rect[0].text): float(rect.attrib["height"]) for rect in rects}
    whole = height["fill-fake", "0.5–1: 100.0%"]
    assert height["fill-real", "0–0.5: 75.0%"] == pytest.approx(0.75 * whole)
    assert height["fill-real", "0.5–1: 25.0%"] == pytest.approx(0.25 * whole)
    for rect in rects:
        top, bottom = float(rect.attrib["y"]), float(rect.attrib["y"]) + float(rect.attrib["height"])
        assert (bottom if "fake" in rect.attrib["class"] else top) == float(axis.attrib["y1"])


@pytest.mark.parametrize("counts", [((0, 0), (0, 0)), ((0, 0), (1, 0))])
def test_histogram_of_a_missing_class(counts: tuple[tuple[int, int], tuple[int, int]]) -> None:
    real, fake = counts
    assert len(rectangles(score_chart(Histogram((0.0, 0.5, 1.0), real, fake), "scores"))) == sum(real + fake)


def test_dot_of_a_missing_metric_is_left_out() -> None:
    assert "circle" not in interval_dot(None)
    assert re.findall(r'cx="([0-9.]+)"', interval_dot(0.9, 0.6)) == ["65", "95"]


def test_names_in_charts_are_escaped() -> None:
    curve = Roc('"><script>', None, (0.0, 1.0), (0.0, 1.0))
    assert "<script" not in roc_chart([curve], None, '"><script>')
