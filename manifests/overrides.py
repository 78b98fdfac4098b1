"""`--set a.b=c`: change one value of a config from the command line. The value is YAML; list items go by index."""

import copy
import re
from collections.abc import Sequence
from typing import Any

from manifests.errors import InputError
from manifests.yaml_text import DataPath, parse_yaml


def apply_overrides(data: Any, overrides: Sequence[str]) -> tuple[Any, dict[DataPath, str]]:
    """Return `data` with the overrides applied in order, and for each changed path the argument that set it.

    `a.0.b=c` goes into the first item of the list `a`; the index after the last appends. Sections that are missing or
    null on the way are made. `data` itself is not changed. What a path may be is left to the model's validation.

    Raises:
        InputError: an argument is not KEY=VALUE, its value is not YAML, or its path leads through a plain value.
    """
    data = copy.deepcopy(data)
    origins: dict[DataPath, str] = {}
    for argument in overrides:
        name = f"--set {argument}"
        key, equals, text = argument.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise InputError(f"{name}: must be KEY=VALUE, such as sample.batch_size=4 or caption.reals.0.limit=10")
        value = parse_yaml(text, name).data
        if data is None:
            data = {}
        path = _put(data, parts, value, name)
        origins = {known: origin for known, origin in origins.items() if known[: len(path)] != path}
        origins[path] = name
    return data, origins


def _put(data: Any, parts: list[str], value: Any, name: str) -> DataPath:
    """Put `value` below `data`, and return its path."""
    path: DataPath = ()
    for place, part in enumerate(parts):
        step = _step(data, part, path, name)
        path = (*path, step)
        if isinstance(data, list) and step == len(data):
            data.append(None)
        if place == len(parts) - 1:
            data[step] = value
        elif isinstance(data, dict):
            if data.get(str(step)) is None:
                data[str(step)] = {}
            data = data[str(step)]
        else:
            if data[step] is None:
                data[step] = {}
            data = data[step]
    return path


def _step(data: Any, part: str, path: DataPath, name: str) -> str | int:
    where = ".".join(map(str, path)) or "the file"
    if isinstance(data, dict):
        return part
    if not isinstance(data, list):
        raise InputError(f"{name}: {where} is a plain value, so it has no key {part!r}")
    if not re.fullmatch("[0-9]+", part) or int(part) > len(data):
        allowed = f"0 to {len(data) - 1}, or {len(data)} to append" if data else "0 to append"
        raise InputError(f"{name}: {where} is a list, so {part!r} must be the number of an item: {allowed}")
    return int(part)
