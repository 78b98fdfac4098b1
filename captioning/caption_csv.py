"""The CSV that says more of a source's images: caption, photograph, class label, content."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests.errors import InputError

TEXT_COLUMNS = ("caption", "photograph", "class_label", "content")


@dataclass(frozen=True)
class CaptionRow:
    """One line: the image file it is about and its texts by column; blank ones are left out."""

    line: int
    file: str
    texts: dict[str, str]


def read_caption_csv(path: Path) -> dict[str, CaptionRow]:
    """Return the rows by image file. UTF-8, comma separated; the header is `file` and any of TEXT_COLUMNS.

    Raises:
        InputError: names file and line: unreadable, not UTF-8, an unknown, missing or repeated column, a line with
            another number of fields, no file name, a path that leaves the folder, or a file named twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; it is the real source's key 'captions'") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8 text (byte 0x{error.object[error.start]:02x})") from error
    lines = _numbered(path, text)
    header = next(lines, None)
    if header is None:
        raise InputError(f"{path}: the file is empty; its first line must be the header: {_allowed()}")
    columns = _checked_header(path, header[1])
    rows: dict[str, CaptionRow] = {}
    for number, fields in lines:
        row = _row(path, number, columns, fields)
        if row.file in rows:
            raise InputError(f"{path}:{number}: file = {row.file!r} is already on line {rows[row.file].line}")
        rows[row.file] = row
    return rows


def _numbered(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the number of its first line."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}:{start}: not valid CSV: {error}") from error
        if fields:
            yield start, fields


def _checked_header(path: Path, fields: list[str]) -> list[str]:
    columns = [field.strip() for field in fields]
    for column in columns:
        if column not in ("file", *TEXT_COLUMNS):
            raise InputError(f"{path}:1: unknown column {column!r}; allowed: {_allowed()}")
        if columns.count(column) > 1:
            raise InputError(f"{path}:1: the column {column!r} is there twice")
    if "file" not in columns:
        raise InputError(f"{path}:1: there is no column 'file'; allowed: {_allowed()}")
    return columns


def _row(path: Path, line: int, columns: list[str], fields: list[str]) -> CaptionRow:
    if len(fields) != len(columns):
        raise InputError(
            f"{path}:{line}: {len(fields)} fields, but the header has {len(columns)}; text with a comma needs quotes"
        )
    values = {column: value.strip() for column, value in zip(columns, fields, strict=True)}
    name = values.pop("file")
    if not name:
        raise InputError(f"{path}:{line}: file is blank")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{path}:{line}: file = {name!r} must be relative to the source's folder, and inside it")
    return CaptionRow(line, str(relative), {column: value for column, value in values.items() if value})


def _allowed() -> str:
    return ", ".join(("file", *TEXT_COLUMNS))
