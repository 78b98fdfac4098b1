"""The one exception for a mistake that the user can mend; the CLI prints it and exits with 2."""

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A disk or a quota has no room left."""


class InputError(Exception):
    """Wrong input: names the file, key and value at fault and what is allowed.

    The message is complete as it stands; nothing adds a traceback to it.
    """


def system_words(error: OSError) -> str:
    """What the system says, and what to do about a disk or quota without room.

    A command that could not write goes on where it stood, so the same one is to be run again.
    """
    said = error.strerror or str(error)
    return f"{said}; free space, then run the same command again" if error.errno in FULL else said
