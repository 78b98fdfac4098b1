"""Every kind of hub generator, crawled from a real hub server: exact rows for repos that real libraries wrote."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crawlers.catalog import eligible_generators, read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer
from manifests.catalog import CatalogRow
from manifests.generator import BasePipeline, GeneratorSpec, SamplingParams, WeightFile
from pipeline.demo.toy_adapter_weights import KOHYA_FILE, SINGLE_FILE, TOY_BASE
from pipeline.demo.toy_adapters import TOY_ADAPTERS, add_toy_adapters
from pipeline.demo.toy_hub import build_toy_hub
from shards.identifiers import sha256_file

QUICK = RetryPolicy(attempts=3, first_wait=0.01)
PARTS = ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")
LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a hub's folder with the toy base and every kind of repo that is loaded into it."""
    root = tmp_path_factory.mktemp("hub")
    build_toy_hub(root, models=[TOY_BASE])
    add_toy_adapters(root)
    return root


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[HubServer]:
    with HubServer(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def rows(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CatalogRow]:
    out = tmp_path_factory.mktemp("out")
    crawl(CrawlRequest(endpoint=hub.endpoint), out, policy=QUICK)
    assert len(eligible_generators(out)) == 8
    return {row.repo_id: row for row in read_catalog(out)}


def weight_file(root: Path, repo_id: str, path: str) -> WeightFile:
    file = root / "models" / repo_id / path
    return WeightFile(path=path, size=file.stat().st_size, sha256=sha256_file(file), dtype="F32")


def the_base(root: Path, rows: dict[str, CatalogRow], *parts: str) -> BasePipeline:
    return BasePipeline(
        repo_id=TOY_BASE,
        revision=rows[TOY_BASE].revision,
        pipeline_class="StableDiffusionPipeline",
        files=tuple(weight_file(root, TOY_BASE, f"{part}.safetensors") for part in parts),
    )


SIZE = {"width": 64, "height": 64}
FROM_CONFIG = {"width": "config", "height": "config"}
CARD = {"steps": "card", "guidance_scale": "base card", **FROM_CONFIG}


@pytest.mark.parametrize(
    ("repo_id", "files", "parts", "expected"),
    [
        (
            "sketchbook/toy-crayon-lora",
            [LORA],
            PARTS,
            {
                "packaging": "lora",
                "weight_name": LORA,
                "params": SamplingParams(
                    steps=4,
                    guidance_scale=5.0,
                    trigger_words=("toycrayon drawing",),
                    sources=CARD | {"trigger_words": "card"},
                    **SIZE,
                ),
            },
        ),
        (
            "doodler/toy-doodles",
            [KOHYA_FILE],
            PARTS,
            {
                "packaging": "lora",
                "weight_name": KOHYA_FILE,
                "params": SamplingParams(
                    steps=4,
                    guidance_scale=5.0,
                    trigger_words=("toydoodle",),
                    sources=CARD | {"trigger_words": "metadata"},
                    **SIZE,
                ),
            },
        ),
        (
            "quickdraw/lcm-lora-toy-v1",
            [LORA],
            PARTS,
            {
                "packaging": "lora",
                "weight_name": LORA,
                "params": SamplingParams(
                    steps=4,
                    guidance_scale=1.0,
                    scheduler="LCMScheduler",
                    sources={"steps": "name", "guidance_scale": "name", "scheduler": "name", **FROM_CONFIG},
                    **SIZE,
                ),
            },
        ),
        (
            "charcoal/toy-charcoal-unet",
            ["diffusion_pytorch_model.safetensors"],
            (PARTS[0], PARTS[2]),
            {
                "packaging": "component",
                "component": "unet",
                "hf_diffusers_tag": "diffusers:UNet2DConditionModel",
                "params": SamplingParams(steps=4, guidance_scale=5.0, sources=CARD, **SIZE),
            },
        ),
        (
            "gouache/toy-gouache",
            [SINGLE_FILE],
            (),
            {
                "packaging": "single-file",
                "weight_name": SINGLE_FILE,
                "params": SamplingParams(steps=4, guidance_scale=5.0, sources=CARD, **SIZE),
            },
        ),
        (
            "glyphs/toy-crayon-token",
            ["learned_embeds.safetensors"],
            PARTS,
            {
                "packaging": "textual-inversion",
                "weight_name": "learned_embeds.safetensors",
                "params": SamplingParams(
                    steps=4,
                    guidance_scale=5.0,
                    trigger_words=("<toy-crayon>",),
                    sources=CARD | {"trigger_words": "header"},
                    **SIZE,
                ),
            },
        ),
    ],
)
def test_a_row_in_full(
    root: Path,
    rows: dict[str, CatalogRow],
    repo_id: str,
    files: list[str],
    parts: tuple[str, ...],
    expected: dict[str, Any],
) -> None:
    row, toy = rows[repo_id], TOY_ADAPTERS[repo_id]
    own = tuple(weight_file(root, repo_id, path) for path in files)
    base = the_base(root, rows, *parts)
    told_by = "metadata" if repo_id == "doodler/toy-doodles" else "card"
    loaded = sum(file.size for file in (*own, *base.files))
    assert (
        row.model_dump()
        == CatalogRow(
            snapshot=row.snapshot,
            rank=row.rank,
            repo_id=repo_id,
            generator=repo_id.replace("/", "--"),
            revision=row.revision,
            eligible=True,
            reason="ok",
            downloads=toy.downloads,
            likes=toy.downloads // 40,
            author=repo_id.split("/")[0],
            created_at=toy.created_at,
            last_modified=row.last_modified,
            kind="text-to-image",
            pipeline_class="StableDiffusionPipeline",
            architecture="LatentDiff",
            family="sd1",
            family_evidence=f"base {TOY_BASE} ({told_by}); class StableDiffusionPipeline; unet.cross_attention_dim 32",
            lineage=TOY_BASE,
            base_model=TOY_BASE,
            license="creativeml-openrail-m",
            hf_pipeline_tag="text-to-image",
            weight_bytes=loaded,
            gpu_memory_bytes=row.gpu_memory_bytes,
            base=base,
            files=own,
            **expected,
        ).model_dump()
    )
    assert row.revision is not None and row.revision != base.revision
    # Float32 on disk, half of it in half precision, and the decoder's activations.
    assert row.gpu_memory_bytes == sum(file.size // 2 for file in (*own, *base.files)) + 64 * 64 * 2560
    generator = row.to_generator()
    assert (generator.base, generator.packaging, generator.release_date) == (base, row.packaging, "2023-11-11")


def test_a_pipelines_row_says_how_its_files_are_stored(root: Path, rows: dict[str, CatalogRow]) -> None:
    """The header of its largest file was read."""
    assert rows[TOY_BASE].files == tuple(weight_file(root, TOY_BASE, f"{part}.safetensors") for part in PARTS)


def test_what_a_crawl_cannot_see_stays_eligible(rows: dict[str, CatalogRow]) -> None:
    """A LoRA of zeros has the header of any other; only sampling it shows that it changes nothing."""
    assert rows["sketchbook/toy-blank-lora"].eligible
    assert {repo_id: row.reason for repo_id, row in rows.items() if repo_id in TOY_ADAPTERS} == {
        repo_id: toy.catalog_reason for repo_id, toy in TOY_ADAPTERS.items()
    }


def test_an_adapter_for_another_architecture_has_no_base(rows: dict[str, CatalogRow]) -> None:
    row = rows["confused/toy-flux-lora"]
    assert (row.reason, row.base, row.packaging) == ("no_base", None, "lora")
    assert row.detail == f"{TOY_BASE} (card): a LoRA of rank 4 for a transformer, and the base has a unet"


def test_the_base_is_asked_for_once(hub: HubServer, tmp_path: Path) -> None:
    before = len(hub.requests())
    crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path, policy=QUICK)
    paths = [record.path.split("?")[0] for record in hub.requests(before)]
    asked = [path for path in paths if path.endswith(f"/{TOY_BASE}")]
    assert len(asked) == 2  # as a row of its own, and as the base of seven others
    configs = [path for path in paths if TOY_BASE in path and path.endswith("model_index.json")]
    assert len(configs) == 2


def one_row(root: Path, spec: GeneratorSpec, out: Path) -> CatalogRow:
    with HubServer(root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint, count=0, generators=(spec,)), out, policy=QUICK)
    (row,) = read_catalog(out)
    return row


