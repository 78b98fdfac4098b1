"""Pipelines that paint a prompt: every class of diffusers whose call takes `prompt`."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from transformers import CLIPTextModel

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from samplers.base import Batch, SampledImage
from samplers.diffusers_sampler import DiffusersSampler
from samplers.loading import LoadedPipeline
from samplers.prompt_truncation import SentPrompt, prompt_encoders, sent_prompt, with_trigger_words


class TextToImageSampler(DiffusersSampler):
    """One image for each prompt. The same negative prompt goes with all, where there is one and the call takes it."""

    supplied = frozenset({"prompt", "negative_prompt"})
    needed = "prompt"

    def __init__(self, spec: GeneratorSpec, loaded: LoadedPipeline) -> None:
        super().__init__(spec, loaded)
        self._encoders = prompt_encoders(loaded.pipeline, self._arguments.complete)
        self._trigger_words: list[str] = loaded.options.get("trigger_words", [])

    def sample(self, batch: Batch) -> list[SampledImage]:
        """As for every pipeline; see `_final_norm_in_reach` for what `clip_skip` needs."""
        skips = self._arguments.given.get("clip_skip") is not None
        with _final_norm_in_reach(getattr(self._pipeline, "text_encoder", None)) if skips else nullcontext():
            return super().sample(batch)

    def conditioning(self, batch: Batch) -> dict[str, Any]:
        """Prompts, and as many negative prompts: several pipelines take only two lists or two strings."""
        prompts = [with_trigger_words(draw.prompt, self._trigger_words) for draw in batch.draws]
        if self.negative_prompt is None:
            return {"prompt": prompts}
        return {"prompt": prompts, "negative_prompt": [self.negative_prompt] * len(prompts)}

    def sent(self, draw: Draw) -> SentPrompt | None:
        """The part of the prompt that the text encoders keep, trigger words included."""
        return sent_prompt(with_trigger_words(draw.prompt, self._trigger_words), self._encoders)


@contextmanager
def _final_norm_in_reach(encoder: Any) -> Iterator[None]:
    """Let a CLIP text model of transformers 5 answer to `text_model`, its inner model in version 4.

    With `clip_skip`, the SD 1.x pipelines of diffusers 0.42 take the final norm from there. Only during the call:
    the LoRA loader tells the versions apart by this very attribute.
    """
    if not isinstance(encoder, CLIPTextModel) or hasattr(encoder, "text_model"):
        yield
        return
    vars(encoder)["text_model"] = encoder  # not by assignment, which would register the module as its own child
    try:
        yield
    finally:
        del vars(encoder)["text_model"]
