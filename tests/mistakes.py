"""What the tests of a user's mistakes look at, and a config to make them in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy_runs import write_yaml

from shards.dataset import Dataset

PIXELS, TEXT = "gridworks/toy-ddpm-64", "crayon-labs/toy-diffusion-v1"
Refused = Callable[..., str]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but for lock files: taking a lock is not a change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def mistaken_config(tmp_path: Path, **changes: Any) -> Path:
    """A config that needs no hub to be read; it never gets further than its mistake."""
    config = {"name": "mistaken", "output": str(tmp_path / "run"), "crawl": {"models": [PIXELS]}} | changes
    return write_yaml(tmp_path / "config.yaml", config)


def image_of(run: Path, label: int) -> str:
    """The id of one of its good images: 0 for a photograph, 1 for a generated one."""
    rows = Dataset.open(run / "dataset").rows(columns=["image_id", "status"], label=label, status="ok")
    return str(rows["image_id"][0].as_py())
