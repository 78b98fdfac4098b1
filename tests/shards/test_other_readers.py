"""The format promise: other people's tools read the files as they are."""

import io
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import webdataset
from PIL import Image

from shards.index import build_index
from shards.statuses import Reason


@pytest.fixture
def indexed(workshop: Any, encoded: Any) -> Any:
    from shards.identifiers import real_image_id

    photo = encoded((9, 9, 9), format="JPEG")
    workshop.commit_reals("r", [photo])
    workshop.fake = workshop.commit(
        "u", reasons=[Reason.none, Reason.nsfw, Reason.none], source_image_id=real_image_id(photo), nsfw_score=0.25
    )
    build_index(workshop.root)
    return workshop


def test_pandas(indexed: Any, encoded: Any) -> None:
    rows = pd.read_parquet(indexed.root / "index" / "rows.parquet")
    assert rows["status"].value_counts().to_dict() == {"ok": 3, "flagged": 1}
    row = rows[(rows.label == 1) & (rows.status == "ok")].iloc[1]
    with (indexed.root / row.file).open("rb") as tar:
        tar.seek(int(row.offset))
        assert tar.read(int(row.length)) == encoded((2, 1, 2))


def test_pandas_reads_one_shard(indexed: Any) -> None:
    rows = pd.read_parquet(indexed.root / indexed.fake.rows.name, partitioning=None)
    assert list(rows["index"]) == [0, 1, 2] and list(rows["nsfw_score"]) == [0.25] * 3


def test_duckdb_runs_the_documented_queries(indexed: Any) -> None:
    document = (Path(__file__).parents[2] / "docs" / "dataset-format.md").read_text()
    counting, pairing, _ = (
        document.split("```sql\n")[1].split("```")[0].replace("DATASET", str(indexed.root)).split(";")
    )
    assert sorted(duckdb.sql(counting).fetchall()) == [("gen", "flagged", 1), ("gen", "ok", 2), ("photos", "ok", 1)]
    pairs = duckdb.sql(pairing).fetchall()
    assert len(pairs) == 2 and {pair[0] for pair in pairs} == {indexed.fake.images.name}


def test_python_of_the_document_runs(indexed: Any) -> None:
    document = (Path(__file__).parents[2] / "docs" / "dataset-format.md").read_text()
    code = document.split("```python\n")[1].split("```")[0].replace("DATASET", str(indexed.root))
    names: dict[str, Any] = {}
    exec(code, names)
    assert Image.open(io.BytesIO(names["image"])).size == (8, 8)


def test_webdataset(indexed: Any, encoded: Any) -> None:
    path = indexed.root / indexed.fake.images.name
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    rows = indexed.dataset.rows(generator="gen", status="ok").to_pylist()
    assert [sample["__key__"] for sample in samples] == [row["image_id"] for row in rows]
    assert [sample["png"] for sample in samples] == [encoded((0, 1, 2)), encoded((2, 1, 2))]


def test_tar_command(indexed: Any, tmp_path: Path) -> None:
    path = indexed.root / indexed.fake.images.name
    done = subprocess.run(["tar", "-xvf", path], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for name in done.stdout.split():
        assert Image.open(tmp_path / name).size == (8, 8)
    assert len(done.stdout.split()) == 2
