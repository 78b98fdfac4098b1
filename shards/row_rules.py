"""What a row must satisfy before any byte of it is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from shards.image_formats import IMAGE_FORMATS
from shards.schema import BY_NAME, COLUMNS, Column, empty_row
from shards.statuses import Reason, Status

_INTEGER_BITS = {"int8": 8, "int32": 32, "int64": 64}
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WITH_IMAGE = (Status.ok, Status.flagged, Status.degenerate)
_LONGEST_IMAGE = 8**11 - 1  # what a ustar header can say: 8 GiB less one byte


class RowError(ValueError):
    """A row that the format does not allow. Names the image, the column, the value and what is allowed."""


def checked_row(row: Mapping[str, Any], image: bytes | None) -> dict[str, Any]:
    """`row` with every column in schema order and plain Python values, or RowError.

    `image` is the encoded image that goes with the row, or None. The columns that the writer fills (file, offset,
    length) must be absent or null; sha256 may be given and must then be true.
    """
    unknown = sorted(set(row) - set(BY_NAME))
    if unknown:
        raise RowError(
            f"row {row.get('image_id')!r}: unknown column {unknown[0]!r}; the columns are {', '.join(BY_NAME)}"
        )
    merged = empty_row() | dict(row)
    who = f"row {merged['image_id']!r}"
    plain = {column.name: _checked_value(who, column, merged[column.name]) for column in COLUMNS}
    _check_identity(who, plain)
    _check_outcome(who, plain)
    _check_image(who, plain, image)
    return plain


def _checked_value(who: str, column: Column, value: object) -> object:
    if hasattr(value, "dtype") and hasattr(value, "item"):  # a numpy scalar, as array libraries hand them out
        value = value.item()
    if value is None:
        if column.required:
            raise RowError(f"{who}: column {column.name!r} must not be null")
        return None
    if column.type == "string" and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"{who}: column {column.name!r} is not valid Unicode: {value!r}") from error
        return str(value)
    if column.type == "bool" and isinstance(value, bool):
        return value
    if column.type == "float64" and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise RowError(f"{who}: column {column.name!r} is {value!r}; it must be finite, or null")
        return float(value)
    if column.type in _INTEGER_BITS and isinstance(value, int) and not isinstance(value, bool):
        limit = 2 ** (_INTEGER_BITS[column.type] - 1)
        if not -limit <= value < limit:
            raise RowError(f"{who}: column {column.name!r} is {value}; it must fit {column.type}")
        return value
    raise RowError(f"{who}: column {column.name!r} is {value!r} ({type(value).__name__}); it must be {column.type}")


def _check_identity(who: str, row: Mapping[str, Any]) -> None:
    if not _ID.fullmatch(row["image_id"]):
        raise RowError(f"{who}: column 'image_id' must be 32 hex digits")
    if row["label"] not in (0, 1):
        raise RowError(f"{who}: column 'label' is {row['label']}; it must be 0 (real) or 1 (fake)")
    for name in ("generation", "batch", "slot", "seed"):
        if row[name] is not None and row[name] < 0:
            raise RowError(f"{who}: column {name!r} is {row[name]}; it must not be negative")
    if row["call_kwargs"] is not None:
        try:
            call = json.loads(row["call_kwargs"])
        except json.JSONDecodeError as error:
            raise RowError(f"{who}: column 'call_kwargs' is not JSON: {error}") from error
        if not isinstance(call, dict):
            raise RowError(f"{who}: column 'call_kwargs' must be a JSON object")


def _check_outcome(who: str, row: Mapping[str, Any]) -> None:
    if row["status"] not in list(Status):
        raise RowError(f"{who}: column 'status' is {row['status']!r}; allowed: {', '.join(Status)}")
    if row["reason"] not in list(Reason):
        raise RowError(f"{who}: column 'reason' is {row['reason']!r}; allowed: {', '.join(Reason)}")
    if Reason(row["reason"]).status != row["status"]:
        expected = ", ".join(reason for reason in Reason if reason.status == row["status"])
        raise RowError(f"{who}: reason {row['reason']!r} cannot have status {row['status']!r}; its reasons: {expected}")


def _check_image(who: str, row: Mapping[str, Any], image: bytes | None) -> None:
    for name in ("file", "offset", "length"):
        if row[name] is not None:
            raise RowError(f"{who}: column {name!r} is filled by the writer; leave it null")
    if row["sha256"] is not None and not _SHA256.fullmatch(row["sha256"]):
        raise RowError(f"{who}: column 'sha256' must be 64 hex digits")
    if image is None:
        if row["status"] == Status.ok:
            raise RowError(f"{who}: status 'ok' needs an image")
        return
    if row["status"] not in _WITH_IMAGE:
        raise RowError(f"{who}: status {row['status']!r} has no image, but one was given")
    if not 0 < len(image) <= _LONGEST_IMAGE:
        raise RowError(f"{who}: the image has {len(image)} bytes; allowed: 1 to {_LONGEST_IMAGE}")
    for name in ("width", "height", "format", "mode"):
        if row[name] is None:
            raise RowError(f"{who}: column {name!r} must not be null when there is an image")
    if row["width"] < 1 or row["height"] < 1:
        raise RowError(f"{who}: width {row['width']} and height {row['height']} must be at least 1 pixel")
    known = IMAGE_FORMATS.get(row["format"])
    if known is None:
        raise RowError(f"{who}: column 'format' is {row['format']!r}; allowed: {', '.join(IMAGE_FORMATS)}")
    if not known.begins(bytes(image[:64])):
        raise RowError(f"{who}: the image's bytes are not {known.name} (they begin with {bytes(image[:12])!r})")
