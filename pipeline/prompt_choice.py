"""Which prompt a draw gets: a walk through the prompt table that starts at a place of the generator's own.

The choice depends on nothing but the generator, the draw's number and the table, so a plan made again after a
kill is the same plan, and units can be planned in any order.
"""

import hashlib
from collections.abc import Sequence

from manifests.draws import Draws, DrawTemplate
from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from samplers.seeds import Seeds, quoted

_CLASS = Prompt(prompt_id="class", prompt="", prompt_source="class_label")
_NOTHING = Prompt(prompt_id="unconditional", prompt="", prompt_source="unconditional")


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

    def targets(self, first: int, end: int) -> Draws:
        """Return the target draws from number `first` to before `end`."""
        return self._draws(self._target_start, range(first, end), 1)

    def reserves(self, first: int, end: int) -> Draws:
        """Return the reserve draws from place `first` to before `end`; their indices are negative, so they never meet
        a target's."""
        return self._draws(self._reserve_start, range(first, end), -1)

    def _draws(self, start: int, places: range, sign: int) -> Draws:
        texts: list[str] = []
        prompts, count, seed_of = self._prompts, len(self._prompts), self._seeds.of_quoted
        for place in places:  # a hundred times for each unit: what can be done once for a prompt is
            prompt = prompts[(start + place) % count]
            _, prompt_id, (head, middle, tail) = _TEMPLATES.get(id(prompt)) or _template(prompt)
            index = place if sign > 0 else -place - 1
            texts.append(f"{head}{index}{middle}{seed_of(prompt_id, index)}{tail}")
        return Draws(f"[{','.join(texts)}]")


_TEMPLATES: dict[int, tuple[Prompt, str, DrawTemplate]] = {}
_TEMPLATES_KEPT = 50_000
"""Prompts are shared by many generators. Each is held, so that its number is nobody else's; 60 MB at most, or so."""


def _template(prompt: Prompt) -> tuple[Prompt, str, DrawTemplate]:
    if len(_TEMPLATES) >= _TEMPLATES_KEPT:
        _TEMPLATES.clear()
    template = DrawTemplate.of(
        prompt=prompt.prompt,
        prompt_id=prompt.prompt_id,
        prompt_source=prompt.prompt_source,
        class_label=prompt.class_label,
        content=prompt.content,
        real_source=prompt.real_source,
        source_image_id=prompt.source_image_id,
    )
    _TEMPLATES[id(prompt)] = known = prompt, quoted(prompt.prompt_id), template
    return known


def _start(generator: str, use: str, prompts: int) -> int:
    digest = hashlib.blake2b(f"{generator}\n{use}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % prompts
