"""Evaluate a detector on committed images: per generator, macro and micro, natively and format-equalised."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from detectors.bootstrap import GeneratorScores, MacroIntervals, macro_intervals
from detectors.devices import DeviceName
from detectors.format_equalisation import describe_equalisation
from detectors.metrics import (
    BinaryMetrics,
    MacroMetrics,
    RocCurve,
    ScoreHistogram,
    binary_metrics,
    macro_metrics,
    roc_points,
    score_histogram,
)
from detectors.saved_detector import (
    TRAINING_ROWS_FILE,
    Detector,
    ValidationPoint,
    library_versions,
    load_detector,
)
from detectors.scoring import ScoreProvenance, save_scores, score_images, score_table
from detectors.selection import (
    Selection,
    dataset_fingerprint,
    require_both_classes,
    select_rows,
    selection_fingerprint,
)
from manifests.frozen import FrozenModel
from shards import storage
from shards.dataset import Dataset

REPORT_FILE = "report.json"
SCORES_FILE = "scores.parquet"
EQUALISED_SCORES_FILE = "scores-equalised.parquet"

RealRule = Literal["paired", "all_selected"]


class GeneratorResult(BinaryMetrics):
    """One generator's fakes against reals.

    real_rule: "paired" when the reals are the selected ones that this generator's fakes were prompted from,
    "all_selected" when there is no such pair and every selected real is used.
    """

    real_rule: RealRule
    paired_fakes: int = Field(description="fakes whose source real is among the selected images")
    trained_on: bool | None = Field(description="whether the detector was trained on this generator; None: not known")
    roc: RocCurve | None
    histogram: ScoreHistogram


class ViewResult(FrozenModel):
    """The metrics of one view of the images."""

    macro: MacroMetrics = Field(description="unweighted mean over generators with both classes")
    micro: BinaryMetrics = Field(description="all selected images pooled")
    per_generator: dict[str, GeneratorResult]
    interval: MacroIntervals
    roc: RocCurve | None = Field(description="of all selected images pooled")
    histogram: ScoreHistogram = Field(description="of all selected images pooled")


class EqualisedResult(ViewResult):
    """The same metrics after every image got the same format and size."""

    method: str


class DetectorSummary(FrozenModel):
    """Which detector was evaluated."""

    architecture: str
    weights_sha256: str
    validation: ValidationPoint | None = Field(description="of its training; None for a published detector")


class SeenInTraining(FrozenModel):
    """Evaluated images that the detector was trained on, or that share a photograph with one that it was."""

    images: int
    photographs: int


class EvaluationReport(ViewResult):
    """The outcome of one evaluation; the metrics at the top level are those of the untouched images."""

    equalised: EqualisedResult
    detector: DetectorSummary
    dataset: str = Field(description="the dataset's name")
    dataset_fingerprint: str
    selection: Selection
    images: dict[str, int] = Field(description="real, fake -> images scored")
    seen_in_training: SeenInTraining | None = Field(description="None when the training images are not known")
    files: dict[str, str] = Field(description="view -> file of per-image scores beside the report")
    versions: dict[str, str]


def evaluate(
    detector_dir: Path,
    dataset_root: Path,
    split: str | None = None,
    *,
    generators: tuple[str, ...] | None = None,
    exclude_generators: tuple[str, ...] = (),
    out: Path | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: DeviceName = "auto",
    threads: int = 1,
    resamples: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Score the selected images and return the report; report and per-image scores are saved in `out`.

    `split` chooses reals and fakes alike; `generators` and `exclude_generators` choose among the fakes. `out` defaults
    to `detector_dir`/evaluations/DATASET-SPLIT. `resamples` is the number of bootstrap resamples of the interval.
    `progress` is told (images done, images in all).

    Raises:
        InputError: no detector or dataset, nothing selected, one class only, or a damaged shard.
    """
    detector = load_detector(detector_dir, device)
    selection = Selection(split=split, generators=generators, exclude_generators=exclude_generators)
    rows = select_rows(dataset_root, selection)
    require_both_classes(dataset_root, rows, "evaluation")
    name = Dataset.open(dataset_root).name
    fingerprint = dataset_fingerprint(dataset_root)
    logits = score_images(
        detector, dataset_root, rows, batch_size=batch_size, workers=workers, threads=threads, progress=progress
    )
    tables = {"native": score_table(rows, logits.native), "equalised": score_table(rows, logits.equalised)}
    method = describe_equalisation(detector.config.preprocessing)
    trained_on = None if detector.record is None else frozenset(detector.record.data.generators)
    native, equalised = (evaluate_scores(table, trained_on, resamples) for table in tables.values())
    fakes = int(rows["label"].to_numpy().sum())
    report = EvaluationReport(
        **_fields(native),
        equalised=EqualisedResult(method=method, **_fields(equalised)),
        detector=DetectorSummary(
            architecture=detector.config.name,
            weights_sha256=detector.weights_sha256,
            validation=None if detector.record is None else detector.record.validation,
        ),
        dataset=name,
        dataset_fingerprint=fingerprint,
        selection=selection,
        images={"real": rows.num_rows - fakes, "fake": fakes},
        seen_in_training=_seen_in_training(detector, rows),
        files={"native": SCORES_FILE, "equalised": EQUALISED_SCORES_FILE},
        versions=library_versions(),
    )
    folder = out or detector_dir / "evaluations" / f"{name}-{split or 'all'}".replace("/", "_")
    storage.make_folder(folder)
    for view, table in tables.items():
        provenance = ScoreProvenance(
            detector_sha256=detector.weights_sha256,
            architecture=detector.config.name,
            dataset=name,
            dataset_fingerprint=fingerprint,
            selection_fingerprint=selection_fingerprint(rows),
            view=view if view == "native" else method,
            device=str(detector.device),
            cpu_threads=threads,
            versions=library_versions(),
        )
        save_scores(folder / report.files[view], table, provenance)
    storage.replace(folder / REPORT_FILE, report.model_dump_json(indent=2).encode() + b"\n")
    return report


