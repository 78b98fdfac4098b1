"""Speak to a Ray cluster with its token.

Ray turns authentication on by default when it starts a cluster, but a driver that joins one sends its token only when
told to by an environment variable, which must be set before ray is imported.
"""

import os
from pathlib import Path

MODE = "RAY_AUTH_MODE"
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def use_token(address: str | None) -> None:
    """Turn token authentication on unless the user has chosen: always for our own cluster (Ray makes a token), and for
    a cluster that we join when this machine has a token."""
    has_token = any(os.environ.get(name) for name in _TOKEN_VARIABLES) or (Path.home() / ".ray/auth_token").exists()
    if address is None or has_token:
        os.environ.setdefault(MODE, "token")
