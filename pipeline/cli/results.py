"""`status` and `report`: what a run has come to."""

import typer

from pipeline.cli.options import AsJson, RunPath


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("status")(status)
    app.command("report")(report)


def status(run: RunPath, as_json: AsJson = False) -> None:
    """Say what is done, missing and failing, and when the rest will be done.

    Example: `commforge status runs/demo`
    """
    from pipeline.cli.output import print_json, print_table
    from pipeline.run_status import run_status

    found = run_status(run)
    if as_json:
        print_json(found)
        return
    print(f"{found['name']}: {'running' if found['running'] else 'not running'}")
    for stage, what in found["stages"].items():
        print(f"  {stage}: {', '.join(what) if isinstance(what, list) else what}")
    print(f"  images missing: {found['images_missing']}" + _eta(found["eta_seconds"], found["images_missing"]))
    columns = ("generator", "wanted", "missing", "ok", "flagged", "degenerate", "failed", "reason")
    print_table(columns, [[entry[column] for column in columns] for entry in found["generators"]])


def report(run: RunPath) -> None:
    """Write the run's report, one static HTML page, and print its path.

    Example: `commforge report runs/demo`
    """
    from pipeline.report.build import build_report

    print(build_report(run))


def _eta(seconds: float | None, missing: int) -> str:
    if not missing:
        return ""
    return ", no rate known yet" if seconds is None else f", about {seconds / 60:.1f} min of work at the last rate"