def test_a_manifest_chooses_file_base_words_and_scale(root: Path, tmp_path: Path) -> None:
    repo_id = "sketchbook/toy-crayon-lora"
    folder = root / "models" / repo_id
    shutil.copy(folder / LORA, folder / "second.safetensors")
    spec = GeneratorSpec(
        name="mine",
        kind="text-to-image",
        packaging="lora",
        repo_id=repo_id,
        weight_name="second.safetensors",
        base=BasePipeline(repo_id=TOY_BASE),
        params=SamplingParams(trigger_words=("crayon",), adapter_scale=0.5, steps=3),
    )
    try:
        row = one_row(root, spec, tmp_path / "a")
        wrong = one_row(root, spec.model_copy(update={"weight_name": "third.safetensors"}), tmp_path / "b")
        other = one_row(root, spec.model_copy(update={"packaging": "single-file"}), tmp_path / "c")
        listed = one_row(root, GeneratorSpec(name="all", kind="text-to-image", repo_id=repo_id), tmp_path / "d")
    finally:
        (folder / "second.safetensors").unlink()
    assert (row.eligible, row.weight_name, row.params.trigger_words) == (True, "second.safetensors", ("crayon",))
    assert (row.params.adapter_scale, row.params.steps) == (0.5, 3)
    assert [row.params.sources[key] for key in ("trigger_words", "adapter_scale", "steps")] == ["manifest"] * 3
    assert str(row.family_evidence).startswith(f"base {TOY_BASE} (manifest); ")
    assert (wrong.reason, wrong.detail) == ("no_model_index", "third.safetensors is not in the repo")
    assert other.reason == "no_model_index"
    assert "second.safetensors: a LoRA of rank 4 for a UNet" in str(other.detail)
    assert (listed.eligible, listed.weight_name) == (True, LORA)
    assert listed.detail == f"{LORA} chosen; the repo also has second.safetensors"


