"""`status` and `report`: what a run has come to."""

from typing import Annotated

import typer

from manifests.errors import InputError
from pipeline.cli.options import AsJson, RunPath


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("status")(status)
    app.command("report")(report)


def status(
    run: RunPath,
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--all", help="list every generator, not only those to look at")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="show it again every few seconds, until the run ends")] = False,
) -> None:
    """Say what is done, missing and failing, and when the rest will be done. It may be asked at any time.

    Example: `commforge status runs/demo`
    """
    from pipeline.cli.output import print_json
    from pipeline.cli.status_text import print_status, watch_status
    from pipeline.run_status import run_status

    if watch and as_json:
        raise InputError("--watch: not with --json; a program may ask again as often as it likes")
    if watch:
        watch_status(lambda: run_status(run, every))
    elif as_json:
        print_json(run_status(run, every))
    else:
        print_status(run_status(run, every), every)


def report(run: RunPath, as_json: AsJson = False) -> None:
    """Write the run's report, one static HTML page, and print its path; with --json, its numbers.

    Example: `commforge report runs/demo`
    """
    from pipeline.report.build import build_report, numbers_path

    page = build_report(run)
    print(numbers_path(run).read_text(encoding="utf-8"), end="") if as_json else print(page)
