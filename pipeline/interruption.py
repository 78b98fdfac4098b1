"""Ctrl-C and SIGTERM: one way out for both."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - a wish of the user's, not an error
    """The run was told to stop: everything committed stays, nothing half-done was committed."""


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM, which schedulers and `kill` send, into KeyboardInterrupt while the block runs."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
