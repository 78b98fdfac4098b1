"""A download process, seen from the process that wants the files."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from crawlers.fetching.download import Moved
from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.download_plan import DISK_FULL, NOTHING_FITS
from crawlers.fetching.xet_cache import xet_environment
from crawlers.hub.hub_client import DEFAULT_ENDPOINT
from crawlers.hub.hub_errors import redact
from manifests.errors import InputError
from shards.statuses import Reason, UnitFailure

_GRACE_SECONDS = 3.0
_SHORT_OF_DEADLINE = 0.9
"""Share of a download's time after which it stops waiting for room and says what it waited for."""


Kept = TypeVar("Kept")


class CancelledError(Exception):
    """The download was ended by `Downloader.kill`."""


class Downloader:
    """One download process; started by the first order, it serves one order at a time until it is killed."""

    def __init__(self, endpoint: str, cache_dir: Path, token: str | None, disk_budget: int | None = None) -> None:
        self._endpoint, self._cache_dir, self._token, self._disk_budget = endpoint, cache_dir, token, disk_budget
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._complaints: IO[bytes] | None = None
        self._killed = False
        self._starting = threading.Lock()

    @property
    def usable(self) -> bool:
        """False once it was killed, or its process has ended."""
        return not self._killed and (self._process is None or self._process.poll() is None)

    def carry_out(
        self,
        orders: Sequence[DownloadOrder],
        timeout_seconds: float,
        *,
        patient: bool = True,
        short: Callable[[], object] = lambda: None,
        arrived: Callable[[], Kept],
    ) -> tuple[Moved, Kept]:
        """Carry out orders that are wanted together.

        Args:
            timeout_seconds: for everything, however slowly bytes come in.
            patient: wait for models in use to leave room in the disk budget.
            short: called when such a wait begins.
            arrived: called while the process holds its pins, to set one's own; what it returns is returned.

        Raises:
            UnitFailure: why the files cannot be had, or download_timeout.
            InputError: the disk is full, or other tools' files leave nothing of the disk budget.
            CancelledError: `kill` was called meanwhile.
        """
        name = " and ".join(dict.fromkeys(order.repo_id for order in orders))
        deadline = time.monotonic() + timeout_seconds
        try:
            self._tell(orders, timeout_seconds * _SHORT_OF_DEADLINE if patient else 0.0)
            while True:
                answer = self._hear(deadline, name, timeout_seconds)
                if "short" not in answer:
                    break
                short()
            kept = [arrived()] if "moved" in answer else []
        except BaseException:
            self.kill()  # it may be in the middle of an order, and an answer to come would be taken for the next one's
            raise
        if kept:
            self._tell([], 0.0)
            return Moved(**answer["moved"]), kept[0]
        if answer["reason"] == DISK_FULL:
            where = f"{self._cache_dir} is full while fetching {name}"
            mend = "free space there, then run the same command again"
            raise InputError(f"hub.cache: the disk of {where}: {answer['detail']}; {mend}")
        if answer["reason"] == NOTHING_FITS:
            raise InputError(f"hub.disk_budget: {self._cache_dir} cannot take {name}: {answer['detail']}")
        raise UnitFailure(Reason(answer["reason"]), f"{name}: {answer['detail']}")

    def kill(self) -> None:
        """End the process at once; the order that it is carrying out, if any, raises CancelledError."""
        with self._starting:
            self._killed = True
            process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _tell(self, orders: Sequence[DownloadOrder], patience: float) -> None:
        with self._starting:
            process = self._process or self._start()
        line = {"orders": [order.model_dump(mode="json") for order in orders], "patience": patience}
        assert process.stdin is not None
        # If it has ended there will be no answer, and that is told.
        with contextlib.suppress(BrokenPipeError, ValueError):
            print(json.dumps(line), file=process.stdin, flush=True)

    def _hear(self, deadline: float, name: str, timeout_seconds: float) -> dict[str, Any]:
        try:
            line = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty as error:
            raise UnitFailure(
                Reason.download_timeout, f"{name}: not downloaded within {timeout_seconds:g} s"
            ) from error
        if line is None:
            raise self._ended(name)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, name: str) -> Exception:
        if self._killed or self._process is None or self._complaints is None:
            return CancelledError(name)
        code = self._process.wait()
        self._complaints.seek(0)
        complaints = self._complaints.read().decode(errors="replace").strip().splitlines()
        last = redact(complaints[-1] if complaints else "nothing", self._token)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return UnitFailure(Reason.download_failed, f"{name}: the download ended with {how}: {last}")

    def _start(self) -> "subprocess.Popen[str]":
        if self._killed:
            raise CancelledError("before it began")
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        process = subprocess.Popen(
            [sys.executable, "-m", "crawlers.fetching.download_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=download_environment(self._endpoint, self._cache_dir),
        )
        self._process = process
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        settings = {
            "endpoint": self._endpoint,
            "cache_dir": str(self._cache_dir),
            "token": self._token,  # through the pipe: arguments and environment can be read by others
            "parent": os.getpid(),
            "disk_budget": self._disk_budget,
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(settings), file=process.stdin, flush=True)
        return process

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as said:
            for line in said:
                self._said.put(line)
        self._said.put(None)


def download_environment(endpoint: str, cache_dir: Path) -> dict[str, str]:
    """Return the variables of a process that downloads: the hub client is quiet and keeps nothing outside the cache."""
    quiet = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "error",
        "HF_ENDPOINT": endpoint,
        # The client's store of shared files lies outside the repos: what is evicted from a repo would stay there.
        "HF_HUB_DISABLE_SHARED_BLOBS": "1",
    }
    if endpoint != DEFAULT_ENDPOINT:
        quiet["HF_HUB_DISABLE_XET"] = "1"  # the chunk store is a service of the public hub alone
    return os.environ | quiet | xet_environment(cache_dir)
