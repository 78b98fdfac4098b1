"""Reconciled counts: what became of every draw, and what the dataset is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.dataset import Dataset
from shards.statuses import Status

OUTCOMES = ("ok", "flagged", "degenerate", "failed")
"""The four ways in which a draw can end; every status is one of them. They sum to the draws."""

_GROUPS = ("generator", "family", "label", "license", "format", "size")
_COLUMNS = ["status", "reason", "label", "generator", "family", "license", "format", "width", "height"]
_NOT_RECORDED = "not recorded"


def count_rows(root: Path) -> dict[str, Any]:
    """Counts over all committed rows of a dataset; see `count_table`.

    Adds `units`, `targets` (images wanted) and `committed_draws` (draws by the commits' own word), and holds
    `reconciled` to the last too. Raises InputError when this is no dataset, ShardDamaged when rows cannot be read.
    """
    dataset = Dataset.open(root)
    commits = dataset.commits().values()
    counts = count_table(dataset.rows(columns=_COLUMNS))
    committed = sum(commit.draws for commit in commits)
    counts |= {"units": len(commits), "targets": sum(commit.count for commit in commits), "committed_draws": committed}
    counts["reconciled"] = counts["reconciled"] and committed == counts["draws"]
    return counts


def count_table(rows: pa.Table) -> dict[str, Any]:
    """Plain dicts of counts. `rows` needs the columns status, reason, label, generator, family, license, format, width
    and height.

    `draws`, `ok`, `flagged`, `degenerate`, `failed`: whole numbers, the last four sum to the first when `reconciled`.
    `status`, `reason`: value -> draws. `generator`, `family`, `label` (real, fake), `license`: value -> the same five
    numbers. `format`, `size` ("640x480"): value -> the same, over draws that made an image. A null is "not recorded".
    """
    outcome = _outcome(rows["status"])
    totals = _tally(outcome)
    table = pa.table(
        {
            "outcome": outcome,
            "label": pc.if_else(pc.equal(rows["label"], 1), "fake", "real"),
            "size": _sizes(rows),
            **{name: rows[name] for name in ("status", "reason", "generator", "family", "license", "format")},
        }
    )
    made = table.filter(pc.is_valid(table["size"]))
    return {
        **totals,
        "reconciled": sum(totals[name] for name in OUTCOMES) == totals["draws"],
        "status": _values(table["status"]),
        "reason": _values(table["reason"]),
        **{name: _by(made if name in ("format", "size") else table, name) for name in _GROUPS},
    }


def count_lines(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same numbers as a flat table for a report: one dict per line with `group`, `value` and the five numbers.

    The first line is the whole dataset (group "all"). Values of a group come largest first.
    """
    lines = [{"group": "all", "value": "", **{name: counts[name] for name in ("draws", *OUTCOMES)}}]
    for group in _GROUPS:
        by_size = sorted(counts[group].items(), key=lambda item: (-item[1]["draws"], item[0]))
        lines.extend({"group": group, "value": value, **numbers} for value, numbers in by_size)
    return lines


def _outcome(status: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pa.array([item.value for item in Status], pa.string())
    outcome = pa.array(["failed" if item.failed else item.value for item in Status], pa.string())
    return pc.take(outcome, pc.index_in(status, value_set=known))  # a status off the list stays null: not reconciled


def _sizes(rows: pa.Table) -> pa.ChunkedArray:
    width, height = (pc.cast(rows[name], pa.string()) for name in ("width", "height"))
    return pc.binary_join_element_wise(width, height, "x")  # null when there is no image


def _values(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column).to_pylist()
    named = {_NOT_RECORDED if item["values"] is None else item["values"]: item["counts"] for item in counted}
    return dict(sorted(named.items()))


def _by(table: pa.Table, name: str) -> dict[str, dict[str, int]]:
    grouped = table.group_by([name, "outcome"]).aggregate([([], "count_all")]).to_pylist()
    counts: dict[str, dict[str, int]] = {}
    for line in grouped:
        value = _NOT_RECORDED if line[name] is None else line[name]
        numbers = counts.setdefault(value, dict.fromkeys(("draws", *OUTCOMES), 0))
        numbers["draws"] += line["count_all"]
        if line["outcome"] is not None:
            numbers[line["outcome"]] += line["count_all"]
    return dict(sorted(counts.items()))


def _tally(outcome: pa.ChunkedArray) -> dict[str, int]:
    counted = _values(outcome)
    return {"draws": len(outcome), **{name: counted.get(name, 0) for name in OUTCOMES}}
