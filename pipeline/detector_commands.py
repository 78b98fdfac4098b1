"""The `detector train` and `detector evaluate` commands."""

from pathlib import Path

import yaml

from detectors.devices import DeviceName
from detectors.evaluation import EvaluationReport
from detectors.evaluation import evaluate as evaluate_on
from detectors.train_config import parse_train_config
from detectors.training import TrainProgress
from detectors.training import train as train_on
from manifests.errors import InputError
from pipeline.cli.output import print_table
from pipeline.progress import StageProgress


def train_detector(
    data: Path, architecture: str, out: Path, split: str | None, settings: tuple[str, ...], restart: bool
) -> None:
    """Train and say how it went; see `detectors.training.train`."""
    values: dict[str, object] = {"architecture": architecture, "selection": {"split": split}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: must be KEY=VALUE, such as iterations=1000")
        values[key] = _value(setting, value)
    config = parse_train_config(values, "--set")
    done = 0
    with StageProgress("train", config.iterations, "iterations") as progress:

        def report(at: TrainProgress) -> None:
            nonlocal done
            progress.advance(at.iteration - done, f"loss {at.loss:.3f}")
            done = at.iteration

        record = train_on(data, out, config, restart=restart, progress=report)
    validation = record.validation
    print(f"{out}: validation AP {validation.ap:.4f}, AUC {validation.auc:.4f} at iteration {validation.iteration}")


def evaluate_detector(
    model: Path, data: Path, split: str | None, out: Path | None, device: DeviceName, as_json: bool
) -> None:
    """Evaluate and print the metrics; see `detectors.evaluation.evaluate`."""
    with StageProgress("evaluate", 1, "images") as progress:
        report = evaluate_on(model, data, split, out=out, device=device, progress=progress.at)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        print_evaluation(report)


def print_evaluation(report: EvaluationReport) -> None:
    """Print the per-generator table, native and format-equalised side by side."""
    rows: list[tuple[object, ...]] = []
    for name, native in report.per_generator.items():
        equalised = report.equalised.per_generator[name]
        rows.append(
            (name, native.n_fake, native.n_real, native.ap, native.auc, native.accuracy, equalised.ap, equalised.auc)
        )
    macro, flat = report.macro, report.equalised.macro
    rows.append((f"macro of {macro.n}", None, None, macro.ap, macro.auc, macro.accuracy, flat.ap, flat.auc))
    columns = ("generator", "fakes", "reals", "AP", "AUC", "accuracy", "AP equalised", "AUC equalised")
    print_table(columns, rows)


def _value(setting: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting}: the value is not YAML") from error
