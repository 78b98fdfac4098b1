"""A real source of kind `folder`: every image file below a folder."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from captioning.caption_csv import CaptionRow, read_caption_csv
from captioning.image_facts import UnusableImage, read_image_facts
from captioning.real_record import RealRecord, SkippedFile, SourceContents
from manifests.errors import InputError
from manifests.real_source import RealSource
from shards.identifiers import real_image_id, sha256_bytes
from shards.image_formats import IMAGE_FORMATS

_UNSUPPORTED = {
    ".heic",
    ".heif",
    ".jxl",
    ".svg",
    ".psd",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".raw",
    ".exr",
    ".hdr",
}
"""Extensions of images that shards cannot hold: listed as skipped, so that nobody wonders where they went."""

_READERS = 4  # threads; decoding runs outside Python's lock


def read_folder(source: RealSource, base: Path) -> SourceContents:
    """Read a folder: files in path order, each decoded once; symbolic links are followed, hidden names left out.

    An extension is recognised in any case. Files that cannot be decoded and copies of an earlier file (equal bytes,
    so the same image_id) are listed as skipped.

    Raises:
        InputError: no such folder, no usable image in it, or see `read_caption_csv`; also a CSV line about a file that
            is not there.
    """
    folder = base / source.path
    where = f"real source {source.name!r}: path = {folder}"
    if not folder.is_dir():
        raise InputError(f"{where}: " + ("this is a file; a folder is needed" if folder.exists() else "no such folder"))
    images, skipped = _find_images(folder)
    rows: dict[str, CaptionRow] = {}
    if source.captions is not None:
        table = folder / source.captions
        rows = read_caption_csv(table)
        _check_files(table, rows, folder, {*images, *(file.path for file in skipped)})
    records, unusable = _read_all(folder, images[: source.limit], rows, source)
    skipped = sorted([*skipped, *unusable], key=lambda file: file.path)
    if not records:
        reasons = "".join(f"\n  {file.path}: {file.reason}" for file in skipped[:10])
        raise InputError(f"{where}: no usable image in it{reasons}")
    return SourceContents(tuple(records), tuple(skipped))


def _find_images(folder: Path) -> tuple[list[str], list[SkippedFile]]:
    """The image files below `folder` as sorted relative paths, and those whose kind or name cannot be stored."""
    extensions = {suffix for suffix, name in Image.registered_extensions().items() if name in IMAGE_FORMATS}
    found: list[str] = []
    skipped: list[SkippedFile] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            suffix = path.suffix.lower()
            if name.startswith(".") or suffix not in extensions | _UNSUPPORTED:
                continue
            relative = path.relative_to(folder).as_posix()
            if not relative.isprintable():
                printable = relative.encode("utf-8", "backslashreplace").decode()
                skipped.append(SkippedFile(printable, "its name is not printable UTF-8 text"))
            elif suffix in _UNSUPPORTED:
                skipped.append(SkippedFile(relative, f"{suffix} is not supported; allowed: {', '.join(IMAGE_FORMATS)}"))
            else:
                found.append(relative)
    return sorted(found), skipped


def _check_files(table: Path, rows: dict[str, CaptionRow], folder: Path, known: set[str]) -> None:
    for row in rows.values():
        if row.file not in known:
            words = "is not an image file" if (folder / row.file).exists() else f"is not below {folder}"
            raise InputError(f"{table}:{row.line}: file = {row.file!r} {words}")


def _read_all(
    folder: Path, paths: Iterable[str], rows: dict[str, CaptionRow], source: RealSource
) -> tuple[list[RealRecord], list[SkippedFile]]:
    records: list[RealRecord] = []
    skipped: list[SkippedFile] = []
    first_of: dict[str, str] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for path, found in zip(paths, pool.map(lambda path: _read_one(folder / path), paths), strict=True):
            if isinstance(found, str):
                skipped.append(SkippedFile(path, found))
                continue
            sha256, image_id = found
            if sha256 in first_of:
                skipped.append(SkippedFile(path, f"the same bytes as {first_of[sha256]}"))
                continue
            first_of[sha256] = path
            texts = {"content": source.content} | (rows[path].texts if path in rows else {})
            records.append(RealRecord.model_validate({"path": path, "sha256": sha256, "image_id": image_id, **texts}))
    return records, skipped


def _read_one(path: Path) -> tuple[str, str] | str:
    """A file's SHA-256 and image id, or why it cannot be used."""
    try:
        data = path.read_bytes()
        read_image_facts(data)
    except UnusableImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return sha256_bytes(data), real_image_id(data)
