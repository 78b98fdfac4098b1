"""Which of the wished generators is fetched ahead now, and what becomes of it."""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from crawlers.fetching.downloader import CancelledError, Downloader
from crawlers.fetching.held_folders import HeldFolders
from manifests.errors import InputError
from shards.statuses import Reason, UnitFailure

Wish = TypeVar("Wish", bound=Hashable)
Bring = Callable[[Wish, Callable[[Downloader], object]], HeldFolders]


@dataclass
class _Job(Generic[Wish]):
    """A wish that is being fetched."""

    wish: Wish
    downloader: Downloader | None = None
    joined: bool = False
    done: bool = False
    held: HeldFolders | None = None
    error: UnitFailure | InputError | CancelledError | None = None

    def cancel(self) -> None:
        if self.downloader is not None:
            self.downloader.kill()


class Prefetcher(Generic[Wish]):
    """Fetches wishes one at a time, in order, on a thread that is started by the first; holds what it has fetched."""

    def __init__(self, bring: Bring[Wish], ahead: int) -> None:
        """Args:
        bring: fetches a wish and tells which downloader it uses.
        ahead: how many wishes to have ready.
        """
        self._bring, self._ahead = bring, ahead
        self._changed = threading.Condition()
        self._wishes: list[Wish] = []
        self._ready: dict[Wish, HeldFolders] = {}
        self._failed: dict[Wish, UnitFailure | InputError] = {}
        self._job: _Job[Wish] | None = None
        self._thread: threading.Thread | None = None
        self._in_the_way = False
        self._closed = False

    def wish(self, wishes: Sequence[Wish]) -> None:
        """Replace the wishes. What is ready and not wished any more may be evicted; what has begun is finished."""
        with self._changed:
            if self._closed or not self._ahead:
                return
            self._wishes = list(dict.fromkeys(wishes))[: self._ahead]
            self._forget_failures()
            self._failed = {wish: error for wish, error in self._failed.items() if wish in self._wishes}
            for wish in self._ready.keys() - set(self._wishes):
                self._ready.pop(wish).release()
            if self._wishes and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def take(self, wish: Wish) -> HeldFolders | None:
        """Return what was fetched ahead, after waiting for it if it is being fetched; None if it must be fetched now.

        Raises:
            UnitFailure, InputError: the download that was waited for failed.
        """
        with self._changed:
            if wish in self._ready:
                return self._ready.pop(wish)
            job = self._job
            if job is not None and job.wish == wish:
                job.joined = True
                self._changed.wait_for(lambda: job.done)
                return _outcome(job)
            self._wishes = [other for other in self._wishes if other != wish]
            self._failed.pop(wish, None)
            if job is not None and job.wish not in self._wishes:
                job.cancel()  # nobody waits for it, and it shares the line with what is needed now
        return None

    def give_way(self) -> None:
        """Leave all room to what is needed now: end the job, let go of what is ready, begin nothing until `resume`."""
        with self._changed:
            self._in_the_way = True
            for held in self._ready.values():
                held.release()
            self._ready.clear()
            job = self._job
            if job is not None:
                job.cancel()
                self._changed.wait_for(lambda: job.done)

    def resume(self) -> None:
        """Go on after `give_way`; what failed for want of room may be tried again."""
        with self._changed:
            self._in_the_way = False
            self._forget_failures()
            self._changed.notify_all()

    def close(self) -> None:
        """End the job and let go of what is ready."""
        with self._changed:
            self._closed = True
            self._wishes = []
            if self._job is not None:
                self._job.cancel()
            for held in self._ready.values():
                held.release()
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _forget_failures(self) -> None:
        """Let what failed for want of room be tried again."""
        self._failed = {wish: error for wish, error in self._failed.items() if not _for_want_of_room(error)}

    def _next(self) -> Wish | None:
        if self._in_the_way:
            return None
        return next((wish for wish in self._wishes if wish not in self._ready and wish not in self._failed), None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next() is not None)
                wish = self._next()
                if self._closed or wish is None:
                    return
                job = self._job = _Job(wish)
            try:
                self._carry_out(job)
            finally:  # whoever waits for the job must learn of its end, even by a bug of ours
                with self._changed:
                    self._job = None
                    job.done = True
                    self._settle(job)
                    self._changed.notify_all()

    def _carry_out(self, job: _Job[Wish]) -> None:
        def using(downloader: Downloader) -> None:
            with self._changed:
                job.downloader = downloader
                if self._closed or self._in_the_way:
                    downloader.kill()

        try:
            job.held = self._bring(job.wish, using)
        except (UnitFailure, InputError, CancelledError) as error:
            job.error = error

    def _settle(self, job: _Job[Wish]) -> None:
        """Keep what came if it is wished still, and do not try again at once what did not."""
        if job.held is not None and not job.joined:
            if job.wish in self._wishes and not self._closed and not self._in_the_way:
                self._ready[job.wish] = job.held
            else:
                job.held.release()
        if isinstance(job.error, (UnitFailure, InputError)):
            self._failed[job.wish] = job.error


def _outcome(job: _Job[Wish]) -> HeldFolders | None:
    """Return what the job brought, or None where another attempt, made with more patience, may bring it."""
    if isinstance(job.error, InputError):
        raise job.error
    if isinstance(job.error, UnitFailure) and job.error.reason not in (Reason.disk_budget, Reason.download_failed):
        raise job.error
    return job.held


def _for_want_of_room(error: UnitFailure | InputError) -> bool:
    """True if the job was only too polite to wait for room."""
    return isinstance(error, UnitFailure) and error.reason is Reason.disk_budget
