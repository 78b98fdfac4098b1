"""The processes of one campaign and of nobody else: each has the campaign's folder in its environment."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

WORKER = "pipeline.worker_process"
DOWNLOAD = "crawlers.fetching.download_process"


class Processes:
    """Finds them. Zombies and processes that end meanwhile are not among what is found."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def all(self) -> Iterator[psutil.Process]:
        """Yield every process of the campaign, Ray's and the drivers' included."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("COMMFORGE_CHAOS") == self._folder:
                    yield process

    def workers(self) -> list[psutil.Process]:
        """Worker processes: those that sample, and spares."""
        return [process for process in self.all() if _runs(process, WORKER)]

    def supervisors(self) -> list[psutil.Process]:
        """The parents of worker processes that are Ray actors."""
        found = {}
        for worker in self.workers():
            with suppress(psutil.Error):
                parent = worker.parent()
                if parent is not None and parent.cmdline()[0].startswith("ray::"):
                    found[parent.pid] = parent
        return list(found.values())

    def leftovers(self) -> list[psutil.Process]:
        """Workers and downloads: what must not outlive a driver."""
        return [process for process in self.all() if _runs(process, WORKER) or _runs(process, DOWNLOAD)]

    def wait_until_none(self, seconds: float) -> list[psutil.Process]:
        """Wait until the driver has left nothing behind, and return what is still there after `seconds`."""
        wait_for(lambda: not self.leftovers(), seconds)
        return self.leftovers()


def _runs(process: psutil.Process, module: str) -> bool:
    with suppress(psutil.Error):
        return module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until it holds, `seconds` at most; return whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
