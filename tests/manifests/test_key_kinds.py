"""Config keys are identity, extent or runtime; a stored dataset is compared by its identity keys."""

from pathlib import Path

import pytest

from manifests.frozen import FrozenModel
from manifests.key_kinds import (
    ABSENT,
    KeyKind,
    check_marked,
    differing,
    extent,
    identity,
    identity_settings,
    kind_of,
    runtime,
)
from manifests.real_source import RealSource


class Model(FrozenModel):
    repo: str = identity("a/b")
    folder: Path = identity(Path("x"))
    threads: int = runtime(2, ge=1)


class Section(FrozenModel):
    size: int = identity(4)
    model: Model | None = identity(None)


class Config(FrozenModel):
    name: str = identity(...)
    section: Section = Section()
    reals: tuple[RealSource, ...] = extent(())
    pair: tuple[int, int] = identity((1, 2))
    workers: int = runtime(1)


def test_identity_settings_are_plain_and_dotted() -> None:
    assert identity_settings(Config(name="x")) == {
        "name": "x",
        "section.size": 4,
        "section.model": None,
        "pair": [1, 2],
    }
    with_model = Config(name="x", section=Section(model=Model()))
    assert identity_settings(with_model) == {
        "name": "x",
        "section.size": 4,
        "section.model.repo": "a/b",
        "section.model.folder": "x",
        "pair": [1, 2],
    }


def test_runtime_and_extent_do_not_differ_but_identity_does() -> None:
    old = identity_settings(Config(name="x"))
    grown = Config(name="x", workers=64, reals=(RealSource(name="r", path=Path("p")),))
    assert differing(old, identity_settings(grown)) == []
    changed = Config(name="x", section=Section(size=5, model=Model(threads=9)))
    assert differing(old, identity_settings(changed)) == [
        ("section.model", None, {"repo": "a/b", "folder": "x"}),
        ("section.size", 4, 5),
    ]
    assert differing({"a": 1, "gone": 2}, {"a": 1, "new": None}) == [("gone", 2, ABSENT), ("new", ABSENT, None)]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("name", KeyKind.identity),
        ("section.size", KeyKind.identity),
        ("section.model", KeyKind.identity),
        ("section.model.threads", KeyKind.runtime),
        ("reals.0.path", KeyKind.extent),
        ("workers", KeyKind.runtime),
    ],
)
def test_kind_of(key: str, kind: KeyKind) -> None:
    assert kind_of(Config, key) is kind


@pytest.mark.parametrize("key", ["section", "nothing", "section.nothing"])
def test_kind_of_what_has_none(key: str) -> None:
    with pytest.raises(KeyError):
        kind_of(Config, key)


def test_unmarked_keys_are_named() -> None:
    class Inner(FrozenModel):
        a: int = 1
        b: int = runtime(1)

    class Outer(FrozenModel):
        inner: Inner = Inner()
        maybe: Section | None = None
        c: str = "x"

    with pytest.raises(TypeError, match=r"^Outer has keys not marked .*: inner\.a, maybe, c$"):
        check_marked(Outer)
    with pytest.raises(TypeError, match=r"inner\.a"):
        identity_settings(Outer())
    check_marked(Config)


def test_marks_keep_defaults_and_bounds() -> None:
    assert Model().threads == 2
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Model(threads=0)
