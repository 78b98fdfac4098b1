"""A wrong file gives one InputError that lists every problem with file, line, key, value and what is allowed."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from manifests.errors import InputError
from manifests.frozen import FrozenModel
from manifests.generator import GeneratorSpec
from manifests.names import Slug
from manifests.overrides import apply_overrides
from manifests.strict_yaml import load_model, load_yaml


class Sample(FrozenModel):
    batch_size: int = Field(default=4, ge=1, le=512)
    rate: float = Field(default=1.0, gt=0)
    dtype: Literal["float32", "float16"] = "float32"
    keep: bool = False


class Photos(FrozenModel):
    kind: Literal["photos"]
    path: Path


class Links(FrozenModel):
    kind: Literal["links"]
    urls: tuple[str, ...] = Field(min_length=1)


class Config(FrozenModel):
    name: Slug
    sample: Sample = Sample()
    best: Sample | None = None
    reals: tuple[Annotated[Photos | Links, Field(discriminator="kind")], ...] = ()
    generators: tuple[Slug | GeneratorSpec, ...] = ()
    extra: dict[str, int | float | bool | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _not_both(self) -> "Config":
        if self.best and self.reals:
            raise ValueError("best and reals exclude each other")
        return self


def refusal(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    """The message for a config of this text, with the folder's path taken off."""
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_model(path, Config, overrides)
    return str(caught.value).replace(f"{folder}/", "")


SINGLE = [
    (
        "name: x\nsample:\n  batch_sise: 3\n",
        "c.yaml:3: sample.batch_sise = 3: unknown key; did you mean batch_size? "
        "Allowed here: batch_size, rate, dtype, keep",
    ),
    (
        "name: x\nqqq: {a: 1}\n",
        "c.yaml:2: qqq: unknown key; Allowed here: name, sample, best, reals, generators, extra",
    ),
    ("sample: {}\n", "c.yaml:1: name: this key is required"),
    ("name: x\nsample: {batch_size: -1}\n", "c.yaml:2: sample.batch_size = -1: must be a whole number from 1 to 512"),
    (
        "name: x\nsample: {batch_size: true}\n",
        "c.yaml:2: sample.batch_size = true: must be a whole number from 1 to 512",
    ),
    ("name: x\nsample: {batch_size: '4'}\n", 'c.yaml:2: sample.batch_size = "4": must be a whole number from 1 to 512'),
    ("name: x\nsample: {batch_size: 1.5}\n", "c.yaml:2: sample.batch_size = 1.5: must be a whole number from 1 to 512"),
    ("name: x\nbest: {rate: 0}\n", "c.yaml:2: best.rate = 0: must be a number, more than 0"),
    ("name: x\nsample: {keep: no}\n", 'c.yaml:2: sample.keep = "no": must be true or false'),
    (
        "name: x\nsample:\n  dtype: float61\n",
        "c.yaml:3: sample.dtype = \"float61\": must be 'float32' or 'float16'; did you mean float16?",
    ),
    ("name: 3\n", "c.yaml:1: name = 3: must be text: put it in quotes"),
    ("name: null\n", "c.yaml:1: name = null: must be text"),
    (
        "name: a b\n",
        "c.yaml:1: name = \"a b\": must be a name of letters, digits, '.', '_' and '-', 128 at most, "
        "a letter or digit first",
    ),
    ("name: x\nsample: 3\n", "c.yaml:2: sample = 3: must be a section of 'key: value' lines"),
    ("name: x\nreals: {a: 1}\n", "c.yaml:2: reals: must be a list"),
    ("- name\n", "c.yaml:1: must be a section of 'key: value' lines"),
    ("name: x\nreals:\n  - kind: photo\n", "c.yaml:3: reals.0: 'kind' is 'photo' but must be one of 'photos', 'links'"),
    (
        "name: x\nreals:\n  - path: a\n",
        "c.yaml:3: reals.0: the key 'kind' is required: it says which of the forms this is",
    ),
    (
        "name: x\nreals:\n  - kind: photos\n    path: a\n    url: b\n",
        'c.yaml:5: reals.0.url = "b": unknown key; Allowed here: kind, path',
    ),
    (
        "name: x\ngenerators: [3]\n",
        "c.yaml:2: generators.0 = 3: must be text or a section of 'key: value' lines",
    ),
    (
        "name: x\ngenerators:\n  - sd15\n  - name: dit\n    kind: unconditional\n",
        "c.yaml:4: generators.1.repo_id: this key is required",
    ),
    ("name: x\nextra: {a: [1]}\n", "c.yaml:2: extra.a: must be a number, true or false or text"),
    ("name: x\nbest: {}\nreals: [{kind: photos, path: p}]\n", "c.yaml:1: best and reals exclude each other"),
]


