"""How results are printed: one JSON document for programs, a table or plain lines for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_IN_TERMINAL = sys.stdout.isatty()
_WIDE = 400
"""Columns of a table that goes to a file or a pipe: nothing is folded there."""


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output; numbers are set right."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) or row[number] is None for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=not _IN_TERMINAL)
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    console = Console() if _IN_TERMINAL else Console(width=_WIDE)
    console.print(table, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
