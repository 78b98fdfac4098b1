"""The head of a safetensors file, read over the network: names, types and shapes of its tensors, and its metadata.

Eight bytes give the length of a JSON object that describes every tensor, so a few kilobytes tell what gigabytes
hold. The file is a stranger's: everything is checked, and nothing longer than HEADER_LIMIT is read.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubError, HubUnreachableError
from manifests.generator import WeightFile

HEADER_LIMIT = 16 * 2**20
"""Bytes. A checkpoint of 2,500 tensors has a header of 0.3 MB; trainers add some of metadata."""
FIRST_READ = 64 * 2**10
"""Bytes read at first: the whole header of most adapters."""
_SNIFFED = 4096

DTYPE_BYTES: Mapping[str, int] = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one element of each type that safetensors names."""


class BadHeaderError(ValueError):
    """The file does not begin as a safetensors file does; the message says how."""


@dataclass(frozen=True)
class Tensor:
    """One tensor's type, as safetensors names it, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """What the header says: the tensors by name, and the free text that whoever saved the file put beside them."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def main_dtype(self) -> str | None:
        """The type that most elements have."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.dtype] += tensor.elements
        return counts.most_common(1)[0][0] if counts else None


def read_header(client: HubClient, repo_id: str, revision: str, file: WeightFile) -> SafetensorsHeader:
    """Read the header of a file of a repo, with one request or two.

    Raises:
        BadHeaderError: it is none.
        HubError: the hub did not give it.
    """
    if file.size < 8:
        raise BadHeaderError(f"{file.path} has {file.size} bytes")
    start = client.read_range(repo_id, revision, file.path, 0, min(FIRST_READ, file.size))
    length = header_length(start, file)
    if 8 + length > len(start):
        start += client.read_range(repo_id, revision, file.path, len(start), 8 + length - len(start))
    if len(start) < 8 + length:
        raise BadHeaderError(f"{file.path} ends within its header")
    return parse_header(start[8 : 8 + length], file)


def header_length(start: bytes, file: WeightFile) -> int:
    """Return the length that the first eight bytes announce.

    Raises:
        BadHeaderError: more than there is or than is read.
    """
    if len(start) < 8:
        raise BadHeaderError(f"{file.path} ends within its first eight bytes")
    length = int.from_bytes(start[:8], "little")
    if length > file.size - 8 or length < 2:
        raise BadHeaderError(f"{file.path} announces a header of {length} bytes and has {file.size}")
    if length > HEADER_LIMIT:
        raise BadHeaderError(f"{file.path} announces a header of {length} bytes; no more than {HEADER_LIMIT} are read")
    return length


def parse_header(text: bytes, file: WeightFile) -> SafetensorsHeader:
    """Check a header's JSON against the file that it is the header of.

    Raises:
        BadHeaderError: not a JSON object, or a tensor that cannot lie in the file.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadHeaderError(f"{file.path}: the header is not JSON: {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise BadHeaderError(f"{file.path}: the header is a JSON {type(content).__name__}, not an object")
    given = content.pop("__metadata__", {})
    metadata = {key: value for key, value in given.items() if isinstance(value, str)} if isinstance(given, dict) else {}
    room = file.size - 8 - len(text)
    tensors = {}
    for name, entry in content.items():
        if (tensor := _tensor(entry, room)) is None:
            raise BadHeaderError(f"{file.path}: {name[:80]!r} is not the description of a tensor in this file")
        tensors[name] = tensor
    return SafetensorsHeader(tensors, metadata)


def _tensor(entry: Any, room: int) -> Tensor | None:
    if not isinstance(entry, dict):
        return None
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _whole_numbers(shape, 8) or not _whole_numbers(offsets, 2):
        return None
    if len(offsets) != 2 or not (first := offsets[0]) <= (last := offsets[1]) <= room:
        return None
    tensor = Tensor(dtype, tuple(shape))
    width = DTYPE_BYTES.get(dtype)
    return tensor if width is None or tensor.elements * width == last - first else None


def _whole_numbers(value: Any, most: int) -> TypeGuard[list[int]]:
    """True for a list of at most so many whole numbers; none is so large that computing with it takes long."""
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(item) is int and 0 <= item < 2**48 for item in value)


def stored_dtype(client: HubClient, repo_id: str, revision: str, file: WeightFile) -> str | None:
    """Return the type of most of the first tensors that a file describes, from its first four kilobytes.

    None where they do not tell: it serves an estimate, and a file that is no safetensors file is for others to judge.

    Raises:
        HubUnreachableError, ClientClosedError: nobody answers, or waits for it, any more.
    """
    try:
        start = client.read_range(repo_id, revision, file.path, 0, min(_SNIFFED, file.size)) if file.size > 8 else b""
    except (HubUnreachableError, ClientClosedError):
        raise
    except HubError:
        return None
    told = Counter(re.findall(rb'"dtype"\s*:\s*"([A-Z0-9_]{2,8})"', start[8:]))
    named = [name.decode() for name, _ in told.most_common() if name.decode() in DTYPE_BYTES]
    return named[0] if named else None
