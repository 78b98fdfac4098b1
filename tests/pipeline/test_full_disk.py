"""A full disk under the run: refused in words wherever it is met, and the same command goes on once there is room."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.disks import SmallDisk, why_no_disks
from toy_runs import ToyWorld, small_config, write_yaml

from manifests.errors import InputError
from pipeline.cli import main
from pipeline.config import CaptionConfig, ExecuteConfig, RunConfig, SampleConfig
from pipeline.context import open_run
from pipeline.events import EventLog, read_events
from pipeline.run_folder import RunFolder
from shards import storage
from shards.dataset import Dataset

PIXELS = "gridworks/toy-ddpm-64"
pytestmark = pytest.mark.skipif(why_no_disks() is not None, reason=f"no small disk can be mounted: {why_no_disks()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "run", mebibytes=2) as disk:
        yield disk


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["commforge", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        return int(leaving.value.code or 0)

    return run


def test_a_command_is_refused_until_there_is_room(
    disk: SmallDisk,
    toy_world: ToyWorld,
    tmp_path: Path,
    exit_code: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With every further 8 KiB the run comes to the end of the disk somewhere else."""
    sections = {"crawl": {"models": [PIXELS]}, "caption": {"reals": [], "captioner": None}, "sample": {"checker": None}}
    config = small_config(toy_world, disk.folder, **sections)
    config["execute"]["spool"] = str(tmp_path / "spool")
    path = write_yaml(tmp_path / "config.yaml", config)
    assert exit_code("crawl", path) == 0
    disk.fill()
    ballast, refusals = disk.folder / "ballast", 0
    while True:
        capsys.readouterr()
        code = exit_code("sample", path)
        said = capsys.readouterr().err
        if code == 0:
            break
        assert code == 2, said
        assert "Traceback" not in said
        assert str(disk.folder) in said.split("error: ")[1]
        assert "No space left on device; free space, then run the same command again" in said.split("error: ")[1]
        refusals += 1
        os.truncate(ballast, ballast.stat().st_size - 8192)
    assert refusals >= 3
    assert [path.name for path in disk.folder.glob(".*") if path.name.startswith(".run.yaml")] == []
    dataset = Dataset.open(disk.folder / "dataset")
    assert sum(commit.counts["ok"] for commit in dataset.commits().values()) == 6
    assert exit_code("dataset", "verify", disk.folder / "dataset") == 0


def test_an_event_that_finds_no_room_is_let_go(disk: SmallDisk) -> None:
    log = EventLog(disk.folder / "events.jsonl")
    heard: list[str] = []
    with log.heard_by(lambda event, fields: heard.append(event)):
        log.write("before")
        disk.fill()
        for _ in range(100):
            log.write("lost", text="x" * 1000)  # the first of them fill a page; then one is cut
        disk.relieve()
        log.write("after")
    log.close()
    events = [event["event"] for event in read_events(disk.folder / "events.jsonl")]
    assert events == ["before", *["lost"] * (len(events) - 2), "after"]
    assert len(events) < 10
    assert heard == ["before", *["lost"] * 100, "after"]


def _config(output: Path, images: int) -> RunConfig:
    return RunConfig(
        name="full",
        output=output,
        caption=CaptionConfig(captioner=None),
        sample=SampleConfig(checker=None, images_per_generator=images),
        execute=ExecuteConfig(executor="inline"),
    )


def test_the_refusal_that_came_first_is_the_one_that_is_said(
    disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.at(disk.folder)
    with open_run(_config(disk.folder, 3)):
        pass
    with pytest.raises(InputError, match="a worker's own words"), open_run(_config(disk.folder, 4)):
        disk.fill()
        raise InputError("a worker's own words")
    assert f"{run.config}: the disk is full" in capsys.readouterr().err
    disk.relieve()
    before = run.config.read_bytes()
    with pytest.raises(InputError, match="a worker's own words"), open_run(_config(disk.folder, 5)):
        raise InputError("a worker's own words")
    assert run.config.read_bytes() == before


def test_whatever_a_stage_writes_is_refused_with_the_folder(disk: SmallDisk) -> None:
    refusal = pytest.raises(InputError, match=f"{disk.folder}.*No space left.*run the same command again")
    with refusal, open_run(_config(disk.folder, 3)) as context:
        disk.fill()
        storage.replace(context.folder.dataset / "notes", b"x")
