"""Append-only files of JSON lines that survive a kill at any byte: a torn last line counts as never written."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


def append_line(file: BinaryIO, line: Mapping[str, Any], *, flush: bool = True) -> None:
    """Append one line. With `flush` it is in the hands of the system: the writer may be killed and it stays."""
    file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    if flush:
        file.flush()


def read_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (line, offset of its end); stops before a torn line. Nothing for a file that is not there."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            try:
                line = json.loads(raw.decode())  # decoded here: json.loads would guess the encoding of each line
            except ValueError:
                return
            end += len(raw)
            yield line, end


def open_after_last_line(path: Path) -> BinaryIO:
    """Open for appending, cut behind the last whole line."""
    end = 0
    for _, end in read_lines(path):  # noqa: B007 - only the last is wanted
        pass
    file = path.open("ab")
    file.truncate(end)
    return file


def sync(file: BinaryIO) -> None:
    """Put everything written so far on the disk."""
    file.flush()
    os.fsync(file.fileno())
