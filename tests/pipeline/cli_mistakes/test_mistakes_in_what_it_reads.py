"""Damaged or missing input is told by its path and what is wrong in it, and is never overwritten."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mistakes import TEXT, Refused, tree
from toy_runs import ToyWorld, small_config, write_yaml

from shards.dataset import Dataset


@pytest.mark.parametrize("command", ["status", "report"])
def test_not_a_run(refused: Refused, made: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nope", tmp_path / "file"):
        refused(command, path, says=(str(path),))
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("verb", ["info", "index", "verify", "audit", "gc", "regenerate"])
def test_not_a_dataset(refused: Refused, made: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("x")
    before = tree(made)
    image = ["0" * 32] if verb == "regenerate" else []
    for path in (made, tmp_path / "nope", tmp_path / "file"):
        refused("dataset", verb, path, *image, says=(str(path), "no dataset here", "dataset.json"))
    refused("dataset", verb, "s3://bucket/dataset", *image, says=("object stores", "not supported"))
    assert tree(made) == before


def test_damaged_dataset(refused: Refused, run: Path) -> None:
    (run / "dataset" / "dataset.json").write_text('{"schema')
    says = (str(run / "dataset" / "dataset.json"), "damaged")
    for command in (["sample", run / "run.yaml"], ["status", run], ["dataset", "info", run / "dataset"]):
        refused(*command, says=says)
    assert (run / "dataset" / "dataset.json").read_text() == '{"schema'


def test_damaged_prompts(refused: Refused, run: Path, tmp_path: Path) -> None:
    more = ("--set", "sample.images_per_generator=9")
    (run / "prompts.parquet").write_bytes(b"PAR1 torn")
    before = tree(run)
    for command in (["sample", run / "run.yaml", *more], ["status", run]):
        refused(*command, says=(str(run / "prompts.parquet"), "cannot be read as Parquet"))
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "mine.parquet")
    refused(
        "sample",
        run / "run.yaml",
        "--prompts",
        tmp_path / "mine.parquet",
        says=("mine.parquet", "'prompt_id'", "missing"),
    )
    assert tree(run) == before


def test_damaged_catalog(refused: Refused, run: Path, tmp_path: Path) -> None:
    (run / "catalog.parquet").write_bytes(b"PAR1 torn")
    before = tree(run)
    commands = (["crawl", run / "run.yaml"], ["sample", run / "run.yaml"], ["status", run], ["generator", "list", run])
    for command in commands:
        refused(*command, says=(str(run / "catalog.parquet"),))
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "mine.parquet")
    refused(
        "sample",
        run / "run.yaml",
        "--catalog",
        tmp_path / "mine.parquet",
        says=("mine.parquet", "not a catalog", "rank"),
    )
    assert tree(run) == before


def test_no_catalog_yet(refused: Refused, run: Path) -> None:
    (run / "catalog.parquet").unlink()
    refused("sample", run / "run.yaml", says=(str(run / "catalog.parquet"), "no such catalog", "commforge crawl"))


def test_no_prompts_for_a_model_of_text(refused: Refused, run: Path) -> None:
    (run / "prompts.parquet").unlink()
    before = tree(run)
    more = ("--set", "sample.images_per_generator=4")
    refused("sample", run / "run.yaml", *more, says=(TEXT, "'train'", "prompt", "splits.test_fraction"))
    assert tree(run) == before


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (None, ("captions.csv", "no such file")),
        ("", ("captions.csv", "empty", "file, caption")),
        ("fiel,caption\n", ("captions.csv:1", "'fiel'", "allowed: file, caption")),
        ("file,caption\nnope.jpg,a cat\n", ("captions.csv:2", "'nope.jpg'", "is not below")),
        ("file,caption\n{photo},a cat, a dog\n", ("captions.csv:2", "3 fields", "quotes")),
        ("file,caption\n../{photo},a cat\n", ("captions.csv:2", "inside it")),
    ],
)
def test_broken_captions(
    refused: Refused, toy_world: ToyWorld, tmp_path: Path, captions: str | None, says: tuple[str, ...]
) -> None:
    photo = min(path for path in (toy_world.root / "photos").iterdir() if path.suffix != ".csv")
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos")
    if captions is not None:
        (tmp_path / "photos" / "captions.csv").write_text(captions.format(photo=photo.name))
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = "photos"  # beside the config
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=says)
    assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}
    assert not (tmp_path / "run" / "prompts.parquet").exists()


@pytest.mark.parametrize(("path", "words"), [("nope", "no such folder"), ("config.yaml", "this is a file")])
def test_reals_that_are_no_folder(refused: Refused, toy_world: ToyWorld, tmp_path: Path, path: str, words: str) -> None:
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = path
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=("'photos'", str(tmp_path / path), words))
