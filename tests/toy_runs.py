"""What the pipeline's tests share: a small run on the toy world, real commands, and what a dataset holds on disk."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from warm_start import WarmProcess

from pipeline.demo.toy_generators import TOY_GENERATORS
from shards.dataset import Dataset
from shards.identifiers import sha256_file

COMMFORGE = Path(sys.executable).with_name("commforge")


@dataclass(frozen=True)
class ToyWorld:
    """Where the toy world lies and answers."""

    root: Path
    endpoint: str


def environment() -> dict[str, str]:
    """The environment of a command that a test starts: no token of the user's, no Ray of somebody else's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "RAY_"))}
    return kept | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": "f" * 64, "COLUMNS": "200", "NO_COLOR": "1"}


def commforge(
    *arguments: str | Path, timeout: float = 300, cwd: Path | None = None, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, after the code `first`, and return what it said."""
    command = list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = WarmProcess(command, environment(), out, err, cwd, first)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = [file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in (out, err)]
    return subprocess.CompletedProcess(command, code, *said)


def start_commforge(arguments: Sequence[str | Path], log: Path) -> WarmProcess:
    """Start the command in a session of its own, its words going to a file."""
    return WarmProcess(list(map(str, arguments)), environment(), log, log)


def installed_commforge(*arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the installed script itself, imports and all, and return what it said."""
    return subprocess.run(
        [COMMFORGE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )


def small_config(world: ToyWorld, output: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Every working toy generator, six images each in units of three; `sections` are merged over it."""
    config: dict[str, Any] = {
        "name": "small",
        "output": str(output),
        "hub": {"endpoint": world.endpoint, "cache": str(world.root / "cache"), "patience": 0},
        "crawl": {"models": list(TOY_GENERATORS)},
        "caption": {
            "reals": [{"name": "photos", "path": str(world.root / "photos"), "captions": "captions.csv", "limit": 40}],
            "unit_images": 16,
        },
        "sample": {
            "images_per_generator": 6,
            "unit_images": 3,
            "batch_size": 2,
            "checker": {"repo_id": "toy/safety-checker"},
        },
        "splits": {"test_fraction": 0.0},
        "execute": {"executor": "inline", "device": "cpu"},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    return config


def write_yaml(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def copy_run(run: Path, target: Path) -> Path:
    """Copy a run; the copy's run.yaml is a config of its own."""
    shutil.copytree(run, target)
    config = yaml.safe_load((target / "run.yaml").read_text(encoding="utf-8"))
    write_yaml(target / "run.yaml", config | {"output": str(target)})
    return target


def committed_files(run: Path) -> dict[str, str]:
    """Name → sha256 of the bytes on disk, for every file that a commit names."""
    commits = Dataset.open(run / "dataset").commits().values()
    return {file.name: sha256_file(run / "dataset" / file.name) for commit in commits for file in commit.files}


def stored_files(run: Path) -> set[str]:
    """Every file in images/ and rows/, committed or not."""
    root = run / "dataset"
    folders = (root / "images", root / "rows")
    return {str(path.relative_to(root)) for folder in folders for path in folder.rglob("*") if path.is_file()}
