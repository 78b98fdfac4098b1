"""Score every image of some committed rows, natively and after format equalisation, and keep each score."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from detectors.devices import cpu_threads
from detectors.format_equalisation import NativeAndEqualised
from detectors.loading import batches, consecutive
from detectors.saved_detector import Detector
from detectors.shard_dataset import ShardImages
from manifests.frozen import FrozenModel
from shards import storage

SCORE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("generator", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("logit", pa.float32(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("source_image_id", pa.string()),
        pa.field("photograph", pa.string(), nullable=False),
    ]
)
"""One row per scored image; `score` is the logistic function of `logit`, the probability of fake."""

PROVENANCE_KEY = b"commforge.provenance"


class ScoreProvenance(FrozenModel):
    """What a scores table was made with; stored as JSON in the Parquet file's metadata."""

    detector_sha256: str
    architecture: str
    dataset: str
    dataset_fingerprint: str
    selection_fingerprint: str
    view: str
    """"native", or how the images were equalised."""
    device: str
    cpu_threads: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Logits:
    """Float32 logits (N,) of one set of images under both views."""

    native: NDArray[np.float32]
    equalised: NDArray[np.float32]


def score_images(
    detector: Detector,
    root: Path,
    rows: pa.Table,
    *,
    batch_size: int = 32,
    workers: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Logits:
    """Return the logits of every row of `rows` (from `select_rows`), in its order.

    `progress` is told (images done, images in all) after each batch.

    Raises:
        ShardDamaged (an InputError): a shard is missing or short, or an image in it cannot be decoded.
    """
    images = ShardImages(root, rows, NativeAndEqualised(detector.config.preprocessing))
    native = np.empty(len(images), dtype=np.float32)
    equalised = np.empty(len(images), dtype=np.float32)
    done = 0
    with cpu_threads(threads):
        for views, _, indices in batches(images, consecutive(len(images), batch_size), workers, detector.device):
            places = indices.numpy()
            native[places] = detector.logits(views[0]).numpy()
            equalised[places] = detector.logits(views[1]).numpy()
            done += len(places)
            if progress is not None:
                progress(done, len(images))
    return Logits(native, equalised)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logistic function of `logits`, in double precision."""
    return torch.from_numpy(logits.astype(np.float64)).sigmoid().numpy()


def score_table(rows: pa.Table, logits: NDArray[np.float32]) -> pa.Table:
    """Return the scores of `rows` as `SCORE_SCHEMA`."""
    columns = {name: rows[name] for name in SCORE_SCHEMA.names if name not in ("score", "logit")}
    columns |= {"score": pa.array(probabilities(logits)), "logit": pa.array(logits)}
    return pa.table([columns[name] for name in SCORE_SCHEMA.names], schema=SCORE_SCHEMA)


def save_scores(path: Path, table: pa.Table, provenance: ScoreProvenance) -> None:
    """Write a scores table with its provenance, at once."""
    storage.make_folder(path.parent)
    temporary = storage.temporary_beside(path)
    try:
        metadata = {PROVENANCE_KEY: provenance.model_dump_json().encode()}
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")
        storage.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_scores(path: Path) -> tuple[pa.Table, ScoreProvenance]:
    """Return a scores table and what it was made with."""
    table = pq.read_table(path)
    return table, ScoreProvenance.model_validate_json(table.schema.metadata[PROVENANCE_KEY])
