"""Which committed images a detector is trained or evaluated on."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from manifests.errors import InputError
from manifests.frozen import FrozenModel
from shards.dataset import Dataset
from shards.identifiers import content_hash

COLUMNS = (
    "image_id",
    "label",
    "generator",
    "split",
    "source_image_id",
    "file",
    "offset",
    "length",
)


class Selection(FrozenModel):
    """Filters over committed `ok` rows; None means no filter. Filters are joined by "and"."""

    split: str | None = Field(default=None, description="value of the column `split`, for reals and fakes alike")
    generators: tuple[str, ...] | None = Field(default=None, description="generators whose fakes are taken")
    exclude_generators: tuple[str, ...] = Field(default=(), description="generators whose fakes are left out")
    real_sources: tuple[str, ...] | None = Field(default=None, description="real sources whose reals are taken")
    labels: tuple[int, ...] = Field(default=(0, 1), description="0 real, 1 fake")


def select_rows(root: Path, selection: Selection) -> pa.Table:
    """Return the selected rows with `COLUMNS` and `photograph`, ordered by image id: no order of commits shows through.

    Raises:
        InputError: `root` is no dataset, a filter names something that the dataset does not have, or nothing is left.
    """
    rows = committed_rows(root)
    split, generators, labels = rows["split"], rows["generator"], rows["label"]
    is_fake = pc.equal(labels, 1)
    _check_known(root, "split", () if selection.split is None else (selection.split,), _values(split))
    fake_names, real_names = _values(generators.filter(is_fake)), _values(generators.filter(pc.invert(is_fake)))
    _check_known(root, "generators", (selection.generators or ()) + selection.exclude_generators, fake_names)
    _check_known(root, "real_sources", selection.real_sources or (), real_names)

    keep = pc.is_in(labels, value_set=pa.array(selection.labels, pa.int8()))
    if selection.split is not None:
        keep = pc.and_(keep, pc.fill_null(pc.equal(split, selection.split), False))
    if selection.generators is not None:
        keep = pc.and_(keep, pc.or_(pc.invert(is_fake), _among(generators, selection.generators)))
    if selection.exclude_generators:
        keep = pc.and_(keep, pc.invert(pc.and_(is_fake, _among(generators, selection.exclude_generators))))
    if selection.real_sources is not None:
        keep = pc.and_(keep, pc.or_(is_fake, _among(generators, selection.real_sources)))
    selected = rows.filter(keep)
    if selected.num_rows == 0:
        raise InputError(f"dataset {root}: no image matches {selection.model_dump(exclude_defaults=True)}")
    return selected


def committed_rows(root: Path) -> pa.Table:
    """Return every committed `ok` row with `COLUMNS` and `photograph`, ordered by image id, generator, file and offset.

    `photograph` groups the images that share content, see `photographs`.
    """
    table = Dataset.open(root).rows(columns=COLUMNS, status="ok")
    table = table.sort_by([(name, "ascending") for name in ("image_id", "generator", "file", "offset")])
    return table.append_column("photograph", pa.array(photographs(table), pa.string()))


def require_both_classes(root: Path, rows: pa.Table, purpose: str) -> None:
    """Raise InputError when `rows` holds only reals or only fakes, with the splits where the other class is."""
    counts = Counter(rows["label"].to_pylist())
    if counts[0] and counts[1]:
        return
    missing = "real" if not counts[0] else "fake"
    everything = committed_rows(root)
    others = everything.filter(pc.equal(everything["label"], 0 if missing == "real" else 1))
    splits = Counter(str(split) for split in others["split"].to_pylist())
    where = ", ".join(f"{split}: {count}" for split, count in sorted(splits.items())) or "none at all"
    raise InputError(
        f"dataset {root}: {purpose} needs both classes, but the selection has no {missing} images "
        f"({missing} images by split: {where})"
    )


def photographs(rows: pa.Table) -> list[str]:
    """Return the id of the source photograph of each row.

    A fake's photograph is its `source_image_id`; a real's is its own `source_image_id` where it was cut from a larger
    photograph that has an id, else its `image_id`. A fake whose source real is itself a cut follows it to the
    photograph. A fake without a source is a group of its own. `rows` must hold the reals that the fakes come from.
    """
    image_ids = rows["image_id"].to_pylist()
    sources = rows["source_image_id"].to_pylist()
    labels = rows["label"].to_pylist()
    cut_from = {
        image: source
        for image, source, label in zip(image_ids, sources, labels, strict=True)
        if label == 0 and source is not None
    }
    return [
        image if source is None else cut_from.get(source, source)
        for image, source in zip(image_ids, sources, strict=True)
    ]


def dataset_fingerprint(root: Path) -> str:
    """Return 32 hex digits that change exactly when the committed files do: a hash of every winning commit's hashes."""
    commits = Dataset.open(root).commits().values()
    return content_hash(
        sorted(
            (commit.unit, commit.generation, commit.images.sha256 if commit.images else None, commit.rows.sha256)
            for commit in commits
        )
    )


def selection_fingerprint(rows: pa.Table) -> str:
    """Return 32 hex digits of which images are in `rows`, their labels, generators and sources."""
    names = ("image_id", "label", "generator", "source_image_id")
    return content_hash([rows[name].to_pylist() for name in names])


def _among(column: pa.ChunkedArray, names: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(names, pa.string()))


def _values(column: pa.ChunkedArray) -> list[str]:
    return sorted(value for value in pc.unique(column).to_pylist() if value is not None)


def _check_known(root: Path, key: str, wanted: tuple[str, ...], known: list[str]) -> None:
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise InputError(f"dataset {root}: {key} {', '.join(unknown)} not in it; it has: {', '.join(known) or 'none'}")
