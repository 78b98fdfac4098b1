"""Does anybody answer at a cluster's address? Ray itself would try for minutes, and log raw lines meanwhile."""

import socket
from urllib.parse import urlsplit

from manifests.errors import InputError

SECONDS = 5.0


def probe(address: str) -> None:
    """Open and close a connection to `address` when it has the form HOST:PORT or ray://HOST:PORT.

    Raises:
        InputError: nothing listens there.
    """
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(
            f"execute.ray_address = {address!r}: {error}; allowed: HOST:PORT, ray://HOST:PORT or auto"
        ) from error
    if host is None or port is None:
        return  # `auto`, or a word that Ray itself refuses at once
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError as error:
        raise InputError(
            f"execute.ray_address: no Ray cluster answers at {address!r}: {error.strerror or error}"
        ) from error
