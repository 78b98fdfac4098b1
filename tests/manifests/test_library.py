"""Manifests are found by flag, then working folder, then package; the packaged ones load."""

from pathlib import Path

import pytest

from manifests.errors import InputError
from manifests.evaluation_set import EvaluationSet
from manifests.generator import GeneratorSpec
from manifests.library import (
    find_evaluation_set,
    find_generator,
    find_real,
    list_manifests,
    load_evaluation_sets,
    load_generators,
    load_reals,
)

GENERATOR = "generators:\n  - {{name: {name}, kind: unconditional, repo_id: {repo}, params: {{steps: 7}}}}\n"


def test_packaged_manifests_load() -> None:
    generators = [spec for path in list_manifests("generators") for spec in load_generators(path)]
    assert [spec.repo_id for spec in generators] == [
        "facebook/DiT-XL-2-256",
        "google/ddpm-cifar10-32",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "stabilityai/stable-diffusion-xl-base-1.0",
    ]
    assert generators[0].params.sources == {"steps": "manifest", "guidance_scale": "manifest"}
    assert [source.name for path in list_manifests("reals") for source in load_reals(path)] == ["my-photos"]
    sets = [item for path in list_manifests("evalsets") for item in load_evaluation_sets(path)]
    assert [item.name for item in sets] == ["comprehensive"]
    assert all(isinstance(item, GeneratorSpec) for item in sets[0].generators)


def test_lookup_order(tmp_path: Path) -> None:
    flag, work = tmp_path / "flag", tmp_path / "work"
    flag.mkdir()
    work.mkdir()
    (flag / "b.yaml").write_text(GENERATOR.format(name="both", repo="flag/both"))
    (flag / "a.yml").write_text(GENERATOR.format(name="other", repo="flag/other"))
    (flag / "notes.txt").write_text("no manifest")
    (work / "generators.yaml").write_text(GENERATOR.format(name="both", repo="work/both"))
    files = list_manifests("generators", [flag], work)
    assert [path.name for path in files] == ["a.yml", "b.yaml", "generators.yaml", "manual.yaml"]
    assert find_generator("both", [flag], work).repo_id == "flag/both"
    assert find_generator("both", [], work).repo_id == "work/both"
    assert find_generator("ddpm-cifar10-32", [flag], work).repo_id == "google/ddpm-cifar10-32"
    with pytest.raises(InputError) as caught:
        find_generator("bth", [], work)
    assert str(caught.value) == (
        "there is no generator 'bth'. Did you mean both? "
        "Known: both, ddpm-cifar10-32, dit-xl-2-256, stable-diffusion-v1-5, stable-diffusion-xl-base-1.0"
    )


def test_real_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "reals.yaml").write_text("reals:\n  - {name: a, path: photos}\n  - {name: b, path: /data/b}\n")
    assert [source.path for source in load_reals(tmp_path / "reals.yaml")] == [tmp_path / "photos", Path("/data/b")]
    assert find_real("a", [], tmp_path).path == tmp_path / "photos"


def test_wrong_manifests(tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("generators:\n" + 2 * "  - {name: a, kind: unconditional, repo_id: o/a}\n")
    wrong_key = tmp_path / "key.yaml"
    wrong_key.write_text("reals: []\n")
    (tmp_path / "empty").mkdir()
    cases = {
        f"{twice}:1: generators: named twice: a": lambda: load_generators(twice),
        f"{tmp_path}/no.yaml: there is no such file or folder": lambda: list_manifests("reals", [tmp_path / "no.yaml"]),
        f"{tmp_path}/empty: the folder has no .yaml file": lambda: list_manifests("reals", [tmp_path / "empty"]),
        "kind = 'real': must be one of generators, reals, evalsets, benchmarks": lambda: list_manifests("real"),  # type: ignore[arg-type]
    }
    for message, call in cases.items():
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message
    with pytest.raises(InputError, match="unknown key; Allowed here: generators"):
        load_generators(wrong_key)


def test_evaluation_set_takes_names_and_full_specs(tmp_path: Path) -> None:
    path = tmp_path / "evalsets.yaml"
    path.write_text(
        "evaluation_sets:\n"
        "  - name: mine\n"
        "    title: Mine\n"
        "    generators: [dit-xl-2-256, {name: own, kind: unconditional, repo_id: o/own}]\n"
        "    reals: [my-photos]\n"
        "    images_per_generator: 10\n"
    )
    found = find_evaluation_set("mine", [], tmp_path)
    own = GeneratorSpec(name="own", kind="unconditional", repo_id="o/own")
    assert found == EvaluationSet(
        name="mine", title="Mine", generators=("dit-xl-2-256", own), reals=("my-photos",), images_per_generator=10
    )
    path.write_text("evaluation_sets:\n  - {name: m, title: M, reals: [a, a]}\n")
    with pytest.raises(InputError, match=r"evalsets.yaml:2: evaluation_sets.0.reals: named twice: a$"):
        find_evaluation_set("m", [], tmp_path)


def test_manifests_load_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, manifests.library, manifests.catalog, manifests.unit, manifests.key_kinds\n"
        "assert not {'torch', 'pandas', 'ray', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
