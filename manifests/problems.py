"""A pydantic ValidationError in words: for each problem the path in the user's data, the value and what is allowed."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from manifests.error_places import Located, Place, locate
from manifests.names import SLUG_PATTERN
from manifests.yaml_text import DataPath

_PATTERN_WORDS = {
    SLUG_PATTERN: "a name of letters, digits, '.', '_' and '-', 128 at most, a letter or digit first",
    r"^[0-9a-f]{40}$": "a full commit sha: 40 digits 0-9 a-f",
    r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$": "a hub repo as owner/name",
    r"^https?://[^\s]+$": "an address that begins with http:// or https://",
}
_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a section of 'key: value' lines",
    "model": "a section of 'key: value' lines",
    "model_attributes": "a section of 'key: value' lines",
    "finite_number": "a finite number",
    "none_required": "null",
}
_QUOTES_HINT = ": put it in quotes"
_MAX_VALUE_CHARACTERS = 80


@dataclass(frozen=True)
class Problem:
    """One thing wrong: where it is in the data, the value there (None when there is none to show), and why."""

    path: DataPath
    value: str | None
    words: str


def problems_of(error: ValidationError, model_class: type[BaseModel]) -> list[Problem]:
    """Return the problems of `error`, which came from validating data as `model_class`.

    Where several types are allowed at one place, pydantic reports the failure of each. Here they become one problem,
    or the problems of the type that was evidently meant: the one that fits in kind and has the fewest.
    """
    errors = [(locate(details["loc"], model_class), details) for details in error.errors(include_url=False)]
    unmeant = _unmeant_arms(errors)
    problems: list[Problem] = []
    for path in dict.fromkeys(located.path for located, _ in errors):
        here = [pair for pair in errors if pair[0].path == path and not unmeant.intersection(pair[0].arms)]
        if not here:
            continue
        value = None if here[0][1]["type"] == "missing" else show_value(here[0][1]["input"])
        words = list(dict.fromkeys(_words(located.place, details) for located, details in here))
        problems.append(Problem(path, value, _either(words)))
    return problems


def show_value(value: Any) -> str | None:
    """Return a value as the user wrote it, cut to a line's length; None for a section or list, which would not fit."""
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str) and value:
        return None
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else text[: _MAX_VALUE_CHARACTERS - 3] + "..."


def _unmeant_arms(errors: list[tuple[Located, ErrorDetails]]) -> set[tuple[DataPath, str]]:
    """The types of unions that were evidently not meant, each as the union's path and pydantic's name of the type."""
    unmeant: set[tuple[DataPath, str]] = set()
    unions = dict.fromkeys(path for located, _ in errors for path, _ in located.arms)
    for path in unions:
        counts: dict[str, int] = {}
        wrong_kind: set[str] = set()
        for located, details in errors:
            for arm in (name for union, name in located.arms if union == path):
                counts[arm] = counts.get(arm, 0) + 1
                if located.path == path and _is_wrong_type(details):
                    wrong_kind.add(arm)
        fitting = counts.keys() - wrong_kind
        if fitting:
            meant = min((arm for arm in counts if arm in fitting), key=lambda arm: counts[arm])
            unmeant |= {(path, arm) for arm in counts if arm != meant}
    return unmeant


def _either(words: list[str]) -> str:
    if len(words) == 1:
        return words[0]
    kinds = [word.removeprefix("must be ").removesuffix(_QUOTES_HINT) for word in words]
    if "a number" in kinds:
        kinds = [kind for kind in kinds if kind != "a whole number"]
    return "must be " + ", ".join(kinds[:-1]) + " or " + kinds[-1]


def _is_wrong_type(details: ErrorDetails) -> bool:
    return details["type"].endswith(("_type", "_parsing"))


def _words(place: Place, details: ErrorDetails) -> str:
    """Say what is allowed at the place of one error."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + _allowed_keys(place.annotation, str(details["loc"][-1]))
    if kind == "missing":
        return "this key is required" + _described(place)
    if kind in ("literal_error", "enum"):
        return "must be " + _choices(context["expected"]) + _guess(details["input"], place.annotation)
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} is {context['tag']!r} but must be " + _choices(context["expected_tags"])
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']} is required: it says which of the forms this is"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return "must be " + _PATTERN_WORDS.get(pattern, f"text of the pattern {pattern}")
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "finite_number" or kind.endswith(("_type", "_parsing", "_from_float")):
        base = kind
        for suffix in ("_type", "_parsing", "_from_float"):
            base = base.removesuffix(suffix)
        if base in _TYPE_WORDS:
            hint = ""
            if base == "string" and isinstance(details["input"], int | float) and place.annotation is str:
                hint = _QUOTES_HINT
            return f"must be {_TYPE_WORDS[base]}{_range(place.metadata)}{hint}"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"):
        noun = "a whole number" if place.annotation is int else "a number"
        return f"must be {noun}{_range(place.metadata)}"
    return details["msg"][:1].lower() + details["msg"][1:]


def _allowed_keys(model_class: Any, key: str) -> str:
    allowed = list(model_class.model_fields)
    near = difflib.get_close_matches(key.lower(), allowed, n=1)
    return (f"; did you mean {near[0]}?" if near else ";") + f" Allowed here: {', '.join(allowed)}"


def _choices(expected: str) -> str:
    return expected if " or " in expected or "," not in expected else "one of " + expected


def _guess(value: Any, annotation: Any) -> str:
    choices = [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _described(place: Place) -> str:
    if get_origin(place.annotation) is Literal:
        return ": " + _choices(" or ".join(repr(choice) for choice in get_args(place.annotation)))
    return ""


def _range(metadata: tuple[Any, ...]) -> str:
    """Say the bounds that a field's metadata (annotated_types) sets."""
    names = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bounds = {name: getattr(item, name) for item in metadata for name in names if hasattr(item, name)}
    if bounds.keys() == {"ge", "le"}:
        return f" from {bounds['ge']} to {bounds['le']}"
    return "".join(f", {names[name]} {bound}" for name, bound in bounds.items())
