"""How much of a prompt a model saw: tokenizers cut silently, and the cut part must not look like a cause of the image.

Templates that some pipelines wrap around a prompt are not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import CLIPTokenizer


@dataclass(frozen=True)
class PromptEncoder:
    """A tokenizer and the number of tokens, special ones included, that its pipeline keeps."""

    tokenizer: Any
    capacity: int
    learned: Callable[[str], str] | None = None
    """Spells out a prompt's learned words, one word for each vector; None where none is known."""


@dataclass(frozen=True)
class SentPrompt:
    """The part of the prompt that was seen, in the prompt's own spelling, and whether it is not all of it."""

    text: str
    truncated: bool


def prompt_encoders(pipeline: Any, call: dict[str, Any]) -> tuple[PromptEncoder, ...]:
    """Find a pipeline's tokenizers (`tokenizer`, `tokenizer_2`, ...) and what each keeps.

    CLIP's keep their own `model_max_length`; the others (T5, Gemma, ...) the call's `max_sequence_length` where it has
    one.
    """
    encoders = []
    for name, tokenizer in sorted(pipeline.components.items()):
        if name.startswith("tokenizer") and hasattr(tokenizer, "model_max_length"):
            own = tokenizer.model_max_length
            asked = None if isinstance(tokenizer, CLIPTokenizer) else call.get("max_sequence_length")
            learned = None
            if hasattr(pipeline, "maybe_convert_prompt") and _learned_words(tokenizer):
                learned = partial(pipeline.maybe_convert_prompt, tokenizer=tokenizer)
            encoders.append(PromptEncoder(tokenizer, own if asked is None else asked, learned))
    return tuple(encoders)


def with_trigger_words(prompt: str, words: Sequence[str]) -> str:
    """Return the prompt with an adapter's trigger words before it."""
    return ", ".join((*words, prompt)) if words else prompt


def sent_prompt(prompt: str, encoders: Sequence[PromptEncoder]) -> SentPrompt:
    """Return what the encoder that keeps most of `prompt` sees of it.

    With several encoders (SDXL, SD 3, FLUX) the prompt counts as truncated only when the longest of them cuts it: what
    one encoder loses another still sees. Without an encoder that can be asked, the prompt is taken as sent. A learned
    word of several vectors is spelt as the tokenizer reads it: `<cat>` becomes `<cat> <cat>_1`.
    """
    longest = SentPrompt("", truncated=True)
    for encoder in encoders:
        sent = _kept(prompt, encoder)
        if not sent.truncated:
            return sent
        if len(sent.text) > len(longest.text):
            longest = sent
    return longest if encoders else SentPrompt(prompt, truncated=False)


def _kept(prompt: str, encoder: PromptEncoder) -> SentPrompt:
    tokenizer = encoder.tokenizer
    if encoder.learned is not None:
        prompt = encoder.learned(prompt)
    if len(tokenizer(prompt, verbose=False).input_ids) <= encoder.capacity:
        return SentPrompt(prompt, truncated=False)
    cut = tokenizer(prompt, truncation=True, max_length=encoder.capacity, return_offsets_mapping=tokenizer.is_fast)
    if tokenizer.is_fast:
        end = max(stop for _, stop in cut.offset_mapping)
        return SentPrompt(prompt[:end], truncated=True)
    return SentPrompt(tokenizer.decode(cut.input_ids, skip_special_tokens=True), truncated=True)


def _learned_words(tokenizer: Any) -> bool:
    return any(not token.special for token in getattr(tokenizer, "added_tokens_decoder", {}).values())
