from collections import Counter
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shards.audit.counts import OUTCOMES, count_lines, count_rows, count_table
from shards.schema import ROW_SCHEMA, empty_row
from shards.statuses import Reason


def test_counts_of_a_dataset(workshop: Any, encoded: Any) -> None:
    workshop.commit("a", reasons=[Reason.none, Reason.nsfw, Reason.device_oom], family="SD 1.x", license="mit")
    workshop.commit("b", first=3, reasons=[Reason.none, Reason.constant], generator="gen2")
    workshop.commit("c", first=5, reasons=[Reason.worker_lost], generator="gen2")
    workshop.commit("c", first=5, reasons=[Reason.none], generator="gen2", generation=1)
    workshop.commit_reals("r", [encoded((1, 1, 1), format="JPEG")])
    counts = count_rows(workshop.root)
    assert [counts[name] for name in ("units", "targets", "committed_draws", "draws")] == [4, 7, 7, 7]
    assert [counts[name] for name in OUTCOMES] == [4, 1, 1, 1] and counts["reconciled"] is True
    assert counts["status"] == {"degenerate": 1, "flagged": 1, "ok": 4, "oom": 1}
    assert counts["reason"] == {"constant": 1, "device_oom": 1, "none": 4, "nsfw": 1}
    assert counts["generator"]["gen2"] == {"draws": 3, "ok": 2, "flagged": 0, "degenerate": 1, "failed": 0}
    assert counts["family"]["SD 1.x"] == {"draws": 3, "ok": 1, "flagged": 1, "degenerate": 0, "failed": 1}
    assert counts["family"]["not recorded"]["draws"] == 4
    assert counts["label"]["real"] == {"draws": 1, "ok": 1, "flagged": 0, "degenerate": 0, "failed": 0}
    assert counts["license"]["mit"]["draws"] == 3
    assert {name: numbers["draws"] for name, numbers in counts["format"].items()} == {"JPEG": 1, "PNG": 5}
    assert {name: numbers["draws"] for name, numbers in counts["size"].items()} == {"8x8": 6}


def test_lines_for_the_report(workshop: Any) -> None:
    workshop.commit("a", reasons=[Reason.none, Reason.nsfw])
    workshop.commit("b", reasons=[Reason.none] * 3, generator="gen2")
    lines = count_lines(count_rows(workshop.root))
    assert lines[0] == {"group": "all", "value": "", "draws": 5, "ok": 4, "flagged": 1, "degenerate": 0, "failed": 0}
    assert [(line["value"], line["draws"]) for line in lines if line["group"] == "generator"] == [
        ("gen2", 3),
        ("gen", 2),
    ]


def test_a_commit_that_disagrees_with_its_rows_does_not_reconcile(workshop: Any) -> None:
    commit = workshop.commit("a", reasons=[Reason.none, Reason.nsfw])
    path = workshop.root / commit.file
    path.write_text(path.read_text().replace('"flagged": 1', '"flagged": 2'))
    assert count_rows(workshop.root)["reconciled"] is False


def test_a_status_off_the_list_does_not_reconcile() -> None:
    table = pa.Table.from_pylist([empty_row() | {"status": "odd", "reason": "none", "label": 1}], schema=ROW_SCHEMA)
    assert count_table(table)["reconciled"] is False


drawn = st.tuples(
    st.sampled_from(Reason),
    st.sampled_from(["g1", "g2"]),
    st.none() | st.sampled_from(["f1", "f2"]),
    st.integers(0, 1),
    st.sampled_from([(8, 8), (16, 8)]),
)


@given(st.lists(drawn, max_size=60))
def test_counts_reconcile_with_a_plain_recount(draws: list[Any]) -> None:
    rows = [
        empty_row()
        | {
            "status": str(reason.status),
            "reason": str(reason),
            "generator": generator,
            "family": family,
            "label": label,
        }
        | ({} if reason.status.failed else {"width": size[0], "height": size[1], "format": "PNG"})
        for reason, generator, family, label, size in draws
    ]
    counts = count_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
    outcomes = [str(reason.status) if not reason.status.failed else "failed" for reason, *_ in draws]
    assert counts["reconciled"] and sum(counts[name] for name in OUTCOMES) == counts["draws"] == len(draws)
    assert {name: counts[name] for name in OUTCOMES} == {name: outcomes.count(name) for name in OUTCOMES}
    assert counts["reason"] == Counter(row["reason"] for row in rows)
    assert counts["status"] == Counter(row["status"] for row in rows)
    for group, column in (("generator", "generator"), ("family", "family")):
        assert {value: numbers["draws"] for value, numbers in counts[group].items()} == Counter(
            row[column] or "not recorded" for row in rows
        )
        for value, numbers in counts[group].items():
            mine = [
                outcome for row, outcome in zip(rows, outcomes, strict=True) if (row[column] or "not recorded") == value
            ]
            assert {name: numbers[name] for name in OUTCOMES} == {name: mine.count(name) for name in OUTCOMES}
    made = [row for row in rows if row["width"]]
    assert sum(numbers["draws"] for numbers in counts["size"].values()) == len(made)


def test_empty_dataset_reconciles(workshop: Any) -> None:
    counts = count_rows(workshop.root)
    assert counts["draws"] == 0 and counts["reconciled"] and counts["generator"] == {}
