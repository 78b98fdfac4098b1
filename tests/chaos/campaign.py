"""The disturbed run: faults from a schedule, spread over the work, and the driver started again until all is done."""

import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import psutil
from chaos.driver import Driver
from chaos.kinds import KINDS, OUT_OF_MEMORY, NotNow
from chaos.ledger import Entry, Ledger
from chaos.processes import Processes
from chaos.world import World

from pipeline.events import read_events
from shards.dataset import Dataset

MOST_PENDING = {"hub": 4, "native": 2}
"""Faults that may wait for their victims at a time; more of a kind would only pile up on the next one."""
WIPES = 0.6
"""Share of the driver's new lives that begin with an empty cache."""
AT_ONCE = 0.2
"""Share of faults that follow the one before although the work has not got on: trouble does not wait."""
STALLED = 600.0
"""Seconds without a commit after which something is wrong."""
HEAD_START = 0.85
"""Share of the work over which the faults are spread; in the rest those that wait find their victims."""


class Stalled(Exception):  # noqa: N818
    """The campaign does not get on."""


class Campaign:
    """One disturbed run. `problems` collects what should not have happened; nothing there means that all went well."""

    def __init__(
        self, world: World, run: Path, kinds: Sequence[str], moments: random.Random, settings: Collection[str]
    ) -> None:
        self.world = world
        self.run = run
        self.moments = moments
        self.driver = Driver(world, run, settings)
        self.ledger = Ledger(world.root / "faults.jsonl")
        self.processes: Processes = world.processes
        self.problems: list[str] = []
        self.stopped: list[psutil.Process] = []
        """Workers that were sent SIGSTOP and may still be there."""
        self.hub_numbers: dict[int, int] = {}
        """fault -> its number at the hub"""
        self._todo = deque(enumerate(kinds, start=1))
        self._faults = len(kinds)
        self._units = len(world.generators) * -(-world.images_per_generator // 3)
        self._before = self.commits()
        self._next = 0.0
        self._at_once = False
        self._last_commit = (0, time.monotonic())
        self._judged = 0

    def commits(self) -> int:
        """How many units are committed, real ones included."""
        return sum(1 for _ in self._commits())

    def _commits(self) -> Iterator[Path]:
        return (self.run / "dataset" / "commits").glob("*.json")

    @cached_property
    def _unit_of(self) -> dict[int, str]:
        """The unit of each draw, by its seed."""
        rows = Dataset.open(self.world.reference / "dataset").rows(columns=["seed", "unit"], label=1)
        return dict(zip(rows["seed"].to_pylist(), rows["unit"].to_pylist(), strict=True))

    def carry_out(self) -> None:
        """Inject everything and bring the run to its end.

        Raises:
            Stalled: nothing is committed any more, or the driver dies of itself again and again.
        """
        while True:
            self._notice_strikes()
            if not self.driver.alive:
                self._judge_endings()
                if self.driver.finished and not self._todo:
                    return
                if self.driver.finished:
                    raise Stalled(f"the work was done with {len(self._todo)} faults to go")
                self._between_lives()
                self.driver.start()
            if self._todo and self._due():
                self._inject()
            self._watch_progress()
            time.sleep(0.05)

    def _inject(self) -> None:
        """Inject the next fault whose victim is there; those of the hub come between two lives of the driver."""
        for number, kind in list(self._todo):
            group = KINDS[kind].group
            if group == "hub" or len(self.pending_of(group)) >= MOST_PENDING.get(group, 1):
                continue
            try:
                self._carry_out(number, kind)
            except (NotNow, psutil.NoSuchProcess, ProcessLookupError):
                continue
            self._todo.remove((number, kind))
            self._next = time.monotonic() + self.moments.uniform(0.1, 1.5)
            self._at_once = self.moments.random() < AT_ONCE
            return
        self._next = time.monotonic() + 0.2
        if all(KINDS[other].group == "hub" for _, other in self._todo):
            self.driver.allow(-signal.SIGKILL)  # nothing else is left that would make room for a cold start
            self.driver.send(signal.SIGKILL)

    def _carry_out(self, number: int, kind: str) -> None:
        commits = self.commits() - self._before
        detail, struck = KINDS[kind].inject(self, number)
        self.ledger.add(number, kind, commits, detail, struck)

    def _due(self) -> bool:
        """Whether the next fault's time has come: in proportion to the work that is done."""
        if time.monotonic() < self._next:
            return False
        share = len(self.ledger.entries) / self._faults
        done = (self.commits() - self._before) / self._units
        return self._at_once or done >= share * HEAD_START

    def _notice_strikes(self) -> None:
        pending = self.ledger.pending()
        if not pending:
            return
        struck = {strike.number for strike in self.world.native.strikes()}
        shown = self.world.hub.shown() if any(entry.number in self.hub_numbers for entry in pending) else {}
        for entry in pending:
            if entry.number in struck or shown.get(self.hub_numbers.get(entry.number, -1), 0):
                self.ledger.strike(entry)

    def _judge_endings(self) -> None:
        for ending in self.driver.endings[self._judged :]:
            if not ending.foreseen:
                self.problems.append(
                    f"driver {ending.life} ended with exit code {ending.code}, expected was one of "
                    f"{sorted(ending.allowed)}:\n{ending.log.read_text(errors='replace')[-3000:]}"
                )
        self._judged = len(self.driver.endings)
        if [ending.foreseen for ending in self.driver.endings[-4:]].count(False) >= 3:
            raise Stalled("the driver dies of itself again and again")

    def _between_lives(self) -> None:
        """At times start again at once, at times when all is quiet: then the cache may be empty, and the hub bad."""
        only_hub = all(KINDS[kind].group == "hub" for _, kind in self._todo)
        if self.driver.endings and not only_hub and self.moments.random() > WIPES:
            return
        self.no_survivors()
        self.wipe_cache()
        for number, kind in list(self._todo):
            if KINDS[kind].group != "hub" or len(self.pending_of("hub")) >= MOST_PENDING["hub"]:
                continue
            if kind == "hub_corrupt" and any(entry.kind == kind for entry in self.ledger.pending()):
                continue  # the same file twice in one download is rightly a failure for good
            self._todo.remove((number, kind))
            self._carry_out(number, kind)

    def no_survivors(self) -> None:
        """Note as a problem who outlives the driver. A stopped process cannot end by itself, so it is continued."""
        for process in self.stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self.stopped.clear()
        for process in self.processes.wait_until_none(20):
            with suppress(psutil.NoSuchProcess):
                self.problems.append(f"outlives its driver by 20 s: {process.pid} {' '.join(process.cmdline())}")
                process.kill()

    def wipe_cache(self) -> None:
        """Remove every downloaded model; only while nobody works with them."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.world.root / "cache" / "models")

    def pending_of(self, group: str) -> list[Entry]:
        """Faults of a group that have met nobody yet."""
        return [entry for entry in self.ledger.pending() if KINDS[entry.kind].group == group]

    def out_of_memory(self) -> bool:
        """Whether a fault that takes memory waits for its victim, or has left a unit that will be tried again soon."""
        if any(entry.kind in OUT_OF_MEMORY for entry in self.pending_of("native")):
            return True
        numbers = {entry.number for entry in self.ledger.entries if entry.kind in OUT_OF_MEMORY}
        struck = {seed for strike in self.world.native.strikes() if strike.number in numbers for seed in strike.seeds}
        units = {self._unit_of[seed] for seed in struck & self._unit_of.keys()}  # the others are of the reserve
        quarantined = {
            event["unit"] for event in read_events(self.run / "events.jsonl") if event["event"] == "quarantined"
        }
        return bool(units - quarantined - {path.name.split(".")[0] for path in self._commits()})

    def _watch_progress(self) -> None:
        commits, since = self._last_commit
        if self.commits() != commits:
            self._last_commit = (self.commits(), time.monotonic())
        elif time.monotonic() - since > STALLED:
            words = self.driver.log.read_text(errors="replace")[-3000:]
            alive = [f"{process.pid} {process.status()}" for process in self.processes.leftovers()]
            raise Stalled(f"no commit for {STALLED:g} s; workers and downloads: {alive}; the driver's words:\n{words}")

    def end(self) -> None:
        """End the driver, whatever state it is in."""
        if self.driver.alive:
            with suppress(ProcessLookupError):
                self.driver.send(signal.SIGKILL)
            self.driver.wait(30)
