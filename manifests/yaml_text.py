"""YAML text to plain data, strictly, keeping the place of every key and item.

Values follow YAML 1.2's core schema, so that a country `NO` stays text, a date stays text and `1e-4` is a number.
Keys are always text. Refused, each with its line and column: a key given twice, anchors and aliases (a few lines of
them can stand for gigabytes), merge keys, tags other than the standard ones, and nesting deeper than any config has.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from manifests.errors import InputError

DataPath = tuple[str | int, ...]
"""Where a value is: mapping keys and list indices from the top."""

_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_SPECIAL_FLOAT = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")

_PLAIN_WORDS = (
    ("found character '\\t'", "a tab character: YAML is indented with spaces"),
    (
        "mapping values are not allowed here",
        "a ': ' where none can be: check the indentation, or put the text in quotes",
    ),
    ("could not find expected ':'", "expected 'key: value', found no ':'"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("expected ',' or ']'", "a list opened with '[' is not closed, or a ',' is missing"),
    ("expected ',' or '}'", "a mapping opened with '{' is not closed, or a ',' is missing"),
    ("found unexpected end of stream", "a quoted text is not closed"),
    ("but found another document", "a second document ('---'); one file holds one document"),
)


@dataclass(frozen=True)
class Position:
    """A place in a file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """Parsed YAML: `data` is made of dict, list, str, int, float, bool and None; `positions` has every path in it."""

    name: str
    data: Any
    positions: dict[DataPath, Position] = field(default_factory=dict)

    def locate(self, path: DataPath) -> tuple[Position | None, int]:
        """Return where `path` is, or else the nearest thing around it that is in the file, and that thing's depth."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.positions:
                return self.positions[path[:length]], length
        return None, 0


def parse_yaml(text: str, name: str) -> Document:
    """Parse one YAML document; `name` stands for the file in messages. Text without a value gives None.

    Raises:
        InputError: the text is not YAML, or uses what is refused (see above).
    """
    try:
        loader = _Composer(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise InputError(f"{name}:{line}:{column}: a control character (code {error.character})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise InputError(f"{where}: {_explain(error)}") from error
    builder = _Builder(name)
    return Document(name, None if node is None else builder.build(node, ()), builder.positions)


class _Refusal(yaml.MarkedYAMLError):
    """Valid YAML that is not allowed here; its words are ours."""


class _Composer(yaml.SafeLoader):
    """PyYAML's parser as far as nodes: no aliases, bounded depth."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise _Refusal(None, None, "aliases (*name) are not allowed: write the value out", mark)
        if getattr(event, "anchor", None):
            raise _Refusal(None, None, "anchors (&name) are not allowed: write the value out", mark)
        if self._depth == _MAX_DEPTH:
            raise _Refusal(None, None, f"nested deeper than {_MAX_DEPTH} levels", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, quoting what this reader would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> ScalarNode:
        # PyYAML folds Unicode's rarer line breaks as if they were blanks, unless they are escaped in double quotes.
        style = '"' if set("\r\x85\u2028\u2029") & set(data) else None
        return self.represent_scalar(_TAG + "str", data, style=style)


def dump_yaml(data: Any) -> str:
    """Return plain data as YAML that `parse_yaml` reads back as it was; keys keep their order.

    Use this, not PyYAML's own writer: that one leaves a text such as `1e3` without quotes.
    """
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


_Dumper.add_representer(str, _Dumper.represent_str)
_Composer.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("float", _SPECIAL_FLOAT, list("-+.")),
    ("merge", re.compile(r"^<<$"), ["<"]),
):
    _Composer.add_implicit_resolver(_TAG + _kind, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _kind, _pattern, _first)


class _Builder:
    """Turns nodes into plain data and notes where each path is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.positions: dict[DataPath, Position] = {}

    def build(self, node: Node, path: DataPath) -> Any:
        self.positions.setdefault(path, _position(node))
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        raise self._error(node, f"the tag {_tag_words(node.tag)} is not allowed here")

    def _mapping(self, node: MappingNode, path: DataPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key must be plain text")
            if key_node.tag == _TAG + "merge":
                raise self._error(key_node, "merge keys (<<) are not allowed: write the keys out")
            key = self._text(key_node)
            if key in mapping:
                first = self.positions[(*path, key)].line
                raise self._error(key_node, f"key {key!r} is given twice; the first time is on line {first}")
            self.positions[(*path, key)] = _position(key_node)
            mapping[key] = self.build(value_node, (*path, key))
        return mapping

    def _scalar(self, node: ScalarNode) -> Any:
        text, kind = self._text(node), node.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        try:
            if kind == "null" and text in ("", "~", "null", "Null", "NULL"):
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0 if text[:2] in ("0o", "0x") else 10)
            if kind == "float":
                return float(text.replace(".", "", 1) if _SPECIAL_FLOAT.match(text) else text)
        except (KeyError, ValueError) as error:
            raise self._error(node, f"{text[:40]!r} is not a value of type {kind}") from error
        raise self._error(node, f"the tag {_tag_words(node.tag)} is not allowed here")

    def _text(self, node: ScalarNode) -> str:
        """The scalar's text, with the surrogate pairs that JSON's escapes make of one character put together."""
        try:
            return str(node.value).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise self._error(node, "an escape that is half a character (a lone surrogate)") from error

    def _error(self, node: Node, words: str) -> InputError:
        place = _position(node)
        return InputError(f"{self._name}:{place.line}:{place.column}: {words}")


def _position(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _tag_words(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def _explain(error: yaml.MarkedYAMLError) -> str:
    """Say a syntax error in words for someone who does not know how a YAML parser works."""
    if isinstance(error, _Refusal):
        return str(error.problem)
    problem = " ".join(part for part in (error.context, error.problem) if part)
    for marker, words in _PLAIN_WORDS:
        if marker in problem:
            return words
    return f"not valid YAML: {problem}"
