"""The folder of one run: where everything lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; nothing needs to exist yet."""

    root: Path
    catalog: Path
    prompts: Path
    dataset: Path

    @classmethod
    def at(cls, root: Path) -> Self:
        """Return the usual layout below `root`."""
        return cls(root, root / "catalog.parquet", root / "prompts.parquet", root / "dataset")

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"

    @property
    def detectors(self) -> Path:
        return self.root / "detectors"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"

    @property
    def deaths(self) -> Path:
        return self.root / "deaths"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def status(self) -> Path:
        return self.root / "status.json"