def test_a_component_in_its_own_folder(root: Path, tmp_path: Path) -> None:
    source = root / "models" / "charcoal" / "toy-charcoal-unet"
    hub = tmp_path / "hub"
    shutil.copytree(root / "models" / TOY_BASE, hub / "models" / TOY_BASE)
    target = hub / "models" / "a" / "inside" / "unet"
    target.mkdir(parents=True)
    shutil.copy(source / "config.json", target)
    shutil.copy(source / "diffusion_pytorch_model.safetensors", target / "diffusion_pytorch_model.fp16.safetensors")
    lone = hub / "models" / "a" / "lone"
    lone.mkdir()
    shutil.copy(source / "diffusion_pytorch_model.safetensors", lone / "toy_4step_unet.safetensors")
    for folder in (target.parent, lone):
        (folder / "README.md").write_text(f"---\nbase_model: {TOY_BASE}\n---\n")
    inpaint = hub / "models" / "a" / "inpaint"
    inpaint.mkdir()
    shutil.copytree(source, inpaint, dirs_exist_ok=True)
    config = json.loads((inpaint / "config.json").read_text())
    (inpaint / "config.json").write_text(json.dumps(config | {"in_channels": 9}))
    vae = hub / "models" / "a" / "vae"
    shutil.copytree(root / "models" / TOY_BASE / "vae", vae)
    with HubServer(hub) as server:
        crawl(CrawlRequest(endpoint=server.endpoint), tmp_path / "out", policy=QUICK)
    rows = {row.repo_id: row for row in read_catalog(tmp_path / "out")}
    row = rows["a/inside"]
    assert (row.eligible, row.packaging, row.component, row.subfolder) == (True, "component", "unet", "unet")
    assert (row.variant, row.weight_name) == ("fp16", None)
    assert [file.path for file in row.files] == ["unet/diffusion_pytorch_model.fp16.safetensors"]
    # Without config.json, the base's is meant.
    row = rows["a/lone"]
    assert (row.eligible, row.packaging, row.component) == (True, "component", "unet")
    assert row.weight_name == "toy_4step_unet.safetensors"
    assert row.base is not None and [file.path.split("/")[0] for file in row.base.files] == ["text_encoder", "vae"]
    assert (rows["a/inpaint"].reason, rows["a/inpaint"].detail) == (
        "no_base",
        f"{TOY_BASE} (card): unet.in_channels is 9, and the base's 4",
    )
    assert (rows["a/vae"].reason, rows["a/vae"].detail) == (
        "no_model_index",
        "looks like a single component (AutoencoderKL), which makes no image",
    )
