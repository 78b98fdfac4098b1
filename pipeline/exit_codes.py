"""What the shell sees. Scripts rely on these."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command.

    WRONG_INPUT: somebody has to mend something first. STOPPED_EARLY: nobody has; the same command goes on, as after
    Ctrl-C, SIGTERM, or once a hub answers again that stopped to in the middle.
    """

    DONE = 0
    DONE_WITH_FAILURES = 1
    WRONG_INPUT = 2
    STOPPED_EARLY = 3
    OUR_BUG = 70
