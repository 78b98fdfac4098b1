"""How Parquet files are written: every option that shapes the bytes is spelled out, so no new default can change them.

The file still names the Parquet library that wrote it, so byte equality holds within one environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_COMMON: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "use_dictionary": True,
    "store_schema": False,  # the Parquet types say it all; Arrow's own copy would tie the bytes to Arrow's version
}

ROWS_OPTIONS: dict[str, Any] = {**_COMMON, "compression": "snappy", "write_statistics": False}
"""For the rows of one unit: some dozen KiB, one file of thousands, so opening it must be cheap. Half the time of zstd
to write and to read, at about the same size; the reader prunes by commits and needs no statistics."""

INDEX_OPTIONS: dict[str, Any] = {**_COMMON, "compression": "zstd", "compression_level": 3, "write_statistics": True}
"""For index and pairs: large, read by query engines that prune by statistics."""


def write_rows(table: pa.Table, path: Path) -> None:
    """Write the rows of one unit as the Parquet file `path`."""
    pq.write_table(table, path, row_group_size=1 << 17, **ROWS_OPTIONS)
