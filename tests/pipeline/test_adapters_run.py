"""Repos that are no whole pipeline, from the crawl to images made again from their rows."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from toy_runs import ToyWorld, commforge, small_config, write_yaml

from crawlers.catalog import eligible_generators
from crawlers.fetching.fetch import pin_revision
from crawlers.hub_server.server import HubServer
from pipeline.demo.photos import build_photos
from pipeline.demo.toy_adapter_weights import PLACEHOLDER, SINGLE_FILE, TOY_BASE, build_single_file
from pipeline.demo.toy_adapters import ToyAdapter, add_toy_adapters
from pipeline.demo.toy_checker import CHECKER_REPO
from pipeline.demo.toy_hub import build_toy_hub
from pipeline.exit_codes import ExitCode
from pipeline.regenerate import regenerate
from pipeline.run_folder import RunFolder
from samplers.replay import generator_from_row
from shards.dataset import Dataset

UNET_TENSORS = "model.diffusion_model."
VAE_TENSORS = "first_stage_model."
ADAPTING = ("lora", "textual-inversion")
"""Packagings whose rows name the base as the repo, and the crawled repo as the adapter."""
WORDS = {
    "sketchbook/toy-crayon-lora": "toycrayon drawing, ",
    "doodler/toy-doodles": "toydoodle, ",
    "glyphs/toy-crayon-token": f"{PLACEHOLDER} {PLACEHOLDER}_1, ",  # a word of its own for each of the two vectors
}
"""Repo → what the model sees before every prompt."""
WAYS = {
    "quickdraw/lcm-lora-toy-v1": "lora",
    "charcoal/toy-charcoal-unet": "component",
    "gouache/toy-gouache": "single-file",
    "gouache/toy-unet-alone": "single-file",
    "gouache/toy-no-text-encoder": "single-file",
    "glyphs/toy-crayon-token": "textual-inversion",
}
"""Repo → packaging, for those of which an image is made again."""
BASE_PARTS: dict[str, list[str]] = {
    "gouache/toy-gouache": [],
    "gouache/toy-unet-alone": ["text_encoder", "vae"],
    "gouache/toy-no-text-encoder": ["text_encoder"],
}
"""Checkpoint → the networks that it lacks."""


@dataclass(frozen=True)
class AdaptersRun:
    """A finished run over generators that are no whole pipeline; `models` are the repos that it was asked for."""

    world: ToyWorld
    folder: Path
    models: dict[str, ToyAdapter]
    disk_budget: int

    @property
    def cache(self) -> Path:
        return self.world.root / "cache"

    def rows(self, repo_id: str) -> list[dict[str, Any]]:
        """Every generated row of a crawled repo."""
        column = "adapter_repo" if self.models[repo_id].packaging in ADAPTING else "repo_id"
        rows = Dataset.open(self.folder / "dataset").rows(label=1).to_pylist()
        return [row for row in rows if row[column] == repo_id]

    @property
    def sampled(self) -> dict[str, ToyAdapter]:
        """The repos that the crawl takes."""
        return {repo_id: model for repo_id, model in self.models.items() if model.catalog_reason == "ok"}

    def commit(self, repo_id: str) -> str:
        """Return the commit that the hub names for a repo."""
        return pin_revision(repo_id, self.world.endpoint)


def _only(*prefixes: str) -> Callable[[Path, int], None]:
    """Build the checkpoint in one file with only the tensors below `prefixes`."""

    def build(folder: Path, seed: int) -> None:
        from safetensors.torch import load_file, save_file

        build_single_file(folder, seed)
        kept = {key: value for key, value in load_file(folder / SINGLE_FILE).items() if key.startswith(prefixes)}
        save_file(kept, folder / SINGLE_FILE, metadata={"format": "pt"})

    return build


def _add_partial_checkpoints(root: Path, like: ToyAdapter) -> dict[str, ToyAdapter]:
    builders = {
        "gouache/toy-unet-alone": _only(UNET_TENSORS),
        "gouache/toy-no-text-encoder": _only(UNET_TENSORS, VAE_TENSORS),
    }
    models = {repo_id: replace(like, repo_id=repo_id, build=build) for repo_id, build in builders.items()}
    for repo_id, model in models.items():
        folder = root / "models" / repo_id
        folder.mkdir(parents=True)
        model.write(folder, 0)
    return models


@pytest.fixture(scope="session")
def adapters_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdaptersRun]:
    """Crawl, caption and sample two images of each, one inline worker, in a cache with a budget."""
    root = tmp_path_factory.mktemp("adapters")
    build_toy_hub(root / "hub", models=(TOY_BASE, CHECKER_REPO))
    models = add_toy_adapters(root / "hub")
    models |= _add_partial_checkpoints(root / "hub", models["gouache/toy-gouache"])
    build_photos(root / "photos")
    budget = _needed(root / "hub")
    with HubServer(root / "hub") as hub:
        world = ToyWorld(root, hub.endpoint)
        config = small_config(
            world,
            root / "run",
            hub={"disk_budget": budget},
            crawl={"models": list(models)},
            sample={"images_per_generator": 2, "unit_images": 2, "batch_size": 2},
        )
        path = write_yaml(root / "config.yaml", config)
        # One repo is left out by the crawl, and one is left without images: the stages say so in their exit codes.
        for stage, code in (("crawl", 1), ("caption", 0), ("sample", 1)):
            done = commforge(stage, path)
            assert done.returncode == code, done.stderr
        yield AdaptersRun(world, root / "run", models, budget)


def _needed(hub: Path) -> int:
    """Bytes that hold base, checker and the two largest generators: not all of them together."""
    sizes = {
        f"{folder.parent.name}/{folder.name}": _bytes(folder)
        for folder in (hub / "models").glob("*/*")
        if folder.is_dir()
    }
    whole = sum(sizes.values())
    kept = sizes.pop(TOY_BASE) + sizes.pop(CHECKER_REPO)
    budget = kept + sum(sorted(sizes.values())[-2:])
    assert budget < whole, "the budget shall be one that the run feels"
    return budget


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_every_repo_ends_as_it_should(adapters_run: AdaptersRun) -> None:
    for repo_id, model in adapters_run.models.items():
        statuses = [row["status"] for row in adapters_run.rows(repo_id)]
        assert statuses == ([] if model.row_status is None else [model.row_status] * 2), repo_id
    reasons = {row["reason"] for row in adapters_run.rows("sketchbook/toy-blank-lora")}
    assert reasons == {"no_pixel_changed"}


def test_rows_name_repo_and_base_by_commit(adapters_run: AdaptersRun) -> None:
    base = (TOY_BASE, adapters_run.commit(TOY_BASE))
    for repo_id, model in adapters_run.sampled.items():
        own = (repo_id, adapters_run.commit(repo_id))
        expected = (*base, *own) if model.packaging in ADAPTING else (*own, None, None)
        for row in adapters_run.rows(repo_id):
            named = tuple(row[name] for name in ("repo_id", "revision", "adapter_repo", "adapter_revision"))
            assert named == expected
            assert (row["family"], row["lineage"]) == ("sd1", TOY_BASE), repo_id


def test_the_model_saw_the_trigger_words(adapters_run: AdaptersRun) -> None:
    for repo_id in adapters_run.sampled:
        for row in adapters_run.rows(repo_id):
            if row["status"] == "ok":
                assert row["prompt_sent"] == WORDS.get(repo_id, "") + row["prompt"]


def test_rows_alone_give_the_catalogs_generators(adapters_run: AdaptersRun) -> None:
    specs = {spec.repo_id: spec for spec in eligible_generators(RunFolder.at(adapters_run.folder).catalog)}
    assert specs.keys() == adapters_run.sampled.keys()
    for repo_id, spec in specs.items():
        row = adapters_run.rows(repo_id)[0]
        if row["status"] != "ok":
            continue
        again = generator_from_row(row)
        for field in ("name", "packaging", "repo_id", "revision", "component", "pipeline_class", "kind", "family"):
            assert getattr(again, field) == getattr(spec, field), (repo_id, field)
        assert spec.base is not None
        # What a checkpoint takes of its base is a choice; all others take the whole of it, but for what they replace.
        chosen = spec.base if spec.packaging == "single-file" else spec.base.model_copy(update={"files": ()})
        # How files are stored is the catalog's knowledge, and nothing that an image depends on.
        assert again.base is not None and again.base.model_dump() == chosen.model_dump()
        if repo_id in BASE_PARTS:
            assert json.loads(row["call_kwargs"])["load"]["base_components"] == BASE_PARTS[repo_id]
            assert sorted(file.path.split("/")[0] for file in chosen.files) == BASE_PARTS[repo_id]


def test_the_cache_kept_to_its_budget(adapters_run: AdaptersRun) -> None:
    held = sum(_bytes(blobs) for blobs in adapters_run.cache.glob("models--*/blobs"))
    assert 0 < held <= adapters_run.disk_budget


@pytest.mark.parametrize("repo_id", WAYS)
def test_an_image_of_each_packaging_comes_out_equal(
    adapters_run: AdaptersRun, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing but the row and the hub, in another cache than the run's.

    Checkpoints have an empty one each: what they take of the base must not be there for another's sake.
    """
    alone = repo_id in BASE_PARTS
    assert adapters_run.models[repo_id].packaging == WAYS[repo_id]
    row = adapters_run.rows(repo_id)[1]
    code = regenerate(
        adapters_run.folder / "dataset",
        row["image_id"],
        verify=True,
        out=tmp_path / "again.png",
        endpoint=adapters_run.world.endpoint,
        cache=tmp_path / "cache" if alone else adapters_run.world.root / "second-cache",
        device="cpu",
    )
    assert code is ExitCode.DONE, capsys.readouterr().out
    assert (tmp_path / "again.png").read_bytes() == Dataset.open(adapters_run.folder / "dataset").image_bytes(row)
