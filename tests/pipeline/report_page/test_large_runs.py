"""Pages of runs with thousands of models stay usable."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from report_browser import Visit
from report_page import page_of
from report_run import RunBuilder

from pipeline.report.readers import crawl as crawl_reader
from pipeline.report.readers.crawl import read_crawl


def test_thousands_of_generators_are_paged(large: Path) -> None:
    html = large.read_text(encoding="utf-8")
    assert len(html) < 12 << 20
    rows = re.findall(r"<tr[^>]*>", html.split("<tbody>", 2)[2])
    assert len(rows) > 12000
    assert sum("hidden" in row for row in rows) >= 12000 - 25 - 25 - 50 - 50, "rows beyond the first page start hidden"


def test_a_long_catalog_is_cut_with_eligible_models_first(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    for number in range(60):
        builder.model(f"author/model-{number}", "ok" if number % 10 == 9 else "no_weights")
    builder.write_catalog()
    whole = read_crawl(tmp_path / "catalog.parquet", None)
    assert [model.rank for model in whole.models] == list(range(1, 61))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crawl_reader, "MODEL_ROWS", 8)
        page = page_of(tmp_path)
    assert [row[0] for row in page.tables["Crawled models"][1:]] == ["10", "20", "30", "40", "50", "60", "1", "2"]
    assert "The table lists 8 of 60 models, the eligible ones first." in page.text


@pytest.mark.browser
def test_long_tables_are_paged(large: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(large)
    table = "#composition [data-table]"
    assert opened.column(table, 1) == [f"model-{number}" for number in range(50)]
    opened.page.locator("#composition .pager button", has_text="Next").click()
    assert opened.column(table, 1)[0] == "model-50"
    assert opened.page.locator("#composition .pager span").inner_text() == "51–100"
    started = time.perf_counter()
    opened.page.locator("#composition th", has_text="Ok").first.click()
    opened.page.locator("#composition th", has_text="Ok").first.click()
    assert opened.column(table, 6)[:2] == ["2,999", "2,998"]
    opened.page.locator("#composition input").fill("model-2999")
    assert opened.column(table, 1) == ["model-2999"]
    assert time.perf_counter() - started < 20
    assert opened.page.locator("#composition .pager").is_hidden()


@pytest.mark.browser
def test_the_slowest_models_come_first_and_the_table_is_paged(large: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(large)
    table = "#time [data-table]"
    assert opened.column(table, 1) == [f"model-{number}" for number in range(25)]
    opened.page.locator("#time .pager button", has_text="Next").click()
    assert opened.column(table, 1)[0] == "model-25"
    opened.page.locator("#time th", has_text="Images").click()
    opened.page.locator("#time th", has_text="Images").click()
    assert opened.column(table, 6)[:2] == ["2,999", "2,998"]
