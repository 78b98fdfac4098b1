"""The driver of the disturbed run: started again whenever it has died, and each of its deaths accounted for."""

import os
import signal
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from chaos.world import World


@dataclass(frozen=True)
class Ending:
    """How one life of the driver ended, and which exit codes were to be expected then."""

    life: int
    code: int
    allowed: frozenset[int]
    log: Path

    @property
    def foreseen(self) -> bool:
        """Whether it ended as it should, without a traceback."""
        return self.code in self.allowed and (self.code < 0 or "Traceback" not in self.log.read_text(errors="replace"))


class Driver:
    """`commforge sample` on the disturbed run, one life after another."""

    def __init__(self, world: World, run: Path, settings: Collection[str]) -> None:
        self._world = world
        chosen = [part for setting in settings for part in ("--set", setting)]
        self._arguments: list[str | Path] = ["sample", run / "run.yaml", *chosen]
        self._process: subprocess.Popen[bytes] | None = None
        self._allowed: set[int] = set()
        self._logs = world.root / "logs"
        self._logs.mkdir(exist_ok=True)
        self.endings: list[Ending] = []
        self.lives = 0

    @property
    def log(self) -> Path:
        """What the driver says in this life."""
        return self._logs / f"driver-{self.lives:03}.log"

    @property
    def alive(self) -> bool:
        """Whether it runs; the ending of one that has just ended is noted."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self.endings.append(Ending(self.lives, code, frozenset(self._allowed), self.log))
        self._process = None
        return False

    @property
    def finished(self) -> bool:
        """Whether the last life ended because nothing was left to do."""
        return self._process is None and bool(self.endings) and self.endings[-1].code in (0, 1)

    def start(self) -> None:
        """Begin another life, which may end by itself with exit code 0 or 1."""
        self.lives += 1
        self._allowed = {0, 1}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._world.command(*self._arguments),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._world.environment,
                start_new_session=True,
            )

    def allow(self, *codes: int) -> None:
        """Expect that this life may end with one of these exit codes too."""
        self._allowed |= set(codes)

    def send(self, number: signal.Signals) -> int:
        """Send a signal, and return the process id."""
        if self._process is None:
            raise ProcessLookupError("no driver")
        os.kill(self._process.pid, number)
        return self._process.pid

    def wait(self, seconds: float) -> bool:
        """Wait for the end of this life; return whether it came."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return not self.alive
