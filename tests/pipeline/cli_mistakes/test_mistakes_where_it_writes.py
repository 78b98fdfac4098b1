"""A place that is taken, or settings that a dataset does not have, are refused, and leave everything as it was."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from mistakes import PIXELS, Refused, mistaken_config, tree
from toy_runs import ToyWorld, commforge, small_config, write_yaml

from pipeline.cli import main
from shards.dataset import Dataset


@pytest.mark.parametrize("command", ["run", "crawl", "caption", "sample"])
def test_output_that_cannot_be_written(refused: Refused, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        refused(command, mistaken_config(tmp_path, output=str(output)), says=("output", str(output)))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path], int]]:
    """Hold the locks of a run and its crawl in another process, and return its id."""
    processes: list[subprocess.Popen[str]] = []

    def hold(root: Path) -> int:
        code = (
            "import sys\nfrom pathlib import Path\nfrom crawlers.crawling.folder_lock import alone_in\n"
            "from shards.run_lock import RunLock\nroot = Path(sys.argv[1])\n"
            "with RunLock(root / 'dataset'), alone_in(root):\n    print('held', flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process.pid

    yield hold
    for process in processes:
        process.communicate()


def test_two_runs_into_one_output(refused: Refused, run: Path, holder: Callable[[Path], int]) -> None:
    before = tree(run)
    says = (f"process {holder(run)} on {socket.gethostname()}", str(run / "dataset"), "wait for it")
    for command in (["run"], ["caption"], ["sample"], ["sample", "--set", "sample.images_per_generator=9"]):
        refused(command[0], run / "run.yaml", *command[1:], says=says)
    refused("dataset", "gc", run / "dataset", "--now", says=says)
    refused("crawl", run / "run.yaml", says=(str(run), "another crawl is writing here", "wait for it"))
    assert tree(run) == before
    status = commforge("status", run)
    assert status.returncode == 0
    assert "small: running" in status.stdout


def test_identity_key_changed(refused: Refused, run: Path) -> None:
    before = tree(run)
    changes = ("--set", "sample.batch_size=3", "--set", "sample.dtype=float16", "--set", "execute.workers=7")
    message = refused(
        "sample",
        run / "run.yaml",
        *changes,
        says=(
            str(run / "dataset" / "dataset.json"),
            "sample.batch_size: 2 -> 3",
            'sample.dtype: "float32" -> "float16"',
            "another dataset folder",
        ),
    )
    assert "workers" not in message
    assert tree(run) == before


@pytest.mark.parametrize(
    "setting",
    ["execute.workers=7", "execute.executor=ray", "execute.attempts=9", "hub.download_timeout=5", "crawl.count=0"],
)
def test_extent_and_runtime_keys_may_change(
    run: Path, setting: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is missing, so the stage only looks, and says so with exit code 0; what was committed stays."""
    monkeypatch.setattr(sys, "argv", ["commforge", "sample", str(run / "run.yaml"), "--set", setting])
    before = tree(run / "dataset")
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0, capsys.readouterr().err
    assert tree(run / "dataset") == before
    key, value = setting.split("=")
    section, name = key.split(".")
    assert str(yaml.safe_load((run / "run.yaml").read_text())[section][name]).removesuffix(".0") == value


def test_dataset_without_a_commit_takes_other_settings(
    refused: Refused, tmp_path: Path, toy_world: ToyWorld, made: Path
) -> None:
    """The first try went wrong before any image was stored; another identity then needs no other folder."""
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = str(tmp_path / "no photos")
    write_yaml(tmp_path / "config.yaml", config)
    refused("caption", tmp_path / "config.yaml", says=("photos", str(tmp_path / "no photos"), "no such folder"))
    assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}
    settings = ("--set", "sample.batch_size=3")
    refused("caption", tmp_path / "config.yaml", *settings, says=("no such folder",))
    assert Dataset.open(tmp_path / "run" / "dataset").identity["sample.batch_size"] == 3


def test_refused_config_does_not_become_the_runs(refused: Refused, run: Path) -> None:
    before = tree(run)
    named = ("--set", f"splits.test_generators=[{PIXELS}]")
    refused("sample", run / "run.yaml", *named, says=("splits.test_generators", "gridworks--toy-ddpm-64", "'test'"))
    assert tree(run) == before
