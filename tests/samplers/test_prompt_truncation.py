"""What of a prompt a model saw."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo.toy_text import clip_tokenizer, t5_tokenizer
from samplers.base import Sampler
from samplers.prompt_truncation import PromptEncoder, sent_prompt

LONG = "A Red  cat on the Table, " * 40
CLIP, T5 = clip_tokenizer(), t5_tokenizer()


def test_a_long_prompt_is_cut_where_the_tokenizer_cuts_it() -> None:
    sent = sent_prompt(LONG, [PromptEncoder(CLIP, 77)])
    assert sent.truncated
    assert LONG.startswith(sent.text) and len(sent.text) < len(LONG)
    kept = CLIP(LONG, truncation=True, max_length=77).input_ids
    assert CLIP(sent.text).input_ids == kept
    assert sent.text.startswith("A Red  cat")


def test_a_prompt_that_just_fits_is_not_truncated() -> None:
    prompt = " ".join(["cat"] * 75)
    assert len(CLIP(prompt).input_ids) == 77
    assert sent_prompt(prompt, [PromptEncoder(CLIP, 77)]).truncated is False
    assert sent_prompt(prompt + " cat", [PromptEncoder(CLIP, 77)]).text == prompt


def test_the_longest_encoder_decides() -> None:
    prompt = " ".join(["cat"] * 200)
    assert sent_prompt(prompt, [PromptEncoder(CLIP, 77), PromptEncoder(T5, 256)]).truncated is False
    cut = sent_prompt(prompt, [PromptEncoder(CLIP, 77), PromptEncoder(T5, 128)])
    assert cut.truncated and cut.text == " ".join(["cat"] * 127)
    assert sent_prompt(prompt, []).text == prompt


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_what_is_sent_is_always_a_prefix(prompt: str) -> None:
    sent = sent_prompt(prompt, [PromptEncoder(CLIP, 20)])
    assert prompt.startswith(sent.text)
    assert sent.truncated == (len(CLIP(prompt, verbose=False).input_ids) > 20)


def test_each_family_knows_its_encoders(sampler_of: Callable[[str], Sampler]) -> None:
    capacities: dict[str, list[int]] = {}
    for family in ("sd", "sdxl", "pixart", "sd3"):
        sampler: Any = sampler_of(family)
        capacities[family] = [encoder.capacity for encoder in sampler._encoders]
    assert capacities == {"sd": [77], "sdxl": [77, 77], "pixart": [300], "sd3": [77, 77, 256]}
