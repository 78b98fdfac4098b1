"""Nothing that a model's card or a caption says can run, or ask a network for anything."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from report_browser import Visit
from report_page import Page, page_of
from report_run import HOSTILE, typical_run

from pipeline.report.build import build_report


def test_nothing_on_the_page_needs_a_network(run: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
            if tag != "a" and attributes.get(name):
                assert urlsplit(str(attributes[name])).scheme in ("", "data"), (tag, attributes)
    html = (run / "report" / "index.html").read_text()
    assert "@import" not in html and "url(" not in html


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    builder = typical_run(tmp_path / "run", captions=HOSTILE)
    builder.model(
        "evil/repo",
        "bad_model_index",
        detail=HOSTILE[0],
        license=HOSTILE[0],
        family=HOSTILE[0],
        family_evidence=HOSTILE[2],
    )
    builder.write_catalog()
    builder.config(licence_notes=HOSTILE[0])
    page = page_of(builder.root)
    harmless = Page(build_report(typical_run(tmp_path / "harmless").root).read_text())
    for tag in ("script", "style", "meta", "link", "dialog"):
        assert len(page.having(tag)) == len(harmless.having(tag)), tag
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text and "49" not in "".join(row[0] for row in page.tables["Crawled models"])
    prompts = {button["data-prompt"] for button in page.having("button", **{"class": "picture"})}
    assert set(HOSTILE) <= prompts
    assert {f"Real photograph: {text}" for text in HOSTILE} <= {image["alt"] for image in page.having("img")}
    for button in page.having("button", **{"class": "picture"}):
        assert json.loads(str(button["data-facts"]))


@pytest.mark.browser
def test_hostile_strings_run_nothing(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    builder = typical_run(tmp_path / "run", captions=HOSTILE)
    builder.model("evil/repo", "bad_model_index", detail=HOSTILE[0], license=HOSTILE[0], family=HOSTILE[0])
    builder.write_catalog()
    opened = visit(build_report(builder.root))
    for button in opened.page.locator("button.picture").all()[:3]:
        button.press("Enter")
        assert opened.page.locator("#viewer blockquote").inner_text().strip() in {text.strip() for text in HOSTILE}
        opened.page.keyboard.press("Escape")
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("#crawl img, #viewer script").count() == 0
