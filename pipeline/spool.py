"""Each worker process spools in a folder of its own; what dead ones left behind is swept when the next one starts.

Names begin with host and process id, so that a spool which several hosts share is swept by each for itself.
"""

import os
import re
import shutil
import socket
from pathlib import Path

import psutil


def owned_name() -> str:
    """Return what the names of this process's spool entries begin with."""
    return f"{socket.gethostname()}-{os.getpid()}"


def own_spool(root: Path) -> Path:
    """Return this process's spool folder below `root`, after removing what dead processes of this host left there."""
    root.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(socket.gethostname()) + r"-(\d+)(?:\..*)?")
    for entry in root.iterdir():
        owner = pattern.fullmatch(entry.name)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)  # another worker may be sweeping it too
        else:
            entry.unlink(missing_ok=True)
    own = root / owned_name()
    own.mkdir(exist_ok=True)
    return own
