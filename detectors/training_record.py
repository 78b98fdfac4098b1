"""What is written down about a finished training run: which images, which settings, how it validated."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectors.saved_detector import TRAINING_ROWS_FILE, TrainingData, ValidationPoint
from detectors.selection import dataset_fingerprint
from shards import storage
from shards.dataset import Dataset


def training_data(root: Path, selection_fingerprint: str, training: pa.Table, validation: pa.Table) -> TrainingData:
    """Return the record of the images that a detector was trained and validated on."""
    dataset = Dataset.open(root)
    fakes = training.filter(pc.equal(training["label"], 1))
    return TrainingData(
        dataset=dataset.name,
        dataset_identity=dataset.identity,
        dataset_fingerprint=dataset_fingerprint(root),
        selection_fingerprint=selection_fingerprint,
        generators=tuple(sorted(set(fakes["generator"].to_pylist()))),
        training_images=_class_counts(training),
        validation_images=_class_counts(validation),
    )


def best_validation(validations: Sequence[ValidationPoint]) -> ValidationPoint:
    """Return the point with the highest AP; among equals the lowest loss, then the earliest."""
    return max(validations, key=lambda point: (point.ap, -point.loss, -point.iteration))


def save_training_rows(folder: Path, training: pa.Table, validation: pa.Table) -> None:
    """Write which image was used for what, so that an evaluation can tell which images the detector has seen."""
    table = pa.concat_tables(
        rows.select(["image_id", "photograph", "generator", "label"]).append_column(
            "part", pa.array([part] * rows.num_rows, pa.string())
        )
        for part, rows in (("training", training), ("validation", validation))
    )
    temporary = storage.temporary_beside(folder / TRAINING_ROWS_FILE)
    try:
        pq.write_table(table, temporary, compression="zstd")
        storage.publish(temporary, folder / TRAINING_ROWS_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def _class_counts(rows: pa.Table) -> dict[str, int]:
    fake = int(rows["label"].to_numpy().sum())
    return {"real": rows.num_rows - fake, "fake": fake}
