"""`doctor`: what this machine can run."""

import typer

from pipeline.cli.options import AsJson
from pipeline.exit_codes import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("doctor")(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can run, and what is missing or in the way. Exit code 1 when something is.

    Example: `commforge doctor`
    """
    from pipeline.cli.output import print_json
    from pipeline.machine_check import check_machine

    checks = check_machine()
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'MISS'} {check.name}: {check.found}")
    raise typer.Exit(ExitCode.DONE if all(check.ok for check in checks) else ExitCode.DONE_WITH_FAILURES)
