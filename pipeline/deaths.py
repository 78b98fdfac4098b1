"""Which units killed workers, remembered across drivers: a model that crashes must not cost as much at every start.

RUN/deaths/ holds, while a run is unfinished:

* `log.jsonl`: one line for each death, and one for the end of each unit that had any.
* `in_flight.json`, only with the executor `inline`: the unit that the driver itself is sampling. A driver that finds
  one at its start knows under which unit its predecessor died, or lost its device.
* `crash.txt`: what Python's fault handler wrote in that moment. It names the signal of a native crash; after SIGKILL,
  by an operator or by the kernel for want of memory, it is empty.

Nothing here decides what a row says. A lost line costs one more try of a unit, so nothing is synced, and a disk too
full for a line stops nobody.
"""

import faulthandler
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, Signals
from typing import Any

from pipeline.disk_errors import is_full
from pipeline.interruption import DeviceLost
from pipeline.progress import say
from pipeline.tasks import Task

FATAL_SIGNALS = frozenset({SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL})
"""Signals that native code brings on itself."""
FATAL_DEATHS = 2
"""Deaths by a fatal signal that quarantine a unit."""
OTHER_DEATHS = 5
"""Deaths of any other kind (SIGKILL, a lost node) that quarantine a unit, the last of them alone. A driver that
samples by itself and is killed in the final pass has it again, until there are twice as many: an operator may have done
it."""
_FAULTS = {
    "Segmentation fault": SIGSEGV,
    "Aborted": SIGABRT,
    "Bus error": SIGBUS,
    "Floating-point exception": SIGFPE,
    "Floating point exception": SIGFPE,
    "Illegal instruction": SIGILL,
}
"""The fault handler's words."""


@dataclass
class Deaths:
    """How workers died under one unit.

    Attributes:
        fatal: by a signal of `FATAL_SIGNALS`, or with the device of the driver's own process lost.
        other: in any other way: SIGKILL, a lost node, for a reason that nobody knows.
        last: the last fatal signal; 0 when there was none.
        last_chance_fatal: it died fatally in its final pass too.
    """

    fatal: int = 0
    other: int = 0
    last: int = 0
    last_chance_fatal: bool = False

    @property
    def deadly(self) -> bool:
        """The unit is quarantined."""
        return self.fatal >= FATAL_DEATHS or self.other >= OTHER_DEATHS

    @property
    def next_alone(self) -> bool:
        """One more death quarantines it; it should be its own."""
        return self.other == OTHER_DEATHS - 1

    @property
    def hopeless(self) -> bool:
        """No driver shall try it again."""
        return self.last_chance_fatal or self.other >= 2 * OTHER_DEATHS


class DeathLog:
    """Deaths by unit, and how many units of a generator were given up for them. One driver at a time uses it.

    Args:
        folder: where deaths are remembered; None keeps them in memory only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / "log.jsonl" if folder is not None else None
        self._deaths: dict[str, Deaths] = {}
        self._lost: dict[str, int] = {}
        for record in _records(self._path):
            self._take(record)
        if folder is not None and (found := _driver_death(folder)) is not None:
            self._write(found)
            if number := found["signal"]:
                say(f"the last run crashed ({Signals(number).name}) while it sampled {found['group']}")

    def of(self, task: Task) -> Deaths | None:
        """Return the deaths under a task's unit, or None."""
        return self._deaths.get(_unit(task))

    def lost(self, task: Task) -> int:
        """Return how many units of the task's generator were given up for their deaths since one was done."""
        return self._lost.get(_generator(task), 0)

    def add(self, task: Task, signal: int) -> Deaths:
        """Count a death under a task and return all of its unit's."""
        self._write(_death(task, signal))
        return self._deaths[_unit(task)]

    def end(self, task: Task, *, lost: bool) -> None:
        """Forget the deaths of a unit that was done, or given up; `lost`: given up for its deaths."""
        if lost or _unit(task) in self._deaths or _generator(task) in self._lost:
            self._write({"unit": _unit(task), "generator": _generator(task), "end": "lost" if lost else "other"})

    def forget(self) -> None:
        """Forget everything: the run is finished."""
        self._deaths.clear()
        self._lost.clear()
        if self._path is not None and self._path.exists():
            self._path.unlink()
            _remove_if_empty(self._path.parent)

    def _write(self, record: dict[str, Any]) -> None:
        self._take(record)
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _append(self._path, json.dumps(record).encode() + b"\n")
        except OSError as error:
            if not is_full(error):
                raise

    def _take(self, record: dict[str, Any]) -> None:
        unit, generator = record["unit"], record["generator"]
        if "end" in record:
            self._deaths.pop(unit, None)
            if record["end"] == "lost":
                self._lost[generator] = self._lost.get(generator, 0) + 1
            else:
                self._lost.pop(generator, None)
            return
        deaths = self._deaths.setdefault(unit, Deaths())
        if record["signal"] in FATAL_SIGNALS or record.get("device_lost"):
            deaths.fatal += 1
            deaths.last = record["signal"]
            deaths.last_chance_fatal |= record["final"]
        else:
            deaths.other += 1


