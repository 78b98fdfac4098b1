"""YAML is read by strict rules, and every refusal says where and why in plain words."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests.errors import InputError
from manifests.yaml_text import Position, dump_yaml, parse_yaml

REFUSALS = [
    ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4:3: key 'c' is given twice; the first time is on line 3"),
    ("a: &x 1\n", "f.yaml:1:4: anchors (&name) are not allowed: write the value out"),
    ("a: *x\n", "f.yaml:1:4: aliases (*name) are not allowed: write the value out"),
    ("<<: {a: 1}\n", "f.yaml:1:1: merge keys (<<) are not allowed: write the keys out"),
    ("a:\n\tb: 1\n", "f.yaml:2:1: a tab character: YAML is indented with spaces"),
    ("a: b: c\n", "f.yaml:1:5: a ': ' where none can be: check the indentation, or put the text in quotes"),
    ("a: [1\nb: 2\n", "f.yaml:2:2: a list opened with '[' is not closed, or a ',' is missing"),
    ("a: 'x\n", "f.yaml:2:1: a quoted text is not closed"),
    ("a:\n  b: 1\n c: 2\n", "f.yaml:3:2: the indentation does not fit the lines above"),
    ("a: 1\n---\nb: 1\n", "f.yaml:2:1: a second document ('---'); one file holds one document"),
    ("a: \x07\n", "f.yaml:1:4: a control character (code 7)"),
    ("a: !!python/object:os.system {}\n", "f.yaml:1:4: the tag !!python/object:os.system is not allowed here"),
    ("a: !!binary aGk=\n", "f.yaml:1:4: the tag !!binary is not allowed here"),
    ("a: !!int x\n", "f.yaml:1:4: 'x' is not a value of type int"),
    ('a: "\\ud800"\n', "f.yaml:1:4: an escape that is half a character (a lone surrogate)"),
    ("? [1]\n: 2\n", "f.yaml:1:3: a key must be plain text"),
    ("[" * 60, "f.yaml:1:51: nested deeper than 50 levels"),
]


@pytest.mark.parametrize(("text", "message"), REFUSALS)
def test_refusal_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("2024-01-31", "2024-01-31"),
        ("1:30", "1:30"),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("True", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("{1: a, null: b, true: c}", {"1": "a", "null": "b", "true": "c"}),
    ],
)
def test_values_follow_the_core_schema(text: str, value: object) -> None:
    found = parse_yaml(text, "f").data
    assert (type(found), found) == (type(value), value)


KEYS = st.text(max_size=150)
"""YAML reads a longer key only in the form `? key`, which JSON does not have."""


def plain(**float_options: bool) -> st.SearchStrategy[object]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, **float_options) | st.text()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )


@given(plain(allow_infinity=False))
def test_json_is_yaml(value: object) -> None:
    assert parse_yaml(json.dumps(value), "f").data == value


@given(plain())
@example({"a": ["1e3", "0o7", "no", "0E0", ".inf", "~", "<<", "2024-01-01", "010"]})
def test_what_is_written_comes_back(value: object) -> None:
    assert parse_yaml(dump_yaml(value), "f").data == value


def test_positions_are_of_keys_and_items() -> None:
    document = parse_yaml("a:\n  - x\n  - b: 1\n    c: {d: 2}\n", "f")
    assert document.locate(("a", 0)) == (Position(2, 5), 2)
    assert document.locate(("a", 1, "c", "d")) == (Position(4, 9), 4)
    assert document.locate(("a", 1, "c", "missing")) == (Position(4, 5), 3)
