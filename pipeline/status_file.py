"""status.json: the driver's last snapshot, rewritten whole every few seconds while it samples.

For `commforge status` and dashboards. Nothing is decided by it: what it counts of images is in the commits, and its
sums of bytes and seconds are worth no more than the few seconds that a kill takes from them.
"""

import json
import os
from pathlib import Path
from typing import Any


def write_status(path: Path, document: dict[str, Any]) -> bool:
    """Replace the file at once, without a sync. Returns False, and leaves the old one, when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(path)
    except OSError:  # such as a full disk, which the next commit will meet and name
        return False
    return True


def read_status(path: Path) -> dict[str, Any]:
    """Return the last snapshot; empty when there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
