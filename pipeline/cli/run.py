"""`run` and `demo`: the whole job."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import ConfigFile, Overrides


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("demo")(demo)
    app.command("run")(run)


def demo(
    output: Annotated[Path, typer.Option(help="the run's folder; made anew each time")] = Path("runs/demo"),
    executor: Annotated[Literal["inline", "ray"], typer.Option(help="where workers run")] = "ray",
    workers: Annotated[int, typer.Option(min=1, help="workers that sample at the same time")] = 2,
    keep_going: Annotated[
        bool, typer.Option("--continue", help="go on with what an earlier demo left, instead of starting anew")
    ] = False,
) -> None:
    """Run the whole job offline, on a built-in toy hub.

    Thirteen tiny models (five of them broken on purpose), real photographs, two workers, a detector and a report.

    Example: `commforge demo`
    """
    from pipeline.demo.run_demo import run_demo

    raise typer.Exit(run_demo(output, executor=executor, workers=workers, keep_going=keep_going))


def run(config: ConfigFile, overrides: Overrides = None) -> None:
    """Run a config: crawl → caption → sample → audit → train → evaluate → report.

    Every stage does only what is missing, so the same command goes on after a kill, and a config with more generators
    or images extends the dataset. Exit code 1: some units failed, or a model that the config names was left out.

    Example: `commforge run config.yaml --set execute.workers=4`
    """
    from pipeline.resolve import load_config

    resolved = load_config(config, tuple(overrides or ()))
    # After the config is read: these load the model libraries, and a slip in the file is told without the wait.
    from pipeline.run_all import run_all
    from pipeline.stages.train import check_detectors

    check_detectors(resolved)
    raise typer.Exit(run_all(resolved))
