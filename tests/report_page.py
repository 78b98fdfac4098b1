"""The report's page as its tests read it."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from pipeline.report.build import build_report
from pipeline.report.cost_facts import ModelTime, WorkingTime
from pipeline.report.facts import RunFacts


class Page(HTMLParser):
    """The page as a browser would take it apart: elements with attributes, tables as rows of cell texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._label = ""
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self._rows, self._label = [], dict(attrs).get("aria-label") or ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "br" and self._rows and self._rows[-1]:
            self._rows[-1][-1] += "\n"
        if tag in ("script", "style", "caption", "table"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()
        if tag == "table":
            self.tables[self._label] = [[cell.strip() for cell in row] for row in self._rows]

    def handle_data(self, data: str) -> None:
        where = self._in[-1] if self._in else ""
        if where in ("script", "style"):
            return
        self.text += data
        if where == "caption":
            self._label += data
        elif where == "table" and self._rows and self._rows[-1]:
            self._rows[-1][-1] += data

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def page_of(root: Path) -> Page:
    return Page(build_report(root).read_text(encoding="utf-8"))


def many(facts: RunFacts, count: int) -> RunFacts:
    """The same run with `count` generators."""
    assert facts.crawl is not None and facts.composition is not None
    models = tuple(
        replace(facts.crawl.models[0], rank=number + 1, repo_id=f"author-{number % 70}/model-{number}")
        for number in range(count)
    )
    outcome = facts.composition.outcomes[0]
    outcomes = tuple(replace(outcome, generator=f"model-{number}", ok=number) for number in range(count))
    (detector,) = facts.detectors
    (evaluation,) = detector.evaluations
    scores = tuple(replace(evaluation.generators[0], generator=f"model-{number}") for number in range(count))
    times = tuple(
        ModelTime(f"model-{number}", number, 1, 0, 1.0, 2.0, float(count - number)) for number in range(count)
    )
    return replace(
        facts,
        time=WorkingTime(times, count, count),
        crawl=replace(facts.crawl, crawled=count, models=models),
        composition=replace(facts.composition, outcomes=outcomes),
        detectors=(replace(detector, evaluations=(replace(evaluation, generators=scores),)),),
    )
