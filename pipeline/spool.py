"""Each worker process spools in a folder of its own; what dead ones left behind is swept when the next one starts."""

import os
import re
import shutil
from pathlib import Path

import psutil

_OWNED = re.compile(r"(?:.*-)?(\d+)(?:\.log)?")


def own_spool(root: Path) -> Path:
    """Return this process's spool folder below `root`, after removing those of processes that are gone."""
    root.mkdir(parents=True, exist_ok=True)
    for entry in root.iterdir():
        owner = _OWNED.fullmatch(entry.name)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    own = root / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own
