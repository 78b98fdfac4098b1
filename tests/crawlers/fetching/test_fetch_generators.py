"""Each kind of generator brings its own file and what it needs of its base, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fetching import PIPELINE_FILES, TEXT, UNET, VAE, bodies, files_in

from crawlers.fetching.fetch import fetch_generator, pin_revision
from crawlers.fetching.generator_orders import generator_orders
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.generator import BasePipeline, GeneratorSpec, WeightFile
from shards.statuses import Reason, UnitFailure

WEIGHTS = {TEXT, UNET, VAE}
CONFIGS = PIPELINE_FILES - WEIGHTS


@pytest.fixture
def hub(hub_folder: Any) -> Iterator[HubServer]:
    """A base, and a repo of each packaging with files in it that nobody needs."""
    noise = {"image.png": b"png", "notes.md": b"notes", "old.bin": b"pickle"}
    hub_folder.sd("base/sd")
    adapters = {"pixel.safetensors": b"lora", "pixel-000010.safetensors": b"older", "deep/other.safetensors": b"other"}
    hub_folder.repo("a/lora", adapters | noise | {"adapter_config.json": {"r": 4}, "deep/prompts.txt": b"prompts"})
    component = {"unet/config.json": {}, UNET: b"other unet", "unet/diffusion_pytorch_model.fp16.safetensors": b"half"}
    hub_folder.repo("a/unet", component | noise | {"config.json": {}, VAE: b"a vae too"})
    hub_folder.repo("a/single", {"model.safetensors": b"whole", "model-pruned.safetensors": b"half"} | noise)
    hub_folder.repo("a/token", {"v2/learned_embeds.safetensors": b"token", "token_identifier.txt": b"<cat>"} | noise)
    with HubServer(hub_folder.root) as server:
        yield server


def spec(hub: HubServer, repo_id: str, packaging: Any, base: BasePipeline | None, **more: Any) -> GeneratorSpec:
    revision = pin_revision(repo_id, hub.endpoint)
    return GeneratorSpec(
        name="g", kind="text-to-image", packaging=packaging, repo_id=repo_id, revision=revision, base=base, **more
    )


def weight(path: str, content: bytes) -> WeightFile:
    return WeightFile(path=path, size=len(content))


def test_every_packaging_brings_its_own_and_what_it_needs_of_its_base(hub: HubServer, tmp_path: Path) -> None:
    revision = pin_revision("base/sd", hub.endpoint)
    whole = BasePipeline(repo_id="base/sd", revision=revision)
    vae_and_text = tuple(
        weight(path, (hub_file(tmp_path, "base/sd") / path).read_bytes()) for path in sorted(WEIGHTS - {UNET})
    )
    rest = whole.model_copy(update={"files": vae_and_text})
    lora = weight("pixel.safetensors", b"lora")
    for case, (made, own, of_base) in enumerate(
        [
            (spec(hub, "base/sd", "pipeline", None), PIPELINE_FILES, None),
            (
                spec(hub, "a/lora", "lora", whole, weight_name="pixel.safetensors", files=(lora,)),
                {"pixel.safetensors", "adapter_config.json"},
                PIPELINE_FILES,
            ),
            # As a dataset's row says it: the file's name alone.
            (
                spec(hub, "a/lora", "lora", whole, weight_name="deep/other.safetensors"),
                {"deep/other.safetensors", "deep/prompts.txt"},
                PIPELINE_FILES,
            ),
            (
                spec(hub, "a/unet", "component", rest, component="unet", files=(weight(UNET, b"other unet"),)),
                {UNET, "unet/config.json"},
                PIPELINE_FILES - {UNET},
            ),
            # Complete in itself: of the base only what says how to read it.
            (
                spec(hub, "a/single", "single-file", whole, weight_name="model.safetensors"),
                {"model.safetensors"},
                CONFIGS,
            ),
            (
                spec(hub, "a/token", "textual-inversion", whole, weight_name="v2/learned_embeds.safetensors"),
                {"v2/learned_embeds.safetensors"},
                PIPELINE_FILES,
            ),
        ]
    ):
        cache = tmp_path / f"cache-{case}"
        with ModelCache(endpoint=hub.endpoint, cache_dir=cache, token=None, timeout_seconds=60) as models:
            with models.fetch(made) as held:
                assert files_in(held.folder) == own, made.packaging
                assert held.folder.name == made.revision
                assert (held.base is None) == (of_base is None)
                if held.base is not None:
                    assert files_in(held.base) == of_base, made.packaging
                    assert held.base.name == revision
                folders = [folder for folder in (held.folder, held.base) if folder is not None]
                size = sum((folder / file).stat().st_size for folder in folders for file in files_in(folder))
            traffic = models.take_traffic()
            assert held.bytes == size == traffic.fetched
            assert traffic.saved == 0 and traffic.waited > 0


def hub_file(tmp_path: Path, repo_id: str) -> Path:
    return tmp_path / "hub" / "models" / repo_id


def test_adapters_on_one_base_fetch_it_once(hub: HubServer, tmp_path: Path) -> None:
    base = BasePipeline(repo_id="base/sd", revision=pin_revision("base/sd", hub.endpoint))
    names = ("pixel.safetensors", "pixel-000010.safetensors")
    adapters = [spec(hub, "a/lora", "lora", base, weight_name=name) for name in names]
    with ModelCache(endpoint=hub.endpoint, cache_dir=tmp_path / "c", token=None, timeout_seconds=60) as models:
        with models.fetch(adapters[0]):
            first = models.take_traffic()
        since = len(hub.requests())
        with models.fetch(adapters[1]) as held:
            second = models.take_traffic()
            assert files_in(held.folder) >= set(names), "both lie in the repo's folder now"
        assert set(bodies(hub, since)) == {"a/lora:pixel-000010.safetensors"}
        assert second.fetched == len(b"older")
        assert second.saved == held.bytes - second.fetched > first.fetched / 2
        with models.fetch(adapters[1]):
            assert models.take_traffic().saved == 0, "counted when it was first wanted"


def test_a_pickle_is_not_taken_for_its_name_alone(hub: HubServer, tmp_path: Path) -> None:
    base = BasePipeline(repo_id="base/sd", revision=pin_revision("base/sd", hub.endpoint))
    made = spec(hub, "a/token", "textual-inversion", base, weight_name="old.bin")
    with pytest.raises(UnitFailure, match=r"old\.bin is a pickle") as caught:
        fetch_generator(made, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    assert caught.value.reason is Reason.missing_file
    assert not list((tmp_path / "cache").rglob("old.bin"))


def test_the_base_must_be_pinned_too(tmp_path: Path) -> None:
    base = BasePipeline(repo_id="base/sd", revision="main")
    made = GeneratorSpec(
        name="g", kind="text-to-image", packaging="lora", repo_id="a/b", revision="1" * 40, base=base, weight_name="x"
    )
    with pytest.raises(InputError, match="base/sd: revision = 'main': must be a commit"):
        fetch_generator(made, cache_dir=tmp_path)


def test_what_is_cached_does_not_depend_on_whether_it_is_known_how_files_are_stored() -> None:
    """Caches of older versions stay complete once a crawl has learned it."""
    plain = WeightFile(path="lora.safetensors", size=4, sha256="ab" * 32)
    keys = set()
    for file in (plain, plain.model_copy(update={"dtype": "F32"})):
        base = BasePipeline(repo_id="a/base", revision="1" * 40, files=(file,))
        generator = GeneratorSpec(
            name="g",
            kind="text-to-image",
            packaging="lora",
            repo_id="a/lora",
            revision="0" * 40,
            files=(file,),
            base=base,
        )
        keys.add(tuple(order.key for order in generator_orders(generator)))
    assert len(keys) == 1
