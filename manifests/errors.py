"""The one exception for a mistake that the user can mend; the CLI prints it and exits with 2."""


class InputError(Exception):
    """Wrong input: names the file, key and value at fault and what is allowed.

    The message is complete as it stands; nothing adds a traceback to it.
    """
