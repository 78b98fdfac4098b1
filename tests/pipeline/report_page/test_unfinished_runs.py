"""Runs that miss a part get a page that says so; damaged files are named."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report_page import page_of
from report_run import RunBuilder

from manifests.errors import InputError
from pipeline.report.build import build_report


def test_crawl_only(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.model("toy/stable-diffusion")
    builder.write_catalog()
    page = page_of(builder.root)
    assert "There are no generated images yet." in page.text
    assert "This run has no dataset yet." in page.text
    assert "No detector was trained in this run yet." in page.text
    assert "no run.yaml" in page.text
    assert not (builder.root / "report" / "images").exists()


def test_dataset_only(copy: Path) -> None:
    shutil.rmtree(copy / "detectors")
    for name in ("catalog.parquet", "run.yaml"):
        (copy / name).unlink()
    page = page_of(copy)
    assert "This run has no catalog yet" in page.text
    assert len(page.tables["Draws by generator and status"]) == 7
    assert page.having("img")


def test_run_that_has_only_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: fresh\n")
    assert "This run has no catalog yet" in page_of(tmp_path).text


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.yaml.*catalog\.parquet.*dataset/dataset\.json"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        build_report(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("catalog.parquet", b"not parquet", r"catalog\.parquet: not a catalog"),
        ("run.yaml", b"a: [", r"run\.yaml: not YAML"),
        ("run.yaml", b"- a", r"run\.yaml: must be a mapping"),
        ("dataset/dataset.json", b"{", r"dataset\.json: damaged"),
    ],
)
def test_damaged_file_is_named(copy: Path, file: str, content: bytes, message: str) -> None:
    (copy / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        build_report(copy)


def test_catalog_without_a_column_is_named(copy: Path) -> None:
    table = pq.read_table(copy / "catalog.parquet").drop_columns(["license"])
    pq.write_table(table, copy / "catalog.parquet")
    with pytest.raises(InputError, match=r"catalog\.parquet.*license"):
        build_report(copy)
