"""Reading a catalog back, and what is said of a file that is none."""

import gc
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawlers.catalog import eligible_generators, read_catalog, read_columns
from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.generator import BasePipeline, SamplingParams, WeightFile


def row(rank: int, **fields: Any) -> CatalogRow:
    given = {
        "snapshot": "0001-abc",
        "rank": rank,
        "repo_id": f"a/model-{rank}",
        "generator": f"a--model-{rank}",
        "revision": "1" * 40,
        "eligible": True,
        "reason": "ok",
        "kind": "text-to-image",
        "architecture": "LatentDiff",
        "family": "sd1",
    }
    return CatalogRow.model_validate(given | fields)


def write(path: Path, rows: list[CatalogRow]) -> Path:
    pq.write_table(pa.Table.from_pylist([r.to_record() for r in rows], schema=CATALOG_SCHEMA), path)
    return path


def test_rows_and_generators_come_back(tmp_path: Path) -> None:
    rows = [
        row(2, params=SamplingParams(steps=3, call_kwargs={"eta": 0.1}, sources={"steps": "card", "eta": "manifest"})),
        row(1, files=(WeightFile(path="unet/model.safetensors", size=3, sha256="0" * 64),), weight_bytes=3),
        row(3, eligible=False, reason="gated", kind=None),
    ]
    path = write(tmp_path / "catalog.parquet", rows)
    assert read_catalog(path) == read_catalog(tmp_path) == rows
    assert [generator.name for generator in eligible_generators(path)] == ["a--model-1", "a--model-2"]
    assert eligible_generators(path)[1].params == rows[0].params


def test_how_files_are_stored_comes_back_and_older_catalogs_do_not_say_it(tmp_path: Path) -> None:
    plain = WeightFile(path="unet/model.safetensors", size=3, sha256="0" * 64)
    files = (plain.model_copy(update={"dtype": "F32"}), plain)
    told = row(1, packaging="lora", files=files, base=BasePipeline(repo_id="a/base", files=files))
    (read,) = read_catalog(write(tmp_path / "catalog.parquet", [told]))
    assert read == told and read.base is not None
    assert [file.dtype for file in (*read.files, *read.base.files)] == ["F32", None] * 2
    # What a crawl under way has in its journal, and as versions without the field wrote it.
    assert CatalogRow.model_validate(told.model_dump(mode="json")) == told
    older = row(1, files=(plain,)).to_record()
    assert json.loads(older["files"]) == [{"path": plain.path, "size": 3, "sha256": "0" * 64}]
    assert CatalogRow.from_record(older).files == (plain,)


def broken_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 and then nothing")


def another_table(path: Path) -> None:
    pq.write_table(pa.table({"repo_id": ["a/b"], "colour": ["red"]}), path)


def other_types(path: Path) -> None:
    table = pa.Table.from_pylist([row(1).to_record()], schema=CATALOG_SCHEMA)
    pq.write_table(table.set_column(1, "rank", pa.array([1.0])), path)


def broken_json(path: Path) -> None:
    record = row(1).to_record() | {"params": "{oops"}
    pq.write_table(pa.Table.from_pylist([record], schema=CATALOG_SCHEMA), path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such catalog"),
        (broken_parquet, "cannot be read as Parquet"),
        (another_table, "unknown columns ['colour']"),
        (other_types, "other column types"),
        (broken_json, "row 1 ('a/model-1')"),
    ],
)
def test_a_broken_file_is_the_users_error(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "catalog.parquet"
    make(path)
    with pytest.raises(InputError) as caught:
        read_catalog(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_eligible_row_that_is_no_generator(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.parquet", [row(1, kind=None)])
    with pytest.raises(InputError, match="a/model-1"):
        eligible_generators(path)


def test_columns_are_read_without_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.parquet", [row(2), row(1, eligible=False, reason="gated", likes=7)])
    assert read_columns(path, ["reason", "rank", "likes"]) == {
        "reason": ["ok", "gated"],
        "rank": [2, 1],
        "likes": [None, 7],
    }
    with pytest.raises(KeyError, match="colour"):
        read_columns(path, ["colour"])
    broken_json(path)
    assert read_columns(tmp_path, ["repo_id"]) == {"repo_id": ["a/model-1"]}  # what is not read is not judged
    with pytest.raises(InputError):
        read_catalog(path)


def test_reading_pauses_the_garbage_collector_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.parquet", [row(1)])
    assert gc.isenabled()
    read_catalog(path)
    assert gc.isenabled()
    broken_json(path)
    with pytest.raises(InputError):
        read_catalog(path)
    assert gc.isenabled()
