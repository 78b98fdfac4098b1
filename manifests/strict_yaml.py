"""Load YAML files strictly: every mistake is one InputError that names file, line, key, value and what is allowed."""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from manifests.errors import InputError
from manifests.overrides import apply_overrides
from manifests.problems import Problem, problems_of
from manifests.yaml_text import DataPath, Document, parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path) -> Document:
    """Return a file's data and where each value is in it.

    Raises:
        InputError: the file is missing, a folder, unreadable, not UTF-8, empty, or not YAML (see manifests.yaml_text).
    """
    document = parse_yaml(_read_text(path), str(path))
    if document.data is None:
        raise InputError(f"{path}: the file is empty")
    return document


def load_model(path: Path, model_class: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Return a file's content as a model; `overrides` are the values of `--set`, such as `sample.batch_size=4`.

    Values are taken as they are: text is not read as a number, nor a number as text.

    Raises:
        InputError: see `load_yaml`; or the content is not a valid model: one message lists every problem.
    """
    return as_model(load_yaml(path), model_class, overrides)


def as_model(document: Document, model_class: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Return a parsed document as a model; see `load_model`.

    Raises:
        InputError: the document is not a valid model: one message lists every problem.
    """
    data, origins = apply_overrides(document.data, overrides)
    try:
        # JSON mode, because there "strict" still takes a list for a tuple and text for a path.
        return model_class.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems = problems_of(error, model_class)
    lines = [line for _, line in sorted(_line(problem, document, origins) for problem in problems)]
    if len(lines) == 1:
        raise InputError(lines[0])
    raise InputError(f"{document.name}: {len(lines)} problems\n" + "\n".join(f"  {line}" for line in lines))


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: this is a folder; a YAML file is needed") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        words = f"not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        raise InputError(f"{path}:{line}:{column}: {words}") from error


def _line(problem: Problem, document: Document, origins: dict[DataPath, str]) -> tuple[tuple[int, int], str]:
    """One problem as a line (where, key = value, words), after its place in the file for sorting."""
    position, depth = document.locate(problem.path)
    where = f"{document.name}:{position.line}" if position else document.name
    order = (position.line, position.column) if position else (0, 0)
    origin = max(origins, key=lambda path: _common_length(path, problem.path), default=None)
    if origin is not None:
        shared = _common_length(origin, problem.path)
        # An override that set the value, or something around it, or that made the section around it.
        if shared == len(origin) or shared > depth:
            where, order = origins[origin], (sys.maxsize, 0)
    key = ".".join(map(str, problem.path))
    if key and problem.value is not None:
        key += f" = {problem.value}"
    return order, ": ".join(part for part in (where, key, problem.words) if part)


def _common_length(one: DataPath, other: DataPath) -> int:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in pairs)
