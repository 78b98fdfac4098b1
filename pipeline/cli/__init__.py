"""The command line: `commforge`. Nothing heavy is imported until a command runs, so `--help` answers at once."""

import os
import sys
import traceback
from typing import NoReturn

import typer

from manifests.errors import InputError
from pipeline.cli.dataset import app as dataset_app
from pipeline.cli.detector import app as detector_app
from pipeline.cli.generator import app as generator_app
from pipeline.cli.hub import app as hub_app
from pipeline.cli.machine import register as register_machine
from pipeline.cli.results import register as register_results
from pipeline.cli.run import register as register_run
from pipeline.cli.stages import register as register_stages
from pipeline.exit_codes import ExitCode
from pipeline.interruption import Interrupted, Stopped, termination_as_interrupt

_CTRL_C = 130
"""What typer exits with when Ctrl-C arrives outside a stage."""

app = typer.Typer(
    name="commforge",
    help="Turn a model hub into a forensics dataset, then train and score fake-image detectors on it.\n\n"
    "Example: `commforge demo`",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
register_run(app)
register_stages(app)
register_results(app)
app.add_typer(generator_app, name="generator")
app.add_typer(dataset_app, name="dataset")
app.add_typer(detector_app, name="detector")
app.add_typer(hub_app, name="hub")
register_machine(app)


def main() -> None:
    """Run the command line and exit with one of `ExitCode`."""
    try:
        with termination_as_interrupt():
            code = app(standalone_mode=False)
        sys.stdout.flush()
    except Stopped as outage:
        print(f"stopped: {outage}", file=sys.stderr)
        sys.exit(ExitCode.STOPPED_EARLY)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.WRONG_INPUT)
    except typer.TyperException as error:
        _refuse_usage(error)
    except Interrupted:
        _say_stopped()
    except BrokenPipeError:
        _leave_quietly()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer would make it exit code 1
            _leave_quietly()
        raise
    except Exception:  # noqa: BLE001 - the outermost frame: whatever arrives here is our bug, and is shown whole
        traceback.print_exc()
        print("This is a bug in commforge. Please report it with the lines above.", file=sys.stderr)
        sys.exit(ExitCode.OUR_BUG)
    if code == _CTRL_C:
        _say_stopped()
    sys.exit(code or ExitCode.DONE)


def _refuse_usage(error: typer.TyperException) -> NoReturn:
    """Say a wrong option, argument or command in one line, with the value; a bare group has shown its help already."""
    from pydantic import ValidationError

    words = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    if isinstance(error.__cause__, ValidationError):
        value = repr(error.__cause__.errors()[0]["input"])
        words += "" if value in words else f", not {value}"
    context = getattr(error, "ctx", None)
    if words:
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        print(f"error: {words}{hint}", file=sys.stderr)
    sys.exit(ExitCode.WRONG_INPUT)


def _leave_quietly() -> NoReturn:
    """The reader of our output, such as `head`, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(ExitCode.DONE)


def _say_stopped() -> NoReturn:
    print("stopped; what was committed stays. The same command again goes on from here.", file=sys.stderr)
    sys.exit(ExitCode.STOPPED_EARLY)