@pytest.mark.parametrize(("text", "message"), SINGLE)
def test_one_problem_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_all_problems_are_listed_in_the_files_order(tmp_path: Path) -> None:
    text = "extras: 1\nsample:\n  keep: 1\n  batch_size: 0\nname: x\n"
    assert refusal(tmp_path, text).splitlines() == [
        "c.yaml: 3 problems",
        "  c.yaml:1: extras = 1: unknown key; did you mean extra? "
        "Allowed here: name, sample, best, reals, generators, extra",
        "  c.yaml:3: sample.keep = 1: must be true or false",
        "  c.yaml:4: sample.batch_size = 0: must be a whole number from 1 to 512",
    ]


def test_valid_file_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "\ufeffname: é-1\n".replace("é", "e") + "extra: {a: no, b: 1e-4, c: true, d: 2024-01-01, e: null}\n"
    )
    config = load_model(path, Config)
    assert config.name == "e-1"
    assert config.extra == {"a": "no", "b": 1e-4, "c": True, "d": "2024-01-01", "e": None}
    assert config.extra["c"] is True


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    empty, latin, late = tmp_path / "empty.yaml", tmp_path / "latin.yaml", tmp_path / "late.yaml"
    empty.write_text("# nothing\n")
    latin.write_bytes(b"name: caf\xe9\n")
    late.write_bytes(b"name: x\nsample:\n  a: \xff\n")
    expected = {
        empty: f"{empty}: the file is empty",
        latin: f"{latin}:1:10: not UTF-8 text (byte 0xe9); save the file as UTF-8",
        late: f"{late}:3:6: not UTF-8 text (byte 0xff); save the file as UTF-8",
        tmp_path / "none.yaml": f"{tmp_path}/none.yaml: there is no such file",
        tmp_path: f"{tmp_path}: this is a folder; a YAML file is needed",
        empty / "x": f"{empty}/x: cannot be read: Not a directory",
    }
    for path, message in expected.items():
        with pytest.raises(InputError) as caught:
            load_yaml(path)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch", "--set batch: must be KEY=VALUE, such as sample.batch_size=4 or caption.reals.0.limit=10"),
        ("a..b=1", "--set a..b=1: must be KEY=VALUE, such as sample.batch_size=4 or caption.reals.0.limit=10"),
        ("name.first=a", "--set name.first=a: name is a plain value, so it has no key 'first'"),
        (
            "generators.2=a",
            "--set generators.2=a: generators is a list, so '2' must be the number of an item: 0 to 0, or 1 to append",
        ),
        (
            "generators.z=a",
            "--set generators.z=a: generators is a list, so 'z' must be the number of an item: 0 to 0, or 1 to append",
        ),
        (
            "sample.batch_size=0",
            "--set sample.batch_size=0: sample.batch_size = 0: must be a whole number from 1 to 512",
        ),
        (
            "best.batchsize=1",
            "--set best.batchsize=1: best.batchsize = 1: unknown key; did you mean batch_size? "
            "Allowed here: batch_size, rate, dtype, keep",
        ),
        ("x.y=1", "--set x.y=1: x: unknown key; Allowed here: name, sample, best, reals, generators, extra"),
        ("reals.0.kind=photos", "--set reals.0.kind=photos: reals: must be a list"),
        ("reals=[{kind: photos}]", "--set reals=[{kind: photos}]: reals.0.path: this key is required"),
    ],
)
def test_wrong_override_names_the_argument(tmp_path: Path, override: str, message: str) -> None:
    assert refusal(tmp_path, "name: x\ngenerators: [a]\nbest: null\n", (override,)) == message


def test_later_override_wins_and_the_file_is_not_blamed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\nsample: {batch_size: 0}\ngenerators: [a, b]\n")
    config = load_model(
        path, Config, ["sample={keep: true}", "sample.batch_size=2", "generators.1=c", "generators.2=d"]
    )
    assert config.sample == Sample(batch_size=2, keep=True)
    assert config.generators == ("a", "c", "d")


KEYS = st.text("abcdefgh_0123456789", min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.lists(KEYS, min_size=1, max_size=3), VALUES)
def test_override_reads_back_at_its_path(data: dict[str, Any], keys: list[str], value: object) -> None:
    """Whatever was there, after `--set a.b=VALUE` the value stands at a.b and nothing else has changed."""
    before = json.dumps(data)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9)
    try:
        changed, origins = apply_overrides(data, [f"{'.'.join(keys)}={text}"])
    except InputError as error:
        assert "plain value" in str(error) or "must be the number of an item" in str(error)
        return
    assert json.dumps(data) == before
    place = changed
    for key in keys[:-1]:
        place = place[int(key)] if isinstance(place, list) else place[key]
    last = keys[-1]
    assert (place.pop(int(last)) if isinstance(place, list) else place.pop(last)) == value
    assert len(origins) == 1
    untouched = {key: kept for key, kept in data.items() if key != keys[0]}
    assert {key: kept for key, kept in changed.items() if key != keys[0]} == untouched
