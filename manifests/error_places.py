"""Where a pydantic error is: its location resolved against the model, so that a message can say what is allowed there.

In a location, pydantic writes the name of the type that it tried between the keys of the data; those names are no part
of the user's path, and they tell the types of a union apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from manifests.yaml_text import DataPath


@dataclass(frozen=True)
class Place:
    """What is allowed at a path: the type, its bounds and patterns, and the key that tells a union's types apart."""

    annotation: Any
    metadata: tuple[Any, ...] = ()
    discriminator: str | None = None


@dataclass(frozen=True)
class Located:
    """A resolved location. `arms` has, for each union on the way, its path and pydantic's name of the tried type."""

    path: DataPath
    place: Place
    arms: tuple[tuple[DataPath, str], ...] = ()


def locate(loc: tuple[str | int, ...], model_class: type[BaseModel]) -> Located:
    """Resolve the location of an error from validating `model_class`."""
    path: DataPath = ()
    arms: tuple[tuple[DataPath, str], ...] = ()
    place = Place(model_class)
    for step in loc:
        place = _unwrap(place)
        members = _members(place.annotation)
        if len(members) > 1:
            if place.discriminator is None:
                arms = (*arms, (path, str(step)))
            place = Place(_named_member(members, step, place.discriminator))
        else:
            place = _step_into(place.annotation, step)
            path = (*path, step)
    return Located(path, _unwrap(place), arms)


def _step_into(annotation: Any, step: str | int) -> Place:
    """The place of one key or item of a type. An unknown key gives the model that it was given to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return Place(annotation) if field is None else _field_place(field)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and isinstance(step, int) and Ellipsis not in arguments and step < len(arguments):
        return Place(arguments[step])
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments:
        return Place(arguments[1])
    if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset) and arguments:
        return Place(arguments[0])
    return Place(Any)


def _field_place(field: FieldInfo) -> Place:
    return Place(field.annotation, tuple(field.metadata), _discriminator(field))


def _discriminator(field: FieldInfo) -> str | None:
    return field.discriminator if isinstance(field.discriminator, str) else None


def _unwrap(place: Place) -> Place:
    """Take Annotated and `| None` off a type, keeping the bounds that Annotated adds."""
    while True:
        if get_origin(place.annotation) is Annotated:
            inner, *extras = get_args(place.annotation)
            fields = [item for item in extras if isinstance(item, FieldInfo)]
            added = [item for item in extras if not isinstance(item, FieldInfo)]
            added += [bound for field in fields for bound in field.metadata]
            tags = [place.discriminator, *map(_discriminator, fields)]
            place = Place(inner, (*place.metadata, *added), next((tag for tag in tags if tag), None))
        elif get_origin(place.annotation) in (Union, UnionType) and len(_members(place.annotation)) == 1:
            place = Place(_members(place.annotation)[0], place.metadata, place.discriminator)
        else:
            return place


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union without null; any other type is its own only member."""
    if get_origin(annotation) not in (Union, UnionType):
        return (annotation,)
    return tuple(member for member in get_args(annotation) if member is not type(None))


def _named_member(members: tuple[Any, ...], tag: str | int, discriminator: str | None) -> Any:
    for member in members:
        bare = _unwrap(Place(member)).annotation
        if discriminator is not None and isinstance(bare, type) and issubclass(bare, BaseModel):
            if tag in get_args(bare.model_fields[discriminator].annotation):
                return member
        elif _is_named(bare, str(tag)):
            return member
    return Any


def _is_named(member: Any, tag: str) -> bool:
    """Whether pydantic's name `tag` of a type, such as `str` or `list[int]`, means `member`."""
    name = str(getattr(get_origin(member) or member, "__name__", member))
    return tag == name or tag.startswith((name.lower() + "[", f"constrained-{name}"))
