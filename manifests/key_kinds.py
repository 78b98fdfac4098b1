"""Every config key is identity, extent or runtime: what a change of it means for a dataset that already has images.

* identity: affects bytes. A change is refused, with the differing keys named.
* extent: how much there is (which generators, how many images). A change adds; what exists stays.
* runtime: workers, paths, executors. Ignored.

A field is marked where it is defined (`count: int = extent(0, ge=0)`). A field that holds another model needs no mark:
its own fields carry them. If such a field may be null it needs one, because being null is a setting of its own.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

ABSENT: Final = "(absent)"
"""Stands for a setting that one of two compared sides does not have."""

_MARK: Final = "key_kind"


class KeyKind(StrEnum):
    """What a change of the key means for a dataset that already has images."""

    identity = "identity"
    extent = "extent"
    runtime = "runtime"


def identity(default: Any, **field_kwargs: Any) -> Any:
    """Return a pydantic field whose value affects bytes; arguments as for `pydantic.Field`."""
    return _marked(KeyKind.identity, default, field_kwargs)


def extent(default: Any, **field_kwargs: Any) -> Any:
    """Return a pydantic field that says how much there is; arguments as for `pydantic.Field`."""
    return _marked(KeyKind.extent, default, field_kwargs)


def runtime(default: Any, **field_kwargs: Any) -> Any:
    """Return a pydantic field that affects no byte; arguments as for `pydantic.Field`."""
    return _marked(KeyKind.runtime, default, field_kwargs)


def identity_settings(model: BaseModel) -> dict[str, Any]:
    """Return every identity key of a config and its value as JSON holds it, by dotted key.

    A null section is one key with the value None; otherwise each of its keys stands for itself.

    Raises:
        TypeError: a key is unmarked (see `check_marked`).
    """
    check_marked(type(model))
    return dict(_identity_items(model, model.model_dump(mode="json"), ""))


def kind_of(model_class: type[BaseModel], dotted_key: str) -> KeyKind:
    """Return the kind of a key such as `sample.batch_size`; items of a list or mapping have the kind of the whole.

    Raises:
        KeyError: there is no such key, or it is a section, whose keys may be of different kinds.
    """
    current: type[BaseModel] | None = model_class
    kind: KeyKind | None = None
    for part in dotted_key.split("."):
        if current is None:
            break  # below a leaf: an item of a list or mapping
        if part not in current.model_fields:
            raise KeyError(dotted_key)
        field = current.model_fields[part]
        kind = _mark_of(field)
        section = _section_of(field)
        current = section if section and (kind is None or _has_marks(section)) else None
    if kind is None:
        raise KeyError(dotted_key)
    return kind


def check_marked(model_class: type[BaseModel]) -> None:
    """Check that every key of a config class is marked.

    Raises:
        TypeError: names the keys without a mark.
    """
    unmarked = list(_unmarked(model_class, ""))
    if unmarked:
        names = ", ".join(unmarked)
        raise TypeError(f"{model_class.__name__} has keys not marked identity, extent or runtime: {names}")


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) for each setting that differs, in key order.

    A side without the key has `ABSENT`. A section that is null on one side only is reported once, as a whole.
    """
    old, new = _fold_null_sections(old, new), _fold_null_sections(new, old)
    keys = sorted(old.keys() | new.keys())
    pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]
    return [(key, before, after) for key, before, after in pairs if before != after]


def _marked(kind: KeyKind, default: Any, field_kwargs: dict[str, Any]) -> Any:
    extra = {**field_kwargs.pop("json_schema_extra", {}), _MARK: kind.value}
    if "default_factory" in field_kwargs:
        raise TypeError("give the default itself: pydantic copies a mutable one for each model")
    return Field(default, json_schema_extra=extra, **field_kwargs)


def _mark_of(field: FieldInfo) -> KeyKind | None:
    extra = field.json_schema_extra
    return KeyKind(str(extra[_MARK])) if isinstance(extra, dict) and _MARK in extra else None


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds, possibly next to null; None for any other field."""
    arms = [arm for arm in _arms(field.annotation) if arm is not type(None)]
    if len(arms) == 1 and isinstance(arms[0], type) and issubclass(arms[0], BaseModel):
        return arms[0]
    return None


def _arms(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _has_marks(model_class: type[BaseModel]) -> bool:
    return any(
        _mark_of(field) or ((section := _section_of(field)) and _has_marks(section))
        for field in model_class.model_fields.values()
    )


def _unmarked(model_class: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model_class.model_fields.items():
        marked, section = _mark_of(field) is not None, _section_of(field)
        if section and (not marked or _has_marks(section)):
            yield from _unmarked(section, f"{prefix}{name}.")
        if not marked and (section is None or type(None) in _arms(field.annotation)):
            yield prefix + name


def _identity_items(model: BaseModel, dumped: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        kind, section = _mark_of(field), _section_of(field)
        if section and value is not None and (kind is None or _has_marks(section)):
            yield from _identity_items(value, dumped[name], f"{prefix}{name}.")
        elif kind is KeyKind.identity:
            yield prefix + name, dumped[name]


def _fold_null_sections(settings: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keys `a.b.*` into one value at `a.b` where the other side has `a.b` as null."""
    folded: dict[str, Any] = {}
    nulls = [key for key, value in other.items() if value is None]
    for key, value in settings.items():
        section = next((null for null in nulls if key.startswith(null + ".")), None)
        if section is None:
            folded[key] = value
        else:
            folded.setdefault(section, {})[key[len(section) + 1 :]] = value
    return folded
