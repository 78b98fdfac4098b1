"""Is the disturbed run the undisturbed one, image by image, row by row, byte by byte?

Three kinds of unit may differ, each in one way only:

* a unit that was given up and tried again later is of a higher generation, which its rows tell: its images are equal
  to the byte, its rows in all other columns;
* a unit with an OOM-halved batch made other images, which `dataset regenerate --verify` makes again to the byte;
* a unit in which a pipeline gave NaN just this once has those draws as degenerate and took from its reserve instead:
  everything else of it is equal, but that a reserve draw of a class-conditional model has the class that is wanted
  then. Such an image must be made again, to the byte.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from chaos.world import UNIT_IMAGES, World

from pipeline.config import SampleConfig
from shards.commits import Commit
from shards.dataset import Dataset

Row = dict[str, Any]
PLACES = frozenset({"batch", "slot", "file", "offset"})
"""Columns that tell where a draw came to lie; a draw that is replaced moves those after it."""


@dataclass
class Comparison:
    """How many units are equal in which way, and what should not be."""

    equal: int = 0
    retried: int = 0
    halved: int = 0
    nan_once: int = 0
    images: int = 0
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.equal} units equal to the byte, {self.retried} of a later generation with equal images, "
            f"{self.nan_once} with draws that were NaN once, {self.halved} with halved batches made again and equal; "
            f"{self.images} images"
        )


def compare(world: World, run: Path, nan_seeds: Collection[int]) -> Comparison:
    """Compare the disturbed run with the reference; `nan_seeds` are draws that were NaN in it alone."""
    found = Comparison()
    reference, disturbed = (Dataset.open(path / "dataset") for path in (world.reference, run))
    wanted, had = reference.commits(), disturbed.commits()
    if wanted.keys() != had.keys():
        found.problems.append(f"units missing: {wanted.keys() - had.keys()}, too many: {had.keys() - wanted.keys()}")
    wanted_rows, had_rows = _rows_by_unit(reference), _rows_by_unit(disturbed)
    for unit in sorted(wanted.keys() & had.keys()):
        found.images += sum(row["file"] is not None for row in had_rows[unit])
        problem = _unit(world, run, found, (wanted[unit], wanted_rows[unit]), (had[unit], had_rows[unit]), nan_seeds)
        if problem is not None:
            found.problems.append(f"unit {unit} of {had[unit].generator}: {problem}")
    return found


def _unit(
    world: World,
    run: Path,
    found: Comparison,
    wanted: tuple[Commit, list[Row]],
    had: tuple[Commit, list[Row]],
    nan_seeds: Collection[int],
) -> str | None:
    """Compare one unit's (commit, rows); return what is wrong with it."""
    if wanted[0].files == had[0].files:
        found.equal += 1
        return None
    if wanted[0].images == had[0].images and _without(wanted[1], {"generation"}) == _without(had[1], {"generation"}):
        found.retried += 1
        return None if had[0].generation > 0 else "other rows for equal images"
    if _batch_sizes(wanted[1]) != _batch_sizes(had[1]):
        found.halved += 1
        return _halved(world, run, wanted[1], had[1])
    found.nan_once += 1
    return _nan_once(world, run, wanted[1], had[1], nan_seeds)


def _halved(world: World, run: Path, wanted: list[Row], had: list[Row]) -> str | None:
    """Check the plan's part of the rows, and make one image of each batch again."""
    if min(_batch_sizes(had)) >= min(_batch_sizes(wanted)):
        return f"batches of {_batch_sizes(had)} instead of {_batch_sizes(wanted)}"
    plan = ("image_id", "index", "seed", "prompt", "prompt_id", "unit")
    targets = [[tuple(row[column] for column in plan) for row in rows if row["index"] >= 0] for rows in (wanted, had)]
    if targets[0] != targets[1]:
        return "other draws than planned"
    one_of_each = {row["batch"]: row["image_id"] for row in had if row["file"] is not None}
    return _made_again(world, run, one_of_each.values())


def _made_again(world: World, run: Path, image_ids: Iterable[str]) -> str | None:
    where = ("--endpoint", world.hub.endpoint, "--cache", str(world.root / "cache" / "models"))
    for image_id in image_ids:
        again = world.run("dataset", "regenerate", run / "dataset", image_id, "--verify", *where)
        if again.returncode != 0:
            return f"{image_id} is not made again: {again.stdout}{again.stderr}"
    return None


def _nan_once(world: World, run: Path, wanted: list[Row], had: list[Row], nan_seeds: Collection[int]) -> str | None:
    """Check that only draws of struck batches became NaN, and that nothing else changed."""
    before = {row["image_id"]: row for row in _without(wanted, PLACES)}
    now = {row["image_id"]: row for row in _without(had, PLACES)}
    if gone := before.keys() - now.keys():
        return f"draws are missing: {gone}"
    lost, other_class = set(), []
    for image_id, row in now.items():
        if row == before.get(image_id):
            continue
        if row["reason"] == "nan" and row["seed"] in nan_seeds:
            lost.add(image_id)
        elif row["index"] < 0 and image_id in before and row["class_label"] != before[image_id]["class_label"]:
            other_class.append(image_id)
        elif image_id in before:
            changed = [name for name, value in row.items() if value != before[image_id][name]]
            return f"{image_id} differs in {changed}: {row['status']} ({row['reason']})"
    everything = UNIT_IMAGES + math.ceil(UNIT_IMAGES * SampleConfig().reserve_fraction)
    if not lost or len(now) <= min(len(before), everything - 1):
        return f"{len(lost)} draws were NaN once, and there are {len(now)} draws instead of {len(before)}"
    return _made_again(world, run, other_class)


def failures(run: Path) -> dict[str, Counter[str]]:
    """Return unit -> draws by reason, of the units that failed."""
    commits = Dataset.open(run / "dataset").commits().values()
    return {commit.unit: Counter(commit.reasons) for commit in commits if not commit.reasons.keys() <= _MADE}


_MADE = {"none", "nsfw", "nan", "constant", "near_constant", "repeated"}
"""Reasons of draws that made an image."""


def _rows_by_unit(dataset: Dataset) -> dict[str, list[Row]]:
    by_unit: dict[str, list[Row]] = {}
    rows = dataset.rows()
    for row in rows.take(pc.sort_indices(rows, [("unit", "ascending"), ("index", "descending")])).to_pylist():
        by_unit.setdefault(row["unit"], []).append(row)
    return by_unit


def _without(rows: list[Row], columns: Collection[str]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def _batch_sizes(rows: list[Row]) -> set[int]:
    return {json.loads(row["call_kwargs"])["batch_size"] for row in rows if row["call_kwargs"]}
