"""What the shim in shim/sitecustomize.py is asked to do, and what it says it did."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHIM = Path(__file__).with_name("shim")


@dataclass(frozen=True)
class Strike:
    """A pipeline call that went wrong on demand: which fault, in which process, for which draws (by seed)."""

    number: int
    kind: str
    seeds: tuple[int, ...]
    pid: int


class NativeFaults:
    """Arms faults for the next pipeline call, and curses draws. `environment` puts a process under it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("armed", "taken", "curses"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(SHIM), os.environ.get("PYTHONPATH"))))
        self.environment = {"COMMFORGE_CHAOS": str(folder), "PYTHONPATH": path}

    def arm(self, number: int, kind: str, times: int = 1) -> None:
        """Let the next pipeline call, wherever it is, go wrong; with `times`, its draws also when tried again."""
        self._write("armed", number, {"number": number, "kind": kind, "times": times})

    def curse(self, number: int, kind: str, seeds: Iterable[int] = (), divisor: int | None = None) -> None:
        """Let every call for one of these draws, or for a seed that `divisor` divides, go wrong until it is lifted."""
        self._write("curses", number, {"number": number, "kind": kind, "seeds": sorted(seeds), "divisor": divisor})

    def lift(self, number: int) -> None:
        """End a curse."""
        (self.folder / "curses" / _name(number)).unlink(missing_ok=True)

    def disarm(self) -> None:
        """Let no armed fault strike that has not yet, and none once more."""
        for path in (*(self.folder / "armed").iterdir(), *(self.folder / "curses").glob("*.json")):
            if path.parent.name == "armed" or json.loads(path.read_text()).get("times") is not None:
                path.unlink(missing_ok=True)

    def strikes(self) -> list[Strike]:
        """Return every strike so far, in order."""
        log = self.folder / "strikes.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        told = [json.loads(line) for line in lines]
        return [Strike(one["number"], one["kind"], tuple(one["seeds"]), one["pid"]) for one in told]

    def _write(self, where: str, number: int, content: dict[str, object]) -> None:
        draft = self.folder / f"{number}.draft"
        draft.write_text(json.dumps(content))
        draft.rename(self.folder / where / _name(number))


def _name(number: int) -> str:
    return f"{number:05}.json"
