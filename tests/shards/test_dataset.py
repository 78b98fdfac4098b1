import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from manifests.errors import InputError
from shards.dataset import Dataset, IdentityChanged
from shards.reader import ShardDamaged
from shards.schema import ROW_SCHEMA
from shards.statuses import Reason


def test_created_dataset_is_exactly_this(tmp_path: Path) -> None:
    Dataset.create(tmp_path / "d", "demo", {"dtype": "float32", "size": (8, 8)}, licence_notes="toy")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "d", "d/commits", "d/dataset.json", "d/images", "d/rows",
    ]  # fmt: skip
    assert json.loads((tmp_path / "d/dataset.json").read_text()) == {
        "schema_version": 1,
        "name": "demo",
        "licence_notes": "toy",
        "identity": {"dtype": "float32", "size": [8, 8]},
        "snapshots": {},
    }
    opened = Dataset.open(tmp_path / "d")
    assert (opened.name, opened.identity) == ("demo", {"dtype": "float32", "size": [8, 8]})
    opened.check_identity({"size": [8, 8], "dtype": "float32"})


def test_creating_twice_is_refused_and_changes_nothing(workshop: Any) -> None:
    before = (workshop.root / "dataset.json").read_bytes()
    with pytest.raises(InputError, match=r"dataset\.json: already there"):
        Dataset.create(workshop.root, "other", {})
    assert (workshop.root / "dataset.json").read_bytes() == before and workshop.files() == ["dataset.json"]


def test_of_processes_that_create_one_dataset_exactly_one_succeeds(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path; from manifests.errors import InputError; from shards.dataset import Dataset
for number in range(40):
    try: Dataset.create(Path(sys.argv[1]) / str(number), sys.argv[2], {}); print(number)
    except InputError: pass
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who], stdout=subprocess.PIPE, text=True)
        for who in "ab"
    ]
    won = {who: racer.communicate()[0].split() for who, racer in zip("ab", racers, strict=True)}
    assert sorted(map(int, won["a"] + won["b"])) == list(range(40))
    assert all(Dataset.open(tmp_path / number).name == who for who, numbers in won.items() for number in numbers)


def test_changed_identity_names_every_key_with_both_values(tmp_path: Path) -> None:
    old = {"dtype": "float32", "checker": {"repo": "a/b", "revision": "1"}, "cpu_threads": 1}
    dataset = Dataset.create(tmp_path / "d", "demo", old)
    with pytest.raises(IdentityChanged) as caught:
        dataset.check_identity({"dtype": "float16", "checker": {"repo": "a/b", "revision": "2"}, "keep_flagged": True})
    message = str(caught.value)
    for change in (
        'dtype: "float32" -> "float16"',
        'checker.revision: "1" -> "2"',
        "cpu_threads: 1 -> not set",
        "keep_flagged: not set -> true",
    ):
        assert change in message
    assert "repo" not in message and isinstance(caught.value, InputError)


def test_identity_tells_equal_looking_values_apart(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", "demo", {"a": 1, "b": "1", "c": None, "d": {}})
    for other in ({"a": True}, {"b": 1}, {"c": "null"}, {"d": {"e": 1}}):
        with pytest.raises(IdentityChanged):
            dataset.check_identity(dataset.identity | other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 2, "name": "x", "identity": {}}', r"schema_version is 2; this release reads 1"),
        ('{"name": "x", "identity": {}}', "schema_version is None"),
        ("[]", "schema_version is None"),
        ('{"schema_version": 1, "name"', "damaged"),
        ('{"schema_version": 1, "identity": {}}', "name: Field required"),
        ('{"schema_version": 1, "name": "x", "identity": {}, "extra": 1}', "extra: Extra inputs"),
        ("\xff", "damaged"),
    ],
)
def test_wrong_manifest_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        Dataset.open(tmp_path)
    assert str(tmp_path / "dataset.json") in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/data", "gs://b/d", "az://c/d", "hf://datasets/o/n", "file:///tmp/x"])
def test_urls_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (Dataset.open, lambda root: Dataset.create(root, "x", {})):
        for root in (url, Path(url)):
            with pytest.raises(InputError, match="object stores and other URLs"):
                make(root)
    assert list(tmp_path.iterdir()) == []


def test_no_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InputError, match=f"{path}: no dataset here"):
            Dataset.open(path)
    with pytest.raises(InputError, match="is a file, but a folder is needed"):
        Dataset.create(tmp_path / "file" / "d", "x", {})


def test_snapshots_are_recorded_once(workshop: Any) -> None:
    workshop.dataset.add_snapshot("2025-01", {"rows": 3})
    workshop.dataset.add_snapshot("2025-01", {"rows": 3})
    Dataset.open(workshop.root).add_snapshot("2025-02", {"rows": 4})
    assert Dataset.open(workshop.root).manifest.snapshots == {"2025-01": {"rows": 3}, "2025-02": {"rows": 4}}
    with pytest.raises(InputError, match="'2025-01' is already recorded"):
        workshop.dataset.add_snapshot("2025-01", {"rows": 5})
    assert workshop.files() == ["dataset.json"]


@pytest.fixture
def filled(workshop: Any, encoded: Any) -> Any:
    workshop.commit("b", generator="b", first=0)
    workshop.commit("a2", generator="a", first=3, reasons=[Reason.none, Reason.nsfw])
    workshop.commit("a1", generator="a", first=0, reasons=[Reason.none, Reason.device_oom, Reason.none])
    workshop.commit_reals("r", [encoded((9, 9, 60 * number), format="JPEG") for number in range(4)])
    workshop.publish("litter", generator="a", first=50)
    return workshop