class InFlight:
    """The driver's own record of the unit that it samples itself.

    Args:
        folder: the run's RUN/deaths.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._crash = (folder / "crash.txt").open("w", encoding="utf-8")
        self._was_enabled = faulthandler.is_enabled()
        faulthandler.enable(self._crash, all_threads=False)

    @contextmanager
    def unit(self, task: Task) -> Iterator[None]:
        """Mark a task as under way while the block runs.

        A DeviceLost leaves the mark: nothing can be sampled in this process any more, so the next driver shall count a
        death, or a model that breaks the device would stop every driver at the same unit.
        """
        marker = self._folder / "in_flight.json"
        marker.write_text(json.dumps(_death(task, 0)), encoding="utf-8")
        device_lost = False
        try:
            yield
        except DeviceLost:
            device_lost = True
            marker.write_text(json.dumps(_death(task, 0) | {"device_lost": True}), encoding="utf-8")
            raise
        finally:
            if not device_lost:
                marker.unlink(missing_ok=True)

    def close(self) -> None:
        """Hand the fault handler back and leave nothing behind but the mark of a unit that lost the device."""
        faulthandler.disable()
        if self._was_enabled and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        self._crash.close()
        (self._folder / "crash.txt").unlink(missing_ok=True)
        _remove_if_empty(self._folder)


def _driver_death(folder: Path) -> dict[str, Any] | None:
    """Return the record of the unit under which the last driver died, and remove what told of it."""
    marker, crash = folder / "in_flight.json", folder / "crash.txt"
    found = next(_records(marker), None)
    words = crash.read_text(encoding="utf-8", errors="replace").splitlines()[:1] if crash.exists() else []
    marker.unlink(missing_ok=True)
    crash.unlink(missing_ok=True)
    if found is None:
        return None
    fault = words[0].removeprefix("Fatal Python error: ").strip() if words else ""
    return found | {"signal": int(_FAULTS.get(fault, 0))}


def _death(task: Task, signal: int) -> dict[str, Any]:
    names = {"unit": _unit(task), "generator": _generator(task), "group": task.group}
    return names | {"signal": signal, "final": task.final_pass}


def _unit(task: Task) -> str:
    return f"{task.id}.{task.generation}"


def _generator(task: Task) -> str:
    return f"{task.group}.{task.generation}"


def _append(path: Path, line: bytes) -> None:
    """Add a line of its own, also after one that was cut."""
    with path.open("a+b") as log:
        if log.seek(0, os.SEEK_END):
            log.seek(-1, os.SEEK_END)
            line = line if log.read(1) == b"\n" else b"\n" + line
        log.write(line)


def _records(path: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole: the last may have been cut by a kill."""
    if path is None or not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
