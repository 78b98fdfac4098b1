"""Which prompt a draw gets: a walk through the prompt table that starts at a place of the generator's own.

The choice depends on nothing but the generator, the draw's number and the table, so a plan made again after a
kill is the same plan, and units can be planned in any order.
"""

import hashlib
from collections.abc import Sequence

from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import Draw
from samplers.seeds import seed_for

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
        self._generator = generator
        self._prompts = prompts
        self._target_start = _start(generator.name, "target", len(prompts))
        self._reserve_start = _start(generator.name, "reserve", len(prompts))

    def target(self, index: int) -> Draw:
        """Return target draw `index` (0, 1, ...)."""
        return self._draw(index, self._prompts[(self._target_start + index) % len(self._prompts)])

    def reserve(self, place: int) -> Draw:
        """Return the reserve draw at `place` (0, 1, ...); its index is negative, so it never meets a target's."""
        return self._draw(-place - 1, self._prompts[(self._reserve_start + place) % len(self._prompts)])

    def _draw(self, index: int, prompt: Prompt) -> Draw:
        generator = self._generator
        return Draw(
            index=index,
            seed=seed_for(generator.name, generator.revision or "", prompt.prompt_id, index),
            prompt_id=prompt.prompt_id,
            prompt=prompt.prompt,
            prompt_source=prompt.prompt_source,
            class_label=prompt.class_label,
            real_source=prompt.real_source,
            source_image_id=prompt.source_image_id,
            content=prompt.content,
        )


def _start(generator: str, use: str, prompts: int) -> int:
    digest = hashlib.blake2b(f"{generator}\n{use}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % prompts