def evaluate_scores(scores: pa.Table, trained_on: frozenset[str] | None = None, resamples: int = 1000) -> ViewResult:
    """Return the metrics of a table with `SCORE_SCHEMA`: no detector needed, so saved scores can be evaluated again."""
    labels, values = scores["label"].to_numpy(), scores["score"].to_numpy()
    generator = np.array(scores["generator"].to_pylist(), dtype=object)
    image_id = np.array(scores["image_id"].to_pylist(), dtype=object)
    source = np.array(scores["source_image_id"].to_pylist(), dtype=object)
    names, photograph = np.unique(np.array(scores["photograph"].to_pylist(), dtype=str), return_inverse=True)
    is_real = labels == 0
    reals = np.flatnonzero(is_real)
    results: dict[str, GeneratorResult] = {}
    resampled: list[GeneratorScores] = []
    for name in sorted(set(generator[~is_real])):
        fakes = np.flatnonzero(~is_real & (generator == name))
        sources = {value for value in source[fakes] if value is not None}
        paired = np.array([number for number in reals if image_id[number] in sources], dtype=np.int64)
        rule: RealRule = "paired" if len(paired) else "all_selected"
        chosen = np.concatenate((fakes, paired if len(paired) else reals))
        metrics = binary_metrics(labels[chosen], values[chosen])
        found = set(image_id[paired])
        results[name] = GeneratorResult(
            **_fields(metrics),
            real_rule=rule,
            paired_fakes=sum(value in found for value in source[fakes]),
            trained_on=None if trained_on is None else name in trained_on,
            roc=roc_points(labels[chosen], values[chosen]),
            histogram=score_histogram(labels[chosen], values[chosen]),
        )
        if not metrics.undefined:
            resampled.append(GeneratorScores(labels[chosen], values[chosen], photograph[chosen]))
    return ViewResult(
        macro=macro_metrics(results.items()),
        micro=binary_metrics(labels, values),
        per_generator=results,
        interval=macro_intervals(resampled, len(names), resamples),
        roc=roc_points(labels, values),
        histogram=score_histogram(labels, values),
    )


def _fields(model: FrozenModel) -> dict[str, object]:
    """The fields as they are: no copies, no dumps."""
    return {name: getattr(model, name) for name in type(model).model_fields}


def _seen_in_training(detector: Detector, rows: pa.Table) -> SeenInTraining | None:
    path = detector.folder / TRAINING_ROWS_FILE
    if not path.is_file():
        return None
    seen = pq.read_table(path, columns=["image_id", "photograph"])
    images, photographs = (
        len(set(rows[column].to_pylist()) & set(seen[column].to_pylist())) for column in ("image_id", "photograph")
    )
    return SeenInTraining(images=images, photographs=photographs)
