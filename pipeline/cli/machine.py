"""`doctor`: what this machine can run, and whether a hub can be crawled from it."""

from typing import Annotated

import typer

from pipeline.cli.options import AsJson
from pipeline.exit_codes import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("doctor")(doctor)


def doctor(
    hub: Annotated[
        bool, typer.Option("--hub", help="check the hub instead of the machine: about five requests")
    ] = False,
    endpoint: Annotated[str | None, typer.Option(help="hub's address, with --hub; default: the public one")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what this machine can run, and what is missing or in the way. Exit code 1 when something is.

    With --hub: whether the hub answers, what its token allows, which limits it announces, and whether a listing, a
    model's description and a file arrive. The token (HF_TOKEN or the client's login) is never printed.

    Example: `commforge doctor` or `commforge doctor --hub --endpoint https://huggingface.co`
    """
    from manifests.errors import InputError
    from pipeline.cli.output import print_json
    from pipeline.machine_check import check_machine, check_the_hub

    if endpoint is not None and not hub:
        raise InputError("--endpoint: only with --hub")
    checks = check_the_hub(endpoint) if hub else check_machine()
    wrong = "FAIL" if hub else "MISS"
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else wrong} {check.name}: {check.found}")
    raise typer.Exit(ExitCode.DONE if all(check.ok for check in checks) else ExitCode.DONE_WITH_FAILURES)
