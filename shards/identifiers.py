"""Names derived from content: image ids, unit ids, file hashes. The same thing has the same name on every machine.

Tuples and objects are hashed through one canonical JSON (sorted keys, no spaces, UTF-8, no NaN), so the boundary
between two fields can never be moved to make two different inputs collide.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_ID_BYTES = 16  # 128 bits: 32 hex digits


def canonical_json(value: object) -> str:
    """`value` as JSON with one spelling only: sorted keys, no spaces, UTF-8 kept, NaN and infinities refused.

    Raises ValueError for NaN or infinity, TypeError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: object) -> str:
    """32 hex digits: 128-bit blake2b of the canonical JSON of `value`. Used for unit ids."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=_ID_BYTES).hexdigest()


def image_id(generator: str, revision: str | None, prompt_id: str | None, index: int) -> str:
    """Id of a draw of a generator, 32 hex digits: known before the image exists, so a failed draw has one too."""
    return content_hash([generator, revision, prompt_id, index])


def real_image_id(data: bytes) -> str:
    """Id of a real image, 32 hex digits: 128-bit blake2b of its source bytes."""
    return hashlib.blake2b(data, digest_size=_ID_BYTES).hexdigest()


def sha256_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits, read in blocks. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
