"""Any image can be made again from its row: `dataset regenerate IMAGE_ID --verify`, in every toy family."""

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_runs import ToyWorld, commforge

from pipeline.demo.toy_generators import TOY_GENERATORS
from pipeline.exit_codes import ExitCode
from pipeline.regenerate import regenerate
from shards.dataset import Dataset


def _random_image(run: Path, repo_id: str) -> str:
    rows = Dataset.open(run / "dataset").rows(columns=["image_id", "repo_id", "status"], label=1).to_pylist()
    return random.choice([row["image_id"] for row in rows if row["repo_id"] == repo_id and row["status"] == "ok"])


def _again(run: Path, world: ToyWorld, image_id: str, out: Path | None = None) -> ExitCode:
    return regenerate(
        run / "dataset",
        image_id,
        verify=True,
        out=out,
        endpoint=world.endpoint,
        cache=world.root / "cache",
        device="cpu",
    )


@pytest.mark.parametrize("repo_id", TOY_GENERATORS)
def test_a_random_image_of_each_family_comes_out_equal(
    undisturbed: Path, toy_world: ToyWorld, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_id = _random_image(undisturbed, repo_id)
    assert _again(undisturbed, toy_world, image_id, tmp_path / "again.png") is ExitCode.DONE, capsys.readouterr().out
    dataset = Dataset.open(undisturbed / "dataset")
    row = next(row for row in dataset.rows(label=1).to_pylist() if row["image_id"] == image_id)
    assert (tmp_path / "again.png").read_bytes() == dataset.image_bytes(row)


def test_the_command_says_equal_and_exits_0(undisturbed: Path, toy_world: ToyWorld) -> None:
    image_id = _random_image(undisturbed, next(iter(TOY_GENERATORS)))
    options = ("--endpoint", toy_world.endpoint, "--cache", toy_world.root / "cache", "--device", "cpu")
    done = commforge("dataset", "regenerate", undisturbed / "dataset", image_id, "--verify", *options)
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


def test_an_image_that_comes_out_otherwise_is_told(
    undisturbed: Path, toy_world: ToyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shard whose rows claim another hash, as after a careless edit: said with exit code 1, not hidden."""
    image_id = _random_image(undisturbed, "gridworks/toy-ddpm-64")
    shutil.copytree(undisturbed, tmp_path / "run")
    dataset = Dataset.open(tmp_path / "run" / "dataset")
    commit = next(c for c in dataset.commits().values() if image_id in _ids(dataset, c.rows.name))
    path = dataset.root / commit.rows.name
    table = pq.read_table(path)
    place = table["image_id"].to_pylist().index(image_id)
    hashes = ["0" * 64 if row == place else value for row, value in enumerate(table["sha256"].to_pylist())]
    pq.write_table(table.set_column(table.schema.get_field_index("sha256"), "sha256", pa.array(hashes)), path)
    assert _again(tmp_path / "run", toy_world, image_id) is ExitCode.DONE_WITH_FAILURES
    assert "different" in capsys.readouterr().out


def _ids(dataset: Dataset, rows: str) -> list[str]:
    return pq.read_table(dataset.root / rows, columns=["image_id"])["image_id"].to_pylist()
