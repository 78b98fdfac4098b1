"""The draws of a unit: a sequence that is carried as canonical JSON, and taken apart when somebody looks inside.

A driver plans hundreds of thousands of units with a hundred draws each. It hashes them and sends them to workers, and
looks into almost none.
"""

from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring
from typing import Any, NamedTuple, overload

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from manifests.frozen import FrozenModel


class Draw(FrozenModel):
    """One image to make: a prompt, a seed and its place in the generator's sequence.

    The fields are in alphabetical order, so that dumping draws gives their canonical JSON.
    """

    class_label: str | None = None
    content: str | None = None
    index: int = Field(description="draw number within the generator; negative for reserve draws")
    prompt: str
    prompt_id: str
    prompt_source: str
    real_source: str | None = None
    seed: int = Field(ge=0, lt=2**63)
    source_image_id: str | None = None


class Draws(Sequence[Draw]):
    """Draws in order; equal to others with the same content.

    Attributes:
        text: the canonical JSON (see `manifests.unit.canonical`) of the list.
    """

    __slots__ = ("_draws", "text")

    def __init__(self, text: str) -> None:
        """Take canonical JSON as it is; it is checked when it is taken apart."""
        self.text = text
        self._draws: tuple[Draw, ...] | None = None

    @classmethod
    def of(cls, draws: Iterable[Draw]) -> "Draws":
        """Return these draws."""
        known = tuple(draws)
        made = cls(_DRAWS.dump_json(known).decode())
        made._draws = known
        return made

    def _known(self) -> tuple[Draw, ...]:
        if self._draws is None:
            self._draws = _DRAWS.validate_json(self.text)
        return self._draws

    @overload
    def __getitem__(self, index: int) -> Draw: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Draw, ...]: ...
    def __getitem__(self, index: int | slice) -> Draw | tuple[Draw, ...]:
        return self._known()[index]

    def __len__(self) -> int:
        return len(self._known())

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Draws) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Callable[[str], "Draws"], tuple[str]]:
        return Draws, (self.text,)

    def __repr__(self) -> str:
        return f"Draws.of({list(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = handler(tuple[Draw, ...])
        listed = core_schema.no_info_after_validator_function(cls.of, plain)
        return core_schema.json_or_python_schema(
            json_schema=listed,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), listed]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                tuple, return_schema=handler(tuple[Draw, ...])
            ),
        )


class DrawTemplate(NamedTuple):
    """The canonical JSON of the draws of one prompt, but for their index and seed: the index stands between `head` and
    `middle`, the seed between `middle` and `tail`.

    Making a draw's text from it takes a tenth of the time that a `Draw` takes.
    """

    head: str
    middle: str
    tail: str

    @classmethod
    def of(
        cls,
        *,
        prompt: str,
        prompt_id: str,
        prompt_source: str,
        class_label: str | None = None,
        content: str | None = None,
        real_source: str | None = None,
        source_image_id: str | None = None,
    ) -> "DrawTemplate":
        """Return the template of draws with these fields."""
        return cls(
            f'{{"class_label":{_text(class_label)},"content":{_text(content)},"index":',
            f',"prompt":{_text(prompt)},"prompt_id":{_text(prompt_id)},"prompt_source":{_text(prompt_source)},'
            f'"real_source":{_text(real_source)},"seed":',
            f',"source_image_id":{_text(source_image_id)}}}',
        )


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


_DRAWS = TypeAdapter(tuple[Draw, ...])
