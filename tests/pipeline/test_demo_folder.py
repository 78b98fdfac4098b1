"""The demo clears an earlier demo, and nothing that is anybody else's."""

from pathlib import Path

import pytest

from manifests.errors import InputError
from pipeline.demo import run_demo
from shards.run_lock import RunLock, RunLockHeld


def _earlier_demo(folder: Path) -> Path:
    for part in ("toy", "dataset/commits", "report", "deaths"):
        (folder / part).mkdir(parents=True)
    for file in ("toy/config.yaml", "run.yaml", "catalog.parquet", ".catalog.lock", "events.jsonl", "status.json"):
        (folder / file).write_text("x")
    return folder


def test_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    demo = _earlier_demo(tmp_path / "demo")
    run_demo._clear(demo)
    assert not demo.exists()


@pytest.mark.parametrize("foreign", ["thesis.txt", "data/x.png", ".git/HEAD"])
def test_a_folder_with_anything_else_in_it_stays(tmp_path: Path, foreign: str) -> None:
    demo = _earlier_demo(tmp_path / "demo")
    (demo / foreign).parent.mkdir(exist_ok=True)
    (demo / foreign).write_text("mine")
    with pytest.raises(InputError, match="not an earlier demo"):
        run_demo._clear(demo)
    assert (demo / foreign).read_text() == "mine"
    assert (demo / "run.yaml").exists()


def test_a_folder_with_a_toy_of_its_own_and_a_link_stay(tmp_path: Path) -> None:
    (tmp_path / "project" / "toy").mkdir(parents=True)
    (tmp_path / "link").symlink_to(_earlier_demo(tmp_path / "demo"))
    for folder in (tmp_path / "project", tmp_path / "link"):
        with pytest.raises(InputError, match="not an earlier demo"):
            run_demo._clear(folder)
    assert (tmp_path / "demo" / "run.yaml").exists()


def test_a_demo_that_runs_is_not_pulled_away(tmp_path: Path) -> None:
    demo = _earlier_demo(tmp_path / "demo")
    with RunLock(demo / "dataset"), pytest.raises(RunLockHeld):
        run_demo._clear(demo)
    assert (demo / "run.yaml").exists()
