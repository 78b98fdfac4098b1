"""What stops a run early, and the same command goes on from: Ctrl-C and SIGTERM, and a hub that answers no more."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from manifests.errors import InputError


class Interrupted(Exception):  # noqa: N818 - a wish of the user's, not an error
    """The run was told to stop: everything committed stays, nothing half-done was committed."""


class Stopped(InputError):  # noqa: N818 - it happens to the run
    """What the run needs has gone. Told in one message, as a mistake is; but nobody has to mend the config, so the exit
    code is that of a run that was stopped."""


class HubOutage(Stopped):
    """The hub stopped to answer."""


class NotFetched(InputError):  # noqa: N818 - it may be there the next time
    """What every unit needs, such as the checker, could not be fetched: by a slow line, or by an outage that was over
    before anybody could tell it from the repo's own trouble."""


class DeviceLost(Stopped):
    """The device of a run that samples in the driver's own process answers no more there."""


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
