"""Writes the report: one page without a single address in it, and the pictures it shows in a folder beside it."""

import base64
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import formatting
from pipeline.report.charts.bars import bar, interval_dot, stacked_bar
from pipeline.report.charts.histogram import score_chart
from pipeline.report.charts.roc import roc_chart
from pipeline.report.collect import collect
from pipeline.report.document import report_document
from pipeline.report.facts import RunFacts
from pipeline.report.picture_facts import Picture
from pipeline.report.pictures import Pictures
from pipeline.report.readers import gallery
from pipeline.run_folder import RunFolder
from shards import storage

_STYLES = ("page.css", "tables.css", "pictures.css", "screens.css")  # the last overrides the others


def build_report(run: Path) -> Path:
    """Write `run`/report/index.html from what is in the run's folder and return its path; report.json lies beside it.

    A part that the run does not have yet is named on the page. The same folder gives the same bytes; pictures of an
    earlier report that are no longer shown are removed.

    Raises:
        InputError: `run` is no run's folder, or one of its files is damaged. The message names the file.
    """
    page = RunFolder.at(run).report
    pictures = Pictures(page.parent)
    facts = collect(run, pictures)
    html = render(facts)
    storage.make_folder(page.parent)
    numbers = json.dumps(report_document(facts), indent=2, ensure_ascii=False) + "\n"
    storage.replace(numbers_path(run), numbers.encode())
    storage.replace(page, html.encode())
    pictures.sweep()
    return page


def numbers_path(run: Path) -> Path:
    """Where the report's numbers are."""
    return RunFolder.at(run).report.with_name("report.json")


def render(run: RunFacts) -> str:
    """Return the page that shows these facts."""
    environment = _environment()
    script = _asset(environment, "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        run=run,
        css=Markup("\n".join(_asset(environment, name) for name in _STYLES)),
        js=Markup(script),
        script_hash=f"sha256-{digest}",
        version=version("commforge"),
        caps={"generators": gallery.GENERATORS, "images": gallery.IMAGES, "mebibytes": gallery.MEBIBYTES},
        largest_licence=max((entry.real + entry.fake for entry in run.licences), default=0),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "count": formatting.count,
        "score": formatting.score,
        "size": formatting.size,
        "duration": formatting.duration,
        "short_duration": formatting.short_duration,
        "percent": formatting.percent,
        "plural": formatting.plural,
        "breakable": formatting.breakable,
        "words": formatting.words,
        "details": _details,
    }
    environment.globals |= {
        "stacked_bar": stacked_bar,
        "bar": bar,
        "interval_dot": interval_dot,
        "roc_chart": roc_chart,
        "score_chart": score_chart,
    }
    return environment


def _details(picture: Picture) -> str:
    """A picture's facts as the JSON that the viewer reads; the template escapes it."""
    return json.dumps([[fact.name, fact.value, fact.code] for fact in picture.details], ensure_ascii=False)


def _asset(environment: Environment, name: str) -> str:
    if environment.loader is None:
        raise ValueError("the report's templates have no loader")
    source, _, _ = environment.loader.get_source(environment, name)
    return source.strip()
