"""Roots: followed bases, moved bases, shared weights."""

import pytest

from crawlers.recognition.base_aliases import MOVED_BASES
from crawlers.recognition.lineage import (
    KnownRepo,
    Lineage,
    SharedWeights,
    named_bases,
    resolve_lineage,
)
from manifests.generator import WeightFile

OLD, NEW = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.mark.parametrize(
    ("card", "tags", "bases"),
    [
        ({}, [], ()),
        ({"base_model": "a/b"}, ["base_model:c/d"], ("a/b",)),
        ({"base_model": ["a/b", "c/d", "a/b"]}, [], ("a/b", "c/d")),
        ({}, ["base_model:a/b", "base_model:finetune:a/b", "license:mit"], ("a/b",)),
        ({"base_model": "https://huggingface.co/a/b/"}, [], ("a/b",)),
        ({"base_model": "me/mine"}, [], ()),
        ({"base_model": {"a": "b"}}, [], ()),
        ({"base_model": "SD 1.5"}, [], ()),
    ],
)
def test_named_bases(card: dict[str, object], tags: list[str], bases: tuple[str, ...]) -> None:
    assert named_bases("me/mine", card, tags) == bases


def test_a_repo_without_base_is_its_own_root() -> None:
    assert resolve_lineage("a/b", (), {}.get) == Lineage("a/b")


def test_bases_are_followed_to_the_root() -> None:
    known = {"b/b": KnownRepo(("c/c",)), "c/c": KnownRepo(("d/d",)), "d/d": KnownRepo()}
    assert resolve_lineage("a/a", ("b/b",), known.get).root == "d/d"


def test_a_base_that_nobody_knows_any_more_is_the_root() -> None:
    assert resolve_lineage("a/a", ("b/b",), {"b/b": None}.get).root == "b/b"


@pytest.mark.parametrize(
    "known", [{"b/b": KnownRepo(("a/a",))}, {"b/b": KnownRepo(("c/c",)), "c/c": KnownRepo(("b/b",))}]
)
def test_circles_end(known: dict[str, KnownRepo]) -> None:
    assert resolve_lineage("a/a", ("b/b",), known.get).root in {"b/b", "c/c"}


def test_merges_follow_the_first_base_and_say_so() -> None:
    lineage = resolve_lineage("a/a", ("b/b", "c/c"), {}.get)
    assert lineage.root == "b/b"
    assert lineage.notes == ("merged from 2 bases; lineage follows b/b",)


@pytest.mark.parametrize(
    ("old", "new", "root", "note"),
    [
        (None, KnownRepo(), NEW, "not verified"),
        (KnownRepo((), {"unet/a": "1"}), None, NEW, "not verified"),
        (KnownRepo((), {"unet/a": "1"}), KnownRepo((), {"vae/a": "1"}), NEW, "not verified"),
        (KnownRepo((), {"unet/a": "1", "b": "2"}), KnownRepo((), {"unet/a": "1", "c": "3"}), NEW, "verified by"),
        (KnownRepo((), {"unet/a": "1"}), KnownRepo((), {"unet/a": "2"}), OLD, "refused"),
    ],
)
def test_an_alias_holds_where_the_weights_do_not_contradict_it(
    old: KnownRepo | None, new: KnownRepo | None, root: str, note: str
) -> None:
    lineage = resolve_lineage("a/lora", (OLD,), {OLD: old, NEW: new}.get)
    assert lineage.root == root
    assert note in lineage.notes[0]


def test_a_moved_base_shares_the_lineage_of_its_new_place() -> None:
    assert resolve_lineage(OLD, (), {}.get).root == resolve_lineage(NEW, (), {}.get).root == NEW


def test_no_alias_leads_to_another() -> None:
    assert not MOVED_BASES.keys() & set(MOVED_BASES.values())
    assert MOVED_BASES["stabilityai/stable-diffusion-2-1"].startswith("sd2-community/")


def weights(unet: str, vae: str = "v") -> list[WeightFile]:
    return [
        WeightFile(path="unet/diffusion_pytorch_model.safetensors", size=1, sha256=unet),
        WeightFile(path="vae/diffusion_pytorch_model.safetensors", size=1, sha256=vae),
    ]


def test_a_reupload_joins_the_lineage_of_the_first_model_with_its_denoiser() -> None:
    shared = SharedWeights()
    assert shared.adopt(Lineage("a/a"), "a/a", weights("1")) == Lineage("a/a")
    joined = shared.adopt(Lineage("b/b"), "b/b", weights("1", vae="other"))
    assert joined.root == "a/a"
    assert "same denoiser weights" in joined.notes[0]
    # A shared VAE is no kinship, and a named base is believed.
    assert shared.adopt(Lineage("c/c"), "c/c", weights("2")).root == "c/c"
    assert shared.adopt(Lineage("x/base"), "d/d", weights("1")).root == "x/base"
    assert shared.adopt(Lineage("e/e"), "e/e", []).root == "e/e"
