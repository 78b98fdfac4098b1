"""A unit's id is the hash of everything in it, however fast it is put together."""

import hashlib
import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from manifests.draws import Draw, Draws, DrawTemplate
from manifests.generator import BasePipeline, GeneratorSpec, SamplingParams, WeightFile
from manifests.unit import CheckerSpec, UnitSpec, unit_json

TEXT = st.text(max_size=20)
DRAW = st.builds(
    Draw,
    index=st.integers(-(2**40), 2**40),
    seed=st.integers(0, 2**63 - 1),
    prompt_id=TEXT,
    prompt=TEXT,
    prompt_source=TEXT,
    class_label=st.none() | TEXT,
    real_source=st.none() | TEXT,
    source_image_id=st.none() | TEXT,
    content=st.none() | TEXT,
)
GENERATOR = st.builds(
    GeneratorSpec,
    name=st.sampled_from(["a", "b-c"]),
    kind=st.sampled_from(["text-to-image", "unconditional"]),
    repo_id=TEXT,
    revision=st.none() | TEXT,
    params=st.builds(SamplingParams, steps=st.none() | st.integers(1, 9), negative_prompt=st.none() | TEXT),
    files=st.lists(
        st.builds(WeightFile, path=TEXT, size=st.integers(0, 2**50), dtype=st.none() | TEXT), max_size=3
    ).map(tuple),
)
UNIT = st.builds(
    UnitSpec,
    generator=GENERATOR,
    first=st.integers(0, 2**40),
    count=st.integers(1, 64),
    draws=st.lists(DRAW, max_size=4).map(tuple),
    reserve=st.lists(DRAW, max_size=2).map(tuple),
    batch_size=st.integers(1, 8),
    cpu_threads=st.integers(1, 8),
    checker=st.none() | st.builds(CheckerSpec, repo_id=TEXT, revision=TEXT),
    keep_flagged=st.booleans(),
    split=st.none() | TEXT,
)


@given(UNIT)
def test_the_id_is_the_hash_of_the_canonical_json_of_all_that_is_in_it(unit: UnitSpec) -> None:
    plain = json.dumps(
        unit.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    assert unit_json(unit) == plain
    assert unit.unit == hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


def test_an_id_does_not_depend_on_whether_it_is_known_how_files_are_stored() -> None:
    """A catalog that is crawled anew may know it; the images are the same, and so are the ids of their units."""

    def unit(dtype: str | None) -> UnitSpec:
        file = WeightFile(path="unet/model.safetensors", size=5, sha256="ab" * 32, dtype=dtype)
        base = BasePipeline(repo_id="owner/base", revision="0" * 40, files=(file,))
        generator = GeneratorSpec(
            name="g", kind="text-to-image", packaging="lora", repo_id="owner/g", files=(file,), base=base
        )
        draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="s")
        return UnitSpec(generator=generator, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1)

    plain = unit(None)
    assert plain.unit == "0bf357f7a48201085baaf0fe592bf02a"  # as it was before files said how they are stored
    assert unit("F32").unit == unit("BF16").unit == plain.unit
    assert unit_json(unit("F32")) == unit_json(plain)
    # It is not lost on the way to a worker, who plans memory with it.
    sent: UnitSpec = pickle.loads(pickle.dumps(unit("F32")))
    assert sent.generator.base is not None
    assert {file.dtype for file in (*sent.generator.files, *sent.generator.base.files)} == {"F32"}


@given(st.lists(DRAW, max_size=3))
def test_draws_put_together_as_text_are_the_draws(draws: list[Draw]) -> None:
    texts = []
    for draw in draws:
        given = draw.model_dump()
        index, seed = given.pop("index"), given.pop("seed")
        head, middle, tail = DrawTemplate.of(**given)
        texts.append(f"{head}{index}{middle}{seed}{tail}")
    carried = pickle.loads(pickle.dumps(Draws(f"[{','.join(texts)}]")))
    assert list(carried) == draws
    assert carried == Draws.of(draws) and hash(carried) == hash(Draws.of(draws))
    assert len(carried) == len(draws) and carried[1:] == tuple(draws[1:])


def test_generators_that_come_and_go_do_not_borrow_each_others_names() -> None:
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="s")
    ids = set()
    for number in range(3000):  # more than are remembered, and freed numbers of objects are used again
        generator = GeneratorSpec(name="g", kind="unconditional", repo_id=f"owner/{number}")
        ids.add(UnitSpec(generator=generator, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1).unit)
    assert len(ids) == 3000
