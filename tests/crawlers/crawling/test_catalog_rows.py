"""The rows of a crawl over real hub servers: every reason in the hub's ranking, and what a row says."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from crawl_runs import QUICK, make_one_of_each, rows_of

from crawlers.catalog import eligible_generators, read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.catalog import CATALOG_REASONS, CATALOG_SCHEMA, CatalogRow
from manifests.generator import GeneratorSpec, SamplingParams, WeightFile


def test_every_reason_and_the_ranking(hub_folder: Any, tmp_path: Path) -> None:
    expected = make_one_of_each(hub_folder)
    assert {reason for reason, _ in expected.values()} == set(CATALOG_REASONS)
    with HubServer(hub_folder.root, HubOptions(page_size=4)) as hub:
        request = CrawlRequest(
            endpoint=hub.endpoint, licences_denied=("*non-commercial*",), max_per_author=2, named=("x/unknown",)
        )
        result = crawl(request, tmp_path / "out", policy=QUICK)
    rows = read_catalog(tmp_path / "out")
    assert [(row.rank, row.repo_id, row.reason) for row in rows] == [
        (rank, repo_id, reason) for rank, (repo_id, (reason, _)) in enumerate(expected.items(), start=1)
    ] + [(17, "x/unknown", "gone")]
    for row in rows[:-1]:
        detail = expected[row.repo_id][1]
        if detail is None:
            assert row.detail is None
        else:
            assert detail in str(row.detail)
        assert row.eligible == (row.reason == "ok")
        assert not row.named
        assert (row.revision is None) == (row.reason in ("gone", "filtered"))
    assert rows[-1].named and rows[-1].downloads is None
    assert result.rows == 17 and result.eligible == 2
    assert result.reasons == {**dict.fromkeys(CATALOG_REASONS, 1), "ok": 2, "gone": 2, "bad_model_index": 3}
    assert [(repo_id, reason) for repo_id, reason, _ in result.named_left_out] == [("x/unknown", "gone")]
    assert pq.read_schema(result.path).equals(CATALOG_SCHEMA, check_metadata=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".catalog.lock", "catalog.parquet"]


def test_one_row_in_full(hub_folder: Any, tmp_path: Path, sd_files: dict[str, Any], sha256: Any) -> None:
    card = {
        "license": "creativeml-openrail-m",
        "pipeline_tag": "text-to-image",
        "tags": ["art"],
        "base_model": "some/base",
        "inference": {"parameters": {"num_inference_steps": 9}},
    }
    hub_folder.repo(
        "owner/model",
        sd_files,
        card=card,
        downloads=1200,
        likes=7,
        author="someone",
        created_at="2023-04-05T06:07:08Z",
        last_modified="2024-02-01T00:00:00Z",
    )
    names = ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")
    weights = {f"{name}.safetensors": sd_files[f"{name}.safetensors"] for name in names}
    with HubServer(hub_folder.root) as hub:
        (row,) = rows_of(hub, tmp_path).values()
        from huggingface_hub import HfApi

        sha = HfApi(hub.endpoint).model_info("owner/model").sha
    assert row == CatalogRow(
        snapshot=row.snapshot,
        rank=1,
        repo_id="owner/model",
        generator="owner--model",
        revision=sha,
        named=False,
        eligible=True,
        reason="ok",
        downloads=1200,
        likes=7,
        author="someone",
        created_at="2023-04-05T06:07:08Z",
        last_modified="2024-02-01T00:00:00Z",
        kind="text-to-image",
        pipeline_class="StableDiffusionPipeline",
        architecture="LatentDiff",
        family="sd1",
        family_evidence="class StableDiffusionPipeline; unet.cross_attention_dim 768",
        lineage="some/base",
        base_model="some/base",
        license="creativeml-openrail-m",
        hf_pipeline_tag="text-to-image",
        hf_diffusers_tag="diffusers:StableDiffusionPipeline",
        params=SamplingParams(
            steps=9,
            guidance_scale=7.5,
            width=64,
            height=64,
            sources={"steps": "card", "width": "config", "height": "config", "guidance_scale": "family"},
        ),
        weight_bytes=sum(map(len, weights.values())),
        gpu_memory_bytes=row.gpu_memory_bytes,  # see crawlers.recognition.memory_estimate
        files=tuple(WeightFile(path=path, size=len(data), sha256=sha256(data)) for path, data in weights.items()),
    )
    assert row.snapshot.startswith("0001-")
    (generator,) = eligible_generators(tmp_path)
    assert (generator.name, generator.revision, generator.files) == ("owner--model", sha, row.files)
    assert generator.release_date == "2023-04-05"


def test_a_subfolder_pipeline_and_a_variant(hub_folder: Any, tmp_path: Path, sd_files: dict[str, Any]) -> None:
    unet = sd_files.pop("unet/diffusion_pytorch_model.safetensors")
    sd_files["unet/diffusion_pytorch_model.fp16.safetensors"] = unet
    hub_folder.repo("a/sub", {f"inner/{path}": content for path, content in sd_files.items()})
    with HubServer(hub_folder.root) as hub:
        row = rows_of(hub, tmp_path)["a/sub"]
    assert (row.eligible, row.subfolder, row.variant) == (True, "inner", "fp16")
    assert [file.path for file in row.files] == [
        "inner/text_encoder/model.safetensors",
        "inner/unet/diffusion_pytorch_model.fp16.safetensors",
        "inner/vae/diffusion_pytorch_model.safetensors",
    ]
    assert row.params.width == 64


def test_a_gated_repo_with_and_without_token(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/gated", gated="manual", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub:
        for number, (token, reason) in enumerate([(None, "gated"), ("hf_wrong", "gated"), ("hf_right", "ok")]):
            row = rows_of(hub, tmp_path / str(number), token=token)["a/gated"]
            assert (row.reason, row.gated) == (reason, "manual")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "hub" not in path.parts)
    assert b"hf_wrong" not in stored and b"hf_right" not in stored


def test_connections_change_nothing_but_the_time(hub_folder: Any, tmp_path: Path) -> None:
    make_one_of_each(hub_folder)
    results = []
    for connections in (1, 7):
        with HubServer(hub_folder.root) as hub:  # afresh, so that faults begin anew
            rows = rows_of(hub, tmp_path / str(connections), max_per_author=2, connections=connections)
        results.append(list(rows.values()))
    assert results[0] == results[1]


def test_rate_limits_and_cut_connections_end_nothing(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/limited", downloads=3, behaviour={"rate_limit": {"requests": 1, "retry_after": 1}})
    hub_folder.sd("a/cut", downloads=2, behaviour={"cut_after_bytes": 10})
    hub_folder.sd("a/broken", downloads=1, behaviour={"broken_first": 2})
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path)
    assert [row.reason for row in rows.values()] == ["ok"] * 3


def test_manifest_entries_win_and_are_pinned(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(3):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)
    specs = (
        GeneratorSpec(
            name="favourite",
            kind="text-to-image",
            repo_id="a/model-1",
            family="sdxl",
            lineage="my/root",
            params=SamplingParams(steps=3, call_kwargs={"eta": 0.5}),
        ),
        GeneratorSpec(name="favourite-slow", kind="text-to-image", repo_id="a/model-1"),
        GeneratorSpec(name="elsewhere", kind="text-to-image", repo_id="a/model-2", revision="1" * 40),
        GeneratorSpec(name="wrong-kind", kind="unconditional", repo_id="a/model-0"),
    )
    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, count=2, generators=specs)
        result = crawl(request, tmp_path, policy=QUICK)
    rows = {row.generator: row for row in read_catalog(tmp_path)}
    assert [(name, row.rank, row.repo_id, row.reason, row.named) for name, row in rows.items()] == [
        ("wrong-kind", 1, "a/model-0", "unsupported_pipeline", True),
        ("favourite", 2, "a/model-1", "ok", True),
        ("favourite-slow", 3, "a/model-1", "ok", True),
        ("elsewhere", 4, "a/model-2", "gone", True),
    ]
    favourite = rows["favourite"]
    assert favourite.revision is not None and len(favourite.revision) == 40
    assert (favourite.lineage, favourite.subset, favourite.family) == ("my/root", "manual", "sdxl")
    assert (favourite.params.steps, favourite.params.guidance_scale) == (3, 5.0)
    assert favourite.params.sources["steps"] == favourite.params.sources["eta"] == "manifest"
    assert rows["favourite-slow"].params.steps == 50
    assert {repo_id for repo_id, _, _ in result.named_left_out} == {"a/model-0", "a/model-2"}
