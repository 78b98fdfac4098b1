"""What the shell sees. Scripts rely on these."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    DONE_WITH_FAILURES = 1
    WRONG_INPUT = 2
    STOPPED_EARLY = 3
    OUR_BUG = 70
