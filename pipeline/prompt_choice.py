"""Which prompt a draw gets: a walk through the prompt table that starts at a place of the generator's own.

The choice depends on nothing but the generator, the draw's number and the table, so a plan made again after a
kill is the same plan, and units can be planned in any order.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import Draw
from samplers.seeds import Seeds

_CLASS = Prompt(prompt_id="class", prompt="", prompt_source="class_label")
_NOTHING = Prompt(prompt_id="unconditional", prompt="", prompt_source="unconditional")
_DRAWS = TypeAdapter(tuple[Draw, ...])


class PromptChoice:
    """Makes the draws of one generator."""

    def __init__(self, generator: GeneratorSpec, prompts: Sequence[Prompt]) -> None:
        """Use `prompts`, in this order, for text-to-image; other kinds need none.

        Raises:
            ValueError: a text-to-image generator with no prompt at all.
        """
        if generator.kind == "class-conditional":
            prompts = [_CLASS]
        elif generator.kind == "unconditional":
            prompts = [_NOTHING]
        elif not prompts:
            raise ValueError(f"no prompts for {generator.name}")
        self._seeds = Seeds(generator.name, generator.revision or "")
        self._prompts = prompts
        self._target_start = _start(generator.name, "target", len(prompts))
        self._reserve_start = _start(generator.name, "reserve", len(prompts))

    def targets(self, first: int, end: int) -> tuple[Draw, ...]:
        """Return the target draws from number `first` to before `end`."""
        return self._draws(self._target_start, range(first, end), 1)

    def reserves(self, first: int, end: int) -> tuple[Draw, ...]:
        """Return the reserve draws from place `first` to before `end`; their indices are negative, so they never meet
        a target's."""
        return self._draws(self._reserve_start, range(first, end), -1)

    def _draws(self, start: int, places: range, sign: int) -> tuple[Draw, ...]:
        values: list[dict[str, Any]] = []
        prompts, count, seed_of = self._prompts, len(self._prompts), self._seeds.of
        for place in places:
            prompt = prompts[(start + place) % count]
            index = place if sign > 0 else -place - 1
            values.append(
                {
                    "index": index,
                    "seed": seed_of(prompt.prompt_id, index),
                    "prompt_id": prompt.prompt_id,
                    "prompt": prompt.prompt,
                    "prompt_source": prompt.prompt_source,
                    "class_label": prompt.class_label,
                    "real_source": prompt.real_source,
                    "source_image_id": prompt.source_image_id,
                    "content": prompt.content,
                }
            )
        return _DRAWS.validate_python(values)  # all at once: a third of the time that one by one takes


def _start(generator: str, use: str, prompts: int) -> int:
    digest = hashlib.blake2b(f"{generator}\n{use}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % prompts
