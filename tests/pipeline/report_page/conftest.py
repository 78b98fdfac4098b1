"""Runs, pages and a browser for the tests of the report."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_browser import Visit, browser_executable
from report_page import Page, many
from report_run import typical_run

from pipeline.report.build import build_report, render
from pipeline.report.collect import collect
from pipeline.report.pictures import Pictures


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes; tests that do make a copy."""
    root = tmp_path_factory.mktemp("report") / "run"
    typical_run(root)
    build_report(root)
    return root


@pytest.fixture(scope="session")
def page(run: Path) -> Page:
    return Page((run / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(run, target)
    return target


@pytest.fixture(scope="session")
def large(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with 3,000 generators in each of its tables."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(run / "report" / "images", folder / "images")
    facts = many(collect(run, Pictures(folder)), 3000)
    started = time.perf_counter()
    html = render(facts)
    assert time.perf_counter() - started < 60
    (folder / "index.html").write_text(html, encoding="utf-8")
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = browser_executable()
    if executable is None:
        reason = "no Chromium or Chrome found; install one or set COMMFORGE_CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a page; at the end no page may have complained or asked for anything but files."""
    visits: list[Visit] = []

    def opened(path: Path, **options: Any) -> Visit:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(20_000)
        visit = Visit(page, [], [])
        page.on("console", lambda message: visit.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.goto(path.as_uri())
        visits.append(visit)
        return visit

    yield opened
    for visit in visits:
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(("file://", "data:"))] == []
        visit.page.context.close()
