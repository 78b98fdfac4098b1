"""The words that an adapter waits for: a style or a thing that was trained under a made-up name shows only with it.

Best source first: the manifest; the card's `instance_prompt`, which the trainer was given; the section of the card's
text that is headed so; the captions that the trainer counted in the file, where one word leads by far. Example
prompts (`widget`) are no source: they hold the words among everything else.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_HEADING = re.compile(r"^#{1,6}\s*[*_]*trigger(?:ing)?\s+(?:words?|phrases?|prompts?|tokens?)\b.*$", re.I | re.M)
_NEXT_HEADING = re.compile(r"^#{1,6}\s", re.M)
_LINE = re.compile(r"^[\s>*_-]*trigger\s*(?:words?|phrases?|tokens?)(?:\(s\))?\W*?[:=]\s*(?P<words>.+)$", re.I | re.M)
_QUOTED = re.compile(r"`([^`\n]{1,200})`|\*\*([^*\n]{1,200})\*\*")
_NOTHING = frozenset({"", "none", "null", "n/a", "na", "-", "no trigger word", "no trigger words", "not needed"})
_LIMIT = 8
_COMMON_TAGS = re.compile(r"^(\d\+?(girl|boy|other)s?|solo|no humans|simple background|white background|realistic)$")
_LEAD = 2.0


def card_trigger_words(card: Mapping[str, Any], readme: str) -> tuple[str, ...]:
    """Return the words that the card names: its front matter's `instance_prompt`, else its text's section."""
    given = card.get("instance_prompt", card.get("trigger_words"))
    listed = given if isinstance(given, list) else [given]
    words = _clean(word for word in listed if isinstance(word, str))
    if words:
        return words
    text = _without_front_matter(readme)
    if heading := _HEADING.search(text):
        section = _NEXT_HEADING.split(text[heading.end() :], 1)[0]
        return _clean(match[1] or match[2] for match in _QUOTED.finditer(section))
    if line := _LINE.search(text):
        quoted = [match[1] or match[2] for match in _QUOTED.finditer(line["words"])]
        return _clean(quoted or line["words"].strip(" *_.").split(","))
    return ()


def counted_trigger_word(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the one tag of kohya's `ss_tag_frequency` that leads all others by a factor of two, if there is one.

    A trainer puts the name of the new thing into every caption and describes the rest in words that change, so the
    name leads; where captions share more than that, the count does not tell which of the words is the name.
    """
    try:
        frequency = json.loads(metadata.get("ss_tag_frequency", ""))
    except (ValueError, RecursionError):
        return ()
    counts: dict[str, float] = {}
    for tags in frequency.values() if isinstance(frequency, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, (int, float)) and not isinstance(count, bool) and count > 0:
                counts[tag.strip()] = counts.get(tag.strip(), 0) + count
    ranked = sorted(counts, key=lambda tag: (-counts[tag], tag))
    if not ranked or _COMMON_TAGS.match(ranked[0]):
        return ()
    leads = len(ranked) == 1 or counts[ranked[0]] >= _LEAD * counts[ranked[1]]
    return _clean(ranked[:1]) if leads else ()


def placeholder_token(token: str | None, identifier: str | None, weight_name: str) -> tuple[str, str]:
    """Return the token that learned vectors stand for, and its source.

    Args:
        token: name of the vectors in the file, where that is the token.
        identifier: content of token_identifier.txt, which the concepts library's trainer writes.
    """
    if identifier is not None and (words := _clean([identifier])):
        return words[0], "config"
    if token is not None and (words := _clean([token])):
        return words[0], "header"
    stem = weight_name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return f"<{re.sub(r'[^A-Za-z0-9]+', '-', stem).strip('-').lower() or 'token'}>", "name"


def _clean(words: Any) -> tuple[str, ...]:
    found = (" ".join(str(word).replace("\\(", "(").replace("\\)", ")").split()).strip(" ,") for word in words)
    kept = (word for word in found if word.lower() not in _NOTHING and len(word) <= 200)
    return tuple(dict.fromkeys(kept))[:_LIMIT]


def _without_front_matter(readme: str) -> str:
    match = re.match(r"\ufeff?---\s*\n.*?\n---\s*\n", readme, re.S)
    return readme[match.end() :] if match else readme
