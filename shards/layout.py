"""Where things lie inside a DATASET folder: the only place that spells or parses a file name.

Names are relative to DATASET, with "/" between parts, exactly as rows and commits record them.
"""

from __future__ import annotations

import re

from manifests.names import SLUG_PATTERN

MANIFEST = "dataset.json"
LOCK = ".run.lock"
COMMITS = "commits"
IMAGES = "images"
ROWS = "rows"
INDEX = "index/rows.parquet"
COMMIT_CACHE = "index/commits.cache"
PAIRS = "pairs.parquet"

_UNIT = re.compile(r"^[A-Za-z0-9_-]{1,80}$")
_COMMIT = re.compile(r"^(?P<unit>[A-Za-z0-9_-]{1,80})\.(?P<generation>0|[1-9][0-9]{0,8})\.json$")
_SHARD = re.compile(r"^[A-Za-z0-9_-]{1,80}-[0-9a-f]{12}\.(tar|parquet)$")
_GENERATOR = re.compile(SLUG_PATTERN)


def is_unit(unit: str) -> bool:
    """Whether `unit` can be part of a file name: letters, digits, "_" and "-", 80 at most, and no dot."""
    return _UNIT.fullmatch(unit) is not None


def is_generator(generator: str) -> bool:
    """Whether `generator` can name a folder (`manifests.names.Slug`)."""
    return _GENERATOR.fullmatch(generator) is not None


def shard_name(kind: str, generator: str, unit: str, sha256: str) -> str:
    """Name of a shard file; `kind` is IMAGES (a tar) or ROWS (a Parquet file)."""
    extension = {IMAGES: "tar", ROWS: "parquet"}[kind]
    return f"{kind}/{generator}/{unit}-{sha256[:12]}.{extension}"


def is_shard(filename: str) -> bool:
    """Whether a bare file name has the form that the writer gives to shards."""
    return _SHARD.fullmatch(filename) is not None


def commit_name(unit: str, generation: int) -> str:
    """Name of a unit's commit in one generation."""
    return f"{COMMITS}/{unit}.{generation}.json"


def parse_commit(filename: str) -> tuple[str, int] | None:
    """(unit, generation) of a bare commit file name, or None when it is no commit's name."""
    match = _COMMIT.fullmatch(filename)
    return None if match is None else (match["unit"], int(match["generation"]))


def is_relative(name: str) -> bool:
    """Whether a recorded name stays inside the dataset: relative, with no empty, "." or ".." part."""
    return "\\" not in name and all(part not in ("", ".", "..") for part in name.split("/"))
