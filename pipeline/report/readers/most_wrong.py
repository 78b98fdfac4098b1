"""The images that a detector judged worst: the quickest way to see what it does not understand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.errors import InputError
from pipeline.report.picture_facts import Picture
from pipeline.report.pictures import Pictures
from pipeline.report.readers.gallery import rows_by_id
from shards.dataset import Dataset

IMAGES = 8
"""Most images of each kind."""
THRESHOLD = 0.5

_COLUMNS = ["image_id", "generator", "label", "score"]


def most_wrong(
    scores: Path, dataset: Dataset | None, pictures: Pictures
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Return the fakes with the lowest and the reals with the highest scores, of those on the wrong side of 0.5.

    Both are empty without scores or a dataset; images that the dataset does not hold are passed over.

    Raises:
        InputError: the file is no table of scores.
    """
    if dataset is None or not scores.is_file():
        return (), ()
    try:
        table = pq.read_table(scores, columns=_COLUMNS)
        fake = pc.equal(table["label"], 1)
        missed = table.filter(pc.and_(fake, pc.less_equal(table["score"], THRESHOLD)))
        doubted = table.filter(pc.and_(pc.invert(fake), pc.greater(table["score"], THRESHOLD)))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{scores}: not a table of scores: {error}") from error
    return _shown(missed, "ascending", 1, dataset, pictures), _shown(doubted, "descending", 0, dataset, pictures)


def _shown(table: pa.Table, order: str, label: int, dataset: Dataset, pictures: Pictures) -> tuple[Picture, ...]:
    worst: list[dict[str, Any]] = (
        table.sort_by([("score", order), ("image_id", "ascending"), ("generator", "ascending")])
        .slice(0, IMAGES)
        .to_pylist()
    )
    found = rows_by_id(dataset, label, {row["image_id"] for row in worst}, {row["generator"] for row in worst})
    shown = [
        pictures.show(dataset, found[row["image_id"]], score=row["score"]) for row in worst if row["image_id"] in found
    ]
    return tuple(picture for picture in shown if picture is not None)