def test_rows_are_the_committed_ones_in_a_fixed_order(filled: Any) -> None:
    table = Dataset.open(filled.root).rows()
    assert table.schema.equals(ROW_SCHEMA)
    assert [(r["generator"], r["index"]) for r in table.to_pylist()] == [
        *(("photos", index) for index in range(4)),
        *(("a", index) for index in range(5)),
        *(("b", index) for index in range(3)),
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"label": 0}, 4),
        ({"label": 1}, 8),
        ({"generator": "a"}, 5),
        ({"generator": ["a", "photos"]}, 9),
        ({"status": "ok"}, 10),
        ({"status": {"flagged", "oom"}}, 2),
        ({"generator": "a", "status": "ok", "label": 1}, 3),
        ({"where": pc.field("index") == 2}, 3),
        ({"where": pc.field("index") == 2, "status": "ok", "label": 1}, 2),
        ({"generator": "nobody"}, 0),
        ({"status": "gone"}, 0),
    ],
)
def test_filters(filled: Any, filters: dict[str, Any], expected: int) -> None:
    table = filled.dataset.rows(columns=["image_id", "label"], **filters)
    assert table.num_rows == expected
    assert table.schema.names == ["image_id", "label"] and table.schema.field("label") == ROW_SCHEMA.field("label")


def test_filters_on_the_commit_open_no_other_file(filled: Any) -> None:
    for commit in filled.dataset.commits().values():
        if commit.generator != "b":
            (filled.root / commit.rows.name).unlink()
    assert filled.dataset.rows(generator="b").num_rows == 3
    with pytest.raises(ShardDamaged, match=r"rows/.*: missing; run `commforge dataset verify"):
        filled.dataset.rows()


def test_unreadable_rows_file_is_named(filled: Any) -> None:
    damaged = next(commit for commit in filled.dataset.commits().values() if commit.generator == "b")
    (filled.root / damaged.rows.name).write_bytes(b"PAR1 no")
    with pytest.raises(ShardDamaged, match=damaged.rows.name):
        filled.dataset.rows()


def test_columns_come_in_the_order_asked_for(filled: Any) -> None:
    names = ["index", "status", "image_id"]
    everything = filled.dataset.rows(status="ok")
    assert filled.dataset.rows(columns=names, status="ok").equals(everything.select(names))
    assert filled.dataset.rows(columns=["prompt"], status="ok").schema.names == ["prompt"]


def test_rows_file_with_other_columns_is_named(filled: Any) -> None:
    damaged = next(commit for commit in filled.dataset.commits().values() if commit.generator == "b")
    path = filled.root / damaged.rows.name
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["phash"]), path)
    assert filled.dataset.rows(columns=["prompt"]).num_rows == 12
    with pytest.raises(ShardDamaged, match=damaged.rows.name):
        filled.dataset.rows()


def test_unknown_column_is_refused(filled: Any) -> None:
    with pytest.raises(InputError, match="column 'colour' does not exist; the columns are image_id"):
        filled.dataset.rows(columns=["colour"])


def test_images_one_by_one_and_in_order(filled: Any, encoded: Any) -> None:
    rows = filled.dataset.rows().to_pylist()
    pairs = list(filled.dataset.images(rows, verify=True))
    assert len(pairs) == 10 and [row for row, _ in pairs] == [row for row in rows if row["file"] is not None]
    for row, data in pairs:
        assert filled.dataset.image_bytes(row, verify=True) == data
        expected = (
            encoded((9, 9, 60 * row["index"]), format="JPEG") if row["label"] == 0 else encoded((row["index"], 1, 2))
        )
        assert data == expected


def test_damaged_images_are_named(filled: Any) -> None:
    dataset = filled.dataset
    row = dataset.rows(generator="b", status="ok").to_pylist()[1]
    path = filled.root / row["file"]
    content = bytearray(path.read_bytes())
    content[row["offset"] + 20] ^= 1
    path.write_bytes(content)
    assert len(dataset.image_bytes(row)) == row["length"]
    for read in (lambda: dataset.image_bytes(row, verify=True), lambda: list(dataset.images([row], verify=True))):
        with pytest.raises(ShardDamaged, match=f"{row['file']}: the bytes of image {row['image_id']}"):
            read()
    path.write_bytes(content[: row["offset"] + 10])
    with pytest.raises(ShardDamaged, match="ends before image"):
        dataset.image_bytes(row)
    path.unlink()
    for read in (lambda: dataset.image_bytes(row), lambda: list(dataset.images([row]))):
        with pytest.raises(ShardDamaged, match="missing"):
            read()


def test_rows_that_point_outside_are_refused(filled: Any) -> None:
    row = filled.dataset.rows(generator="b", status="ok").to_pylist()[0]
    for name in ("../dataset.json", "/etc/passwd", "images/../../x", ""):
        with pytest.raises(ShardDamaged, match="outside the dataset"):
            filled.dataset.image_bytes(row | {"file": name})
    with pytest.raises(InputError, match="no bytes are stored"):
        filled.dataset.image_bytes(row | {"file": None})


def test_a_setting_that_is_younger_than_the_dataset_was_at_its_default(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "old", "old", {"dtype": "float32", "checker": None})
    now = {"dtype": "float32", "checker": None, "compile": False}
    defaults = now | {"checker": {"repo": "a/b"}}
    dataset.check_identity(now, defaults)
    with pytest.raises(IdentityChanged, match="compile: false -> true"):
        dataset.check_identity(now | {"compile": True}, defaults)
    with pytest.raises(IdentityChanged, match="checker"):
        dataset.check_identity(now | {"checker": {"repo": "a/b"}}, defaults)
    with pytest.raises(IdentityChanged, match="compile: not set -> false"):
        dataset.check_identity(now)
