from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manifests.errors import InputError
from shards.identifiers import real_image_id
from shards.index import build_index, index_state
from shards.reader import ShardDamaged
from shards.schema import ROW_SCHEMA
from shards.statuses import Reason


@pytest.fixture
def paired(workshop: Any, encoded: Any) -> Any:
    """Three photos, the last flagged; fakes from each of them, from an unknown one and from none."""
    photos = [encoded((9, 9, 60 * number), format="JPEG") for number in range(3)]
    workshop.photos = [real_image_id(data) for data in photos]
    workshop.commit_reals("r", photos)
    for number, source in enumerate([*workshop.photos, "f" * 32, None]):
        workshop.commit(
            f"u{number}", first=3 * number, source_image_id=source, reasons=[Reason.none, Reason.nsfw, Reason.none]
        )
    return workshop


def test_index_is_the_committed_rows_and_pairs_follow_the_rule(paired: Any) -> None:
    paired.publish("litter", first=100, source_image_id=paired.photos[0])
    built = build_index(paired.root)
    assert (built.rows, built.pairs, built.written) == (18, 6, True)
    index = pq.read_table(paired.root / "index" / "rows.parquet")
    assert index.schema.equals(ROW_SCHEMA)
    assert index.to_pylist() == paired.dataset.rows().to_pylist()
    pairs = pq.read_table(paired.root / "pairs.parquet").to_pylist()
    expected = [
        {"fake_id": row["image_id"], "real_id": row["source_image_id"], "rule": "prompt_source_image"}
        for row in paired.dataset.rows().to_pylist()
        if row["label"] == 1 and row["status"] == "ok" and row["source_image_id"] in paired.photos
    ]
    assert pairs == expected and len(pairs) == 6
    assert [name for name in paired.files() if "index" in name or "pairs" in name] == [
        "index/rows.parquet",
        "pairs.parquet",
    ]


def test_pairs_need_an_ok_real(workshop: Any, row: Any) -> None:
    from shards.commits import UnitInfo
    from shards.writer import UnitWriter

    unit = workshop.unit("flagged real")
    with UnitWriter(workshop.root, workshop.spool, unit, "photos") as writer:
        writer.add(row(unit, 0, Reason.nsfw, "photos", label=0, image_id="a" * 32, kind="real"))
        receipt = writer.publish()
    workshop.record(UnitInfo(unit=unit, generator="photos", label=0, first=0, count=1), receipt)
    workshop.commit("u", source_image_id="a" * 32)
    assert build_index(workshop.root).pairs == 0


def test_building_again_does_nothing_until_something_is_committed(paired: Any) -> None:
    assert not index_state(paired.root).exists
    build_index(paired.root)
    path = paired.root / "index" / "rows.parquet"
    before, content = path.stat(), path.read_bytes()
    assert str(build_index(paired.root)).endswith("(already current)")
    assert path.stat() == before and index_state(paired.root).current
    paired.commit("new", first=200, reasons=[Reason.device_oom])
    assert index_state(paired.root).stale
    assert build_index(paired.root).rows == 19 and index_state(paired.root).current
    paired.commit("new", first=200, generation=1)
    assert index_state(paired.root).stale
    assert build_index(paired.root).rows == 18 + 3
    assert path.read_bytes() != content


def test_equal_commits_give_an_equal_index(paired: Any) -> None:
    build_index(paired.root)
    files = [paired.root / "index" / "rows.parquet", paired.root / "pairs.parquet"]
    before = [path.read_bytes() for path in files]
    files[0].unlink()
    assert not index_state(paired.root).current
    files[1].write_bytes(b"damaged")
    assert build_index(paired.root).written
    assert [path.read_bytes() for path in files] == before


def test_the_old_index_stays_when_a_shard_cannot_be_read(paired: Any) -> None:
    build_index(paired.root)
    before = (paired.root / "index" / "rows.parquet").read_bytes()
    commit = paired.commit("new", first=200)
    (paired.root / commit.rows.name).unlink()
    with pytest.raises(ShardDamaged, match=commit.rows.name):
        build_index(paired.root)
    assert (paired.root / "index" / "rows.parquet").read_bytes() == before
    assert not [name for name in paired.files() if name.endswith(".tmp")]


def test_empty_dataset_has_an_empty_index(workshop: Any) -> None:
    assert build_index(workshop.root).rows == 0
    assert pq.read_table(workshop.root / "index" / "rows.parquet").schema.equals(ROW_SCHEMA)
    assert pq.read_table(workshop.root / "pairs.parquet").num_rows == 0


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset here"):
        build_index(tmp_path)
