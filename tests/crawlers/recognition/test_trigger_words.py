"""The words that an adapter waits for, in every place that trainers and uploaders leave them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlers.recognition.trigger_words import card_trigger_words, counted_trigger_word, placeholder_token

FRONT = "---\nlicense: mit\ntags:\n- trigger words: no\n---\n"


@pytest.mark.parametrize(
    ("card", "readme", "words"),
    [
        ({}, "", ()),
        ({"instance_prompt": "a photo of sks dog"}, "", ("a photo of sks dog",)),
        ({"instance_prompt": "TOK"}, "## Trigger words\n`OTHER`\n", ("TOK",)),
        ({"instance_prompt": None}, "", ()),
        ({"instance_prompt": "None"}, "", ()),
        ({"instance_prompt": ["a", "b", "a"]}, "", ("a", "b")),
        ({"instance_prompt": {"a": 1}}, "", ()),
        # the template of the libraries' own trainers
        (
            {},
            f"{FRONT}# Model\n\n## Trigger words\n\nYou should use `in the style of <s0><s1>` to trigger the image "
            "generation.\n\n## Use it with `diffusers`\n\n```py\n`x`\n```\n",
            ("in the style of <s0><s1>",),
        ),
        ({}, "### Trigger Words:\n* **crayon**\n* **chalk**\n", ("crayon", "chalk")),
        ({}, "Trigger words: crayon, chalk drawing.\n", ("crayon", "chalk drawing")),
        ({}, "**Trigger word:** `crayon`, and mind the weather\n", ("crayon",)),
        ({}, "## Trigger words\n\nNone are needed.\n\n## Licence\n`mit`\n", ()),
        ({}, "## Trigger words\n\nYou should use `` to trigger the image generation.\n", ()),
        ({}, FRONT, ()),
        ({"widget": [{"text": "a crayon drawing of a house"}]}, "# Examples\n`a house`\n", ()),
    ],
)
def test_what_a_card_says(card: dict[str, object], readme: str, words: tuple[str, ...]) -> None:
    assert card_trigger_words(card, readme) == words


@pytest.mark.parametrize(
    ("frequency", "words"),
    [
        ({"10_x": {"toydoodle": 40, "house": 12}}, ("toydoodle",)),
        ({"10_x": {"toydoodle": 20}, "5_y": {"toydoodle": 20, "house": 20}}, ("toydoodle",)),
        ({"10_x": {"toydoodle": 40, "house": 21}}, ()),  # leads by less than two
        ({"10_x": {"a": 40, "b": 40}}, ()),
        ({"10_x": {"1girl": 40, "toydoodle": 12}}, ()),  # what everybody tags
        ({"10_x": {"toydoodle": True, "b": -3, "c": "9"}}, ()),
        ({"10_x": {"only": 1}}, ("only",)),
        ({"10_x": [1]}, ()),
        ([], ()),
    ],
)
def test_what_a_trainer_counted(frequency: object, words: tuple[str, ...]) -> None:
    assert counted_trigger_word({"ss_tag_frequency": json.dumps(frequency)}) == words


def test_counts_that_are_no_json() -> None:
    for text in ("", "{", "[" * 100_000, "null"):
        assert counted_trigger_word({"ss_tag_frequency": text}) == ()
    assert counted_trigger_word({}) == ()


@pytest.mark.parametrize(
    ("token", "identifier", "name", "expected"),
    [
        ("<cat>", "<dog>\n", "x.safetensors", ("<dog>", "config")),
        ("<cat>", None, "x.safetensors", ("<cat>", "header")),
        (None, None, "sub/My Face-v2.safetensors", ("<my-face-v2>", "name")),
        (None, "  ", "___.safetensors", ("<token>", "name")),
    ],
)
def test_the_token_of_learned_vectors(
    token: str | None, identifier: str | None, name: str, expected: tuple[str, str]
) -> None:
    assert placeholder_token(token, identifier, name) == expected


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_gives_words_that_can_be_put_before_a_prompt(heading: str, body: str) -> None:
    for readme in (body, f"# {heading}\n{body}", f"## Trigger words {heading}\n{body}", f"trigger words: {body}"):
        words = card_trigger_words({}, readme)
        assert len(words) <= 8
        assert all(word and word == " ".join(word.split()) and len(word) <= 200 for word in words)
