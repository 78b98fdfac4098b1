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
from pipeline.interruption import Interrupted

_CTRL_C = 130
"""What typer exits with when Ctrl-C arrives outside a stage."""

app = typer.Typer(
    name="commforge",
    help="Turn a model hub into a forensics dataset, then train and score fake-image detectors on it.",
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
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.WRONG_INPUT)
    except Interrupted:
        _say_stopped()
    except SystemExit as leaving:
        if leaving.code == _CTRL_C:
            _say_stopped()
        raise
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)
    except Exception:  # noqa: BLE001 - the outermost frame: whatever arrives here is our bug, and is shown whole
        traceback.print_exc()
        print("This is a bug in commforge. Please report it with the lines above.", file=sys.stderr)
        sys.exit(ExitCode.OUR_BUG)


def _say_stopped() -> NoReturn:
    print("stopped; what was committed stays. The same command again goes on from here.", file=sys.stderr)
    sys.exit(ExitCode.STOPPED_EARLY)
