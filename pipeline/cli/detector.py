"""`detector`: train, evaluate and use fake-image detectors."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson
from pipeline.exit_codes import ExitCode

app = typer.Typer(
    help="Train, evaluate and use fake-image detectors.\n\nExample: `commforge detector list`",
    no_args_is_help=True,
)

DataPath = Annotated[Path, typer.Option("--data", metavar="DATASET", help="a dataset's folder")]
ModelPath = Annotated[Path, typer.Option("--model", metavar="DIR", help="folder of a trained or published detector")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="auto, cpu, cuda or mps")]


@app.command("list")
def list_architectures(as_json: AsJson = False) -> None:
    """List the architectures, with input size, weights and licence.

    Example: `commforge detector list`
    """
    from detectors.registry import architecture_names, get_architecture
    from pipeline.cli.output import print_json, print_table

    configs = [get_architecture(name).config for name in architecture_names()]
    if as_json:
        print_json([config.model_dump(mode="json") for config in configs])
        return
    rows = [(c.name, c.input_size, c.description, c.published.repo_id if c.published else "none") for c in configs]
    print_table(("name", "input", "description", "published weights"), rows)


@app.command()
def train(
    data: DataPath,
    architecture: Annotated[str, typer.Option(metavar="NAME", help="see `commforge detector list`")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="the detector's folder; a run in it goes on")],
    split: Annotated[str | None, typer.Option(help="images to train on; empty: all")] = "train",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a training setting, e.g. iterations=1000; repeatable"),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="discard what is in DIR")] = False,
) -> None:
    """Train a detector on committed shards. The checkpoint is chosen on held-out photographs of the training images.

    Example: `commforge detector train --data runs/demo/dataset --architecture tiny-vit-64
    --out runs/demo/detectors/mine --set iterations=200 --set batch_size=32`
    """
    from pipeline.detector_commands import train_detector

    train_detector(data, architecture, out, split or None, tuple(settings or ()), restart)


@app.command()
def evaluate(
    model: ModelPath,
    data: DataPath,
    split: Annotated[str | None, typer.Option(help="images to score; default: all, those trained on too")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for report and scores; default: in DIR")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a dataset: AP, AUC and accuracy per generator, macro and micro, natively and format-equalised.

    Example: `commforge detector evaluate --model runs/demo/detectors/tiny --data runs/demo/dataset --split test --json`
    """
    from pipeline.detector_commands import evaluate_detector

    evaluate_detector(model, data, split, out, device, as_json)


@app.command()
def predict(
    model: ModelPath,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="image files, or folders of them")],
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score image files. Exit code 1 when some could not be read.

    Example: `commforge detector predict --model runs/demo/detectors/tiny photo.jpg folder/`
    """
    from detectors.predict import predict as predict_files
    from pipeline.cli.output import print_json

    predictions = predict_files(model, paths, device=device)
    if as_json:
        print_json([prediction.model_dump(mode="json") for prediction in predictions])
    else:
        for prediction in predictions:
            verdict = prediction.error or f"{prediction.score:.4f} {'fake' if prediction.label_at_0_5 else 'real'}"
            print(f"{prediction.path}: {verdict}")
    failed = any(prediction.error for prediction in predictions)
    raise typer.Exit(ExitCode.DONE_WITH_FAILURES if failed else ExitCode.DONE)
