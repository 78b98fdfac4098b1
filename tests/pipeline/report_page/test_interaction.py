"""Sorting, filtering and looking closer, in a browser."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from report_browser import Visit
from report_page import many

from pipeline.report.build import render
from pipeline.report.collect import collect
from pipeline.report.pictures import Pictures


@pytest.mark.browser
def test_opens_with_every_picture(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    images = opened.page.evaluate("Array.from(document.images, image => [image.src, image.naturalWidth])")
    assert len(images) > 30
    assert [source for source, width in images if width == 0] == []
    assert {Path(unquote(urlsplit(source).path)).name for source, _ in images} == {
        file.name for file in (run / "report" / "images").iterdir()
    }


@pytest.mark.browser
def test_tables_sort_numbers_as_numbers_and_both_ways(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    header = opened.page.locator("#crawl th", has_text="Downloads")
    expected = [str(1000 // rank) if rank > 1 else "1,000" for rank in range(1, 8)]
    assert opened.column("#crawl [data-table]", 6) == expected
    header.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert opened.column("#crawl [data-table]", 6) == expected[::-1]
    assert opened.page.locator("#crawl th[aria-sort=ascending], #crawl th[aria-sort=descending]").count() == 1
    header.click()
    assert header.get_attribute("aria-sort") == "descending"
    assert opened.column("#crawl [data-table]", 6) == expected
    opened.page.locator("#crawl th button", has_text="Model").focus()
    opened.page.keyboard.press("Enter")
    names = opened.column("#crawl [data-table]", 2)
    assert names == sorted(names) and len(names) == 7
    opened.page.locator("#crawl th button", has_text="Family").press("Enter")
    families = opened.column("#crawl [data-table]", 4)
    assert families == ["DDPM", "LCM", "PixArt", "SD 1.x", "–", "–", "–"], "absent values come last"
    opened.page.locator("#crawl th button", has_text="Family").press("Enter")
    assert opened.column("#crawl [data-table]", 4) == ["SD 1.x", "PixArt", "LCM", "DDPM", "–", "–", "–"]


@pytest.mark.browser
def test_filter_keeps_rows_that_hold_every_word(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    box = opened.page.locator("#crawl input")
    box.fill("MIT latent")
    assert opened.column("#crawl [data-table]", 2) == ["toy/latent-consistency"]
    assert opened.page.locator("#crawl output").inner_text() == "1 of 7 models"
    box.fill("")
    assert len(opened.column("#crawl [data-table]", 2)) == 7
    opened.page.locator("#gallery-filter").fill("pixart")
    assert opened.page.locator("article:visible h4").all_inner_texts() == ["toy--pixart-sigma"]
    assert opened.page.locator("#gallery-shown").inner_text() == "1 of 4 shown"


@pytest.mark.browser
def test_viewer_by_keyboard(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    first = opened.page.locator("button.picture").first
    first.focus()
    opened.page.keyboard.press("Enter")
    viewer = opened.page.locator("#viewer")
    assert viewer.is_visible()
    prompts = [viewer.locator("blockquote").inner_text()]
    assert viewer.locator("figcaption").all_inner_texts() == ["Real photograph", "Generated"]
    sizes = viewer.locator("img").evaluate_all(
        "all => all.map(image => [image.width / image.naturalWidth, image.naturalWidth])"
    )
    assert [natural for _, natural in sizes] == [40, 32]
    assert all(scale > 1 and scale == int(scale) for scale, _ in sizes), "enlarged by whole multiples"
    assert viewer.locator("pre").inner_text().startswith("commforge dataset regenerate ")
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
        opened.page.keyboard.press(key)
        prompts.append(viewer.locator("blockquote").inner_text())
    assert prompts == [f"a photograph of subject {number}" for number in (0, 1, 0, 7)]
    opened.page.keyboard.press("Escape")
    assert viewer.is_hidden()
    assert opened.page.evaluate("document.activeElement.dataset.prompt") == "a photograph of subject 7"


@pytest.mark.browser
def test_without_scripts_every_row_is_there(run: Path, tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = tmp_path / "index.html"
    page.write_text(render(many(collect(run, Pictures(tmp_path)), 120)), encoding="utf-8")
    opened = visit(page, java_script_enabled=False)
    assert opened.page.locator("#composition tbody tr").nth(119).is_visible()
    assert opened.page.locator("#composition input").is_hidden()
