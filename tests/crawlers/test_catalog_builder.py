"""Crawling real hub servers: exact rows for every reason, ranking, filters, growth, and kills at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from crawlers.catalog import eligible_generators, read_catalog
from crawlers.catalog_builder import crawl
from crawlers.crawl_request import CrawlRequest
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from crawlers.retrying import RetryPolicy
from manifests.catalog import CATALOG_REASONS, CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, SamplingParams, WeightFile

QUICK = RetryPolicy(attempts=3, first_wait=0.01)


def rows_of(hub: HubServer, out: Path, **request: Any) -> dict[str, CatalogRow]:
    crawl(CrawlRequest(endpoint=hub.endpoint, **request), out, policy=QUICK)
    return {row.repo_id: row for row in read_catalog(out)}


def asked_repos(hub: HubServer, since: int = 0) -> list[str]:
    """Return the repos whose description was asked for."""
    paths = [record.path.split("?")[0] for record in hub.requests(since)]
    return [path.removeprefix("/api/models/") for path in paths if path.startswith("/api/models/")]


def make_one_of_each(hub_folder: Any) -> dict[str, tuple[str, str | None]]:
    """Write a repo for every catalog reason; return repo id to (reason, words of the detail)."""
    folder = hub_folder
    folder.sd("z/fine", downloads=100, likes=3, card={"license": "mit", "base_model": "gone/base"})
    folder.sd("z/sub", drop=("\0",), downloads=95)
    inside = folder.root / "models" / "z" / "sub"
    (inside / "pipeline").mkdir()
    for path in list(inside.iterdir()):
        if path.name not in ("pipeline", ".hub.yaml"):
            path.rename(inside / "pipeline" / path.name)
    folder.sd("b/gated", downloads=90, gated="auto")
    folder.sd("c/gone", downloads=80, behaviour={"missing": True})
    folder.repo("d/lora", {"pytorch_lora_weights.safetensors": b"lora"}, downloads=70)
    folder.sd("e/bad-index", downloads=60, files={"model_index.json": b"{not json"})
    folder.sd("e/bad-class", downloads=59, files={"model_index.json": {"_class_name": 3, "unet": ["a", "b"]}})
    folder.sd("e/bad-config", downloads=58, files={"unet/config.json": b"\xff"})
    folder.sd("f/pickle", drop=("unet",), downloads=50, files={"unet/diffusion_pytorch_model.bin": b"pickle"})
    folder.sd("g/empty", drop=("unet",), downloads=40)
    inpaint = {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    folder.sd("h/inpaint", downloads=30, files={"model_index.json": inpaint})
    custom = {"_class_name": ["mine", "MyPipeline"], "unet": ["diffusers", "UNet2DConditionModel"]}
    folder.sd("i/code", downloads=20, files={"model_index.json": custom, "mine.py": b"import os"})
    folder.sd("j/broken", downloads=15, behaviour={"broken_first": 10_000})
    folder.sd("k/research", downloads=10, card={"license": "other", "license_name": "non-commercial-x"})
    folder.sd("z/third", downloads=5)
    return {
        "z/fine": ("ok", None),
        "z/sub": ("ok", None),
        "b/gated": ("gated", "auto approval"),
        "c/gone": ("gone", "404"),
        "d/lora": ("no_model_index", "looks like an adapter (pytorch_lora_weights.safetensors)"),
        "e/bad-index": ("bad_model_index", "model_index.json is not JSON"),
        "e/bad-class": ("bad_model_index", "_class_name is 3"),
        "e/bad-config": ("bad_model_index", "unet/config.json is not JSON"),
        "f/pickle": ("pickle_only", "unet: no safetensors, only pickles"),
        "g/empty": ("no_weights", "unet: UNet2DConditionModel has no weights"),
        "h/inpaint": ("unsupported_pipeline", "StableDiffusionInpaintPipeline"),
        "i/code": ("remote_code", "mine.py"),
        "j/broken": ("unavailable", "503"),
        "k/research": ("licence_denied", "'*non-commercial*'"),
        "z/third": ("filtered", "z has 2 models already"),
    }


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
    ] + [(16, "x/unknown", "gone")]
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
    assert result.rows == 16 and result.eligible == 2
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


def test_count_minimum_and_names(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(6):
        hub_folder.sd(f"a/model-{number}", downloads=number * 10)
    with HubServer(hub_folder.root, HubOptions(page_size=2)) as hub:
        top = rows_of(hub, tmp_path / "top", count=2)
        assert [(row.rank, name) for name, row in top.items()] == [(1, "a/model-5"), (2, "a/model-4")]
        before = len(hub.requests())
        popular = rows_of(hub, tmp_path / "popular", min_downloads=30)
        assert list(popular) == ["a/model-5", "a/model-4", "a/model-3"]
        assert sorted(asked_repos(hub, before)) == sorted(popular)
        named = rows_of(hub, tmp_path / "named", count=1, named=("a/model-0", "a/model-5", "a/model-0"))
        assert [(row.rank, name, row.named) for name, row in named.items()] == [
            (1, "a/model-5", True),
            (2, "a/model-0", True),
        ]
        only = rows_of(hub, tmp_path / "only", count=0, named=("a/model-1",))
        assert [(row.rank, name) for name, row in only.items()] == [(1, "a/model-1")]


def test_named_models_are_not_capped_and_filtered_ones_not_asked(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(8):
        hub_folder.sd(f"busy/model-{number}", downloads=100 - number)
    hub_folder.sd("busy/ineligible", drop=("unet",), downloads=200)
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path, max_per_author=2, named=("busy/model-6",), connections=1)
        asked = asked_repos(hub)
    reasons = {name.removeprefix("busy/"): row.reason for name, row in rows.items()}
    assert reasons == {
        "ineligible": "no_weights",
        "model-0": "ok",
        "model-1": "ok",
        **{f"model-{number}": "filtered" for number in (2, 3, 4, 5, 7)},
        "model-6": "ok",
    }
    assert len(asked) <= 4 + 2  # at most a window of one connection was asked ahead


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


def test_a_finished_catalog_needs_no_hub(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/one", downloads=2)
    hub_folder.sd("a/two", downloads=1)
    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, count=2, named=("a/one",))
        first = crawl(request, tmp_path / "out", policy=QUICK)
        content = first.path.read_bytes()
        before = len(hub.requests())
        again = crawl(request, tmp_path / "out", policy=QUICK)
        less = crawl(request.model_copy(update={"count": 1, "named": ()}), tmp_path / "out", policy=QUICK)
        assert len(hub.requests()) == before
    assert first.asked == 2 and again.asked == less.asked == 0
    assert first.snapshot == again.snapshot == less.snapshot
    # Even with the hub gone, and by another address.
    crawl(request.model_copy(update={"endpoint": "http://127.0.0.1:9"}), tmp_path / "out", policy=QUICK)
    assert first.path.read_bytes() == content


def test_asking_for_more_appends_and_leaves_old_rows_alone(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(5):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)
    out = tmp_path / "out"
    with HubServer(hub_folder.root, HubOptions(page_size=2)) as hub:
        first = crawl(CrawlRequest(endpoint=hub.endpoint, count=2), out, policy=QUICK)
        old = read_catalog(out)
        since = len(hub.requests())
        (hub_folder.root / "models/a/model-0/README.md").write_text("changed since")
        grown = crawl(CrawlRequest(endpoint=hub.endpoint, count=4, named=("a/model-1",)), out, policy=QUICK)
        new = read_catalog(out)
        assert sorted(asked_repos(hub, since)) == ["a/model-2", "a/model-3"]
        whole = rows_of(hub, tmp_path / "whole", count=4)
        since = len(hub.requests())
        assert crawl(CrawlRequest(endpoint=hub.endpoint, count=3), out, policy=QUICK).asked == 0
        assert len(hub.requests()) == since
        last = crawl(CrawlRequest(endpoint=hub.endpoint), out, policy=QUICK)
    assert first.snapshot != grown.snapshot
    assert new[0] == old[0]
    assert new[1] == old[1].model_copy(update={"named": True})
    assert [(row.rank, row.repo_id, row.snapshot) for row in new[2:]] == [
        (3, "a/model-2", grown.snapshot),
        (4, "a/model-3", grown.snapshot),
    ]
    assert [row.repo_id for row in new] == list(whole)
    assert [row.repo_id for row in read_catalog(out)][4:] == ["a/model-4"]
    assert [snapshot.split("-")[0] for snapshot in (first.snapshot, grown.snapshot, last.snapshot)] == [
        "0001",
        "0002",
        "0003",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"licences_denied": ("mit",)}, "licences_denied (none -> mit)"),
        ({"max_per_author": 3}, "max_per_author (None -> 3)"),
        ({"variant": "fp16"}, "variant"),
        ({"generators": (GeneratorSpec(name="mine", kind="text-to-image", repo_id="a/one"),)}, "generator mine"),
    ],
)
def test_other_rules_are_refused_by_name(hub_folder: Any, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    hub_folder.sd("a/one")
    spec = GeneratorSpec(name="mine", kind="text-to-image", repo_id="a/one", params=SamplingParams(steps=3))
    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, generators=(spec,))
        result = crawl(request, tmp_path / "out", policy=QUICK)
        content = result.path.read_bytes()
        with pytest.raises(InputError) as caught:
            crawl(request.model_copy(update=change), tmp_path / "out", policy=QUICK)
        assert words in str(caught.value)
        assert result.path.read_bytes() == content
        refreshed = crawl(request.model_copy(update=change), tmp_path / "out", policy=QUICK, refresh=True)
    assert refreshed.snapshot.startswith("0002-")


def test_refresh_sees_what_has_changed_and_keeps_the_old_catalog(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/one", downloads=5)
    hub_folder.sd("a/two", downloads=4)
    with HubServer(hub_folder.root) as hub:
        first = crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "out", policy=QUICK)
        content = first.path.read_bytes()
    hub_folder.sd("a/two", downloads=9, unet=b"trained further")
    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint)
        second = crawl(request, tmp_path / "out", policy=QUICK, refresh=True)
    assert (tmp_path / "out" / f"catalog-{first.snapshot}.parquet").read_bytes() == content
    before = {row.repo_id: row for row in read_catalog(tmp_path / "out" / f"catalog-{first.snapshot}.parquet")}
    after = {row.repo_id: row for row in read_catalog(second.path)}
    assert list(after) == ["a/two", "a/one"]
    assert after["a/one"].revision == before["a/one"].revision
    assert after["a/two"].revision != before["a/two"].revision
    assert second.snapshot.startswith("0002-")


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


def test_lineage_through_aliases_bases_and_shared_weights(hub_folder: Any, tmp_path: Path) -> None:
    old, new = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"
    hub_folder.sd(new, downloads=100, unet=b"the v1-5 unet")
    hub_folder.sd("t/tune", downloads=90, card={"base_model": old})
    hub_folder.sd("t/tune-of-tune", downloads=80, card={"base_model": "t/tune"})
    hub_folder.sd("t/reupload", downloads=70, unet=b"the v1-5 unet")
    hub_folder.sd("t/unlisted-child", downloads=60, card={"base_model": "t/unlisted"})
    hub_folder.sd("t/unlisted", downloads=1, library_name="other", card={"base_model": "far/root"})
    hub_folder.sd("t/merge", downloads=50, card={"base_model": ["t/tune", "q/q"]})
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path / "gone")
        assert {name: row.lineage for name, row in rows.items()} == {
            new: new,
            "t/tune": new,
            "t/tune-of-tune": new,
            "t/reupload": new,
            "t/unlisted-child": "far/root",
            "t/merge": new,
        }
        assert rows["t/tune"].detail == f"alias {old} -> {new} not verified"
        assert rows["t/tune"].base_model == old
        assert rows["t/merge"].base_model == "t/tune, q/q"
        assert "merged from 2 bases" in str(rows["t/merge"].detail)
        asked = asked_repos(hub)
        assert sorted(asked) == sorted(set(asked)), "a repo was asked for twice"
    # The old base is still there: the alias is checked by hashes.
    for unet, lineage, note in ((b"the v1-5 unet", new, "verified by weight hashes"), (b"another", old, "refused")):
        hub_folder.sd(old, downloads=95, unet=unet)
        with HubServer(hub_folder.root) as hub:
            row = rows_of(hub, tmp_path / note.split()[0])["t/tune"]
        assert row.lineage == lineage
        assert note in str(row.detail)


def test_a_dead_endpoint_is_the_users_error(tmp_path: Path) -> None:
    request = CrawlRequest(endpoint="http://127.0.0.1:9", count=1)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9.*does not answer"):
        crawl(request, tmp_path / "out", policy=QUICK)
    assert not (tmp_path / "out" / "catalog.parquet").exists()


@pytest.mark.parametrize("named", [("nobody",), ("a/b/c",), ("a/ b",), ("../x",), ("",)])
def test_names_that_no_hub_could_have(tmp_path: Path, named: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="OWNER/NAME"):
        crawl(CrawlRequest(endpoint="http://127.0.0.1:9", named=named), tmp_path)


def test_a_file_in_the_way(hub_folder: Any, tmp_path: Path) -> None:
    (tmp_path / "catalog.parquet").write_text("not a catalog")
    with pytest.raises(InputError, match="not a catalog that commforge wrote"):
        crawl(CrawlRequest(endpoint="http://127.0.0.1:9"), tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        crawl(CrawlRequest(endpoint="http://127.0.0.1:9"), tmp_path / "catalog.parquet" / "below")


CRAWL_SCRIPT = """
import sys
from pathlib import Path
from crawlers.catalog_builder import crawl
from crawlers.crawl_request import CrawlRequest
crawl(CrawlRequest(endpoint=sys.argv[1], connections=2), Path(sys.argv[2]))
"""


def journalled(out: Path) -> list[str]:
    """Return the repos whose rows are in the journal; a torn line does not count."""
    journal = out / "catalog.jsonl.part"
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return [json.loads(line)["row"]["repo_id"] for line in lines if line.endswith(b"\n") and b'"row"' in line]


def without_snapshot(out: Path) -> list[CatalogRow]:
    return [row.model_copy(update={"snapshot": ""}) for row in read_catalog(out)]


@pytest.mark.parametrize("torn", [b"", b'{"row": {"repo_id": "half'])
def test_after_a_kill_nothing_known_is_asked_again(hub_folder: Any, tmp_path: Path, torn: bytes) -> None:
    for number in range(9):
        hub_folder.sd(f"a/model-{number:02d}", downloads=100 - number, behaviour={"delay_seconds": 0.05})
    out = tmp_path / "out"
    with HubServer(hub_folder.root, HubOptions(page_size=5)) as hub:
        process = subprocess.Popen([sys.executable, "-c", CRAWL_SCRIPT, hub.endpoint, str(out)])
        try:
            deadline = time.monotonic() + 60
            while len(journalled(out)) < 3:
                assert process.poll() is None and time.monotonic() < deadline, "ended before it could be killed"
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        known = journalled(out)
        assert 3 <= len(known) < 9
        with (out / "catalog.jsonl.part").open("ab") as journal:
            journal.write(torn)
        time.sleep(0.5)  # what was under way at the hub when the crawl died
        since = len(hub.requests())
        crawl(CrawlRequest(endpoint=hub.endpoint, connections=2), out, policy=QUICK)
        later = [record.path for record in hub.requests(since)]
        assert not any(repo_id in path for repo_id in known for path in later)
        assert not any(path.startswith("/api/models?") for path in later), "the listing was asked for again"
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "undisturbed", policy=QUICK)
    assert without_snapshot(out) == without_snapshot(tmp_path / "undisturbed")
    assert len(read_catalog(out)) == 9


def test_a_hub_that_dies_in_the_middle_loses_nothing(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(6):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number, behaviour={"delay_seconds": 0.1})
    hub = HubServer(hub_folder.root).__enter__()

    def progress(text: str) -> None:
        if text.startswith("crawl: looked at 2 of"):
            os.kill(hub.pid, signal.SIGKILL)

    try:
        with pytest.raises(InputError, match=r"stopped after .* models; the same command goes on from there"):
            crawl(CrawlRequest(endpoint=hub.endpoint, connections=1), tmp_path, progress, policy=QUICK)
    finally:
        hub.__exit__(None, None, None)
    known = journalled(tmp_path)
    assert known[:2] == ["a/model-0", "a/model-1"] and len(known) < 6
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path)
        assert not set(asked_repos(hub)) & set(known)
    assert [row.reason for row in rows.values()] == ["ok"] * 6


def test_a_listing_goes_on_at_the_page_where_it_stopped(hub_folder: Any, tmp_path: Path) -> None:
    for number in range(9):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)

    def stop(text: str) -> None:
        if text == "crawl: listed 4 models":
            raise KeyboardInterrupt

    with HubServer(hub_folder.root, HubOptions(page_size=2)) as hub:
        with pytest.raises(KeyboardInterrupt):
            crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path, stop, policy=QUICK)
        rows = rows_of(hub, tmp_path)
        pages = [record.path for record in hub.requests() if record.path.startswith("/api/models?")]
    assert list(rows) == [f"a/model-{number}" for number in range(9)]
    assert len(pages) == len(set(pages)) == 5


def test_two_crawls_cannot_share_a_folder(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/one")
    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint)
        seen = []

        def meanwhile(text: str) -> None:
            with pytest.raises(InputError, match="another crawl"):
                crawl(request, tmp_path)
            seen.append(text)

        crawl(request, tmp_path, meanwhile, policy=QUICK)
    assert seen


def test_a_long_listing_is_not_held_in_memory(hub_folder: Any, tmp_path: Path) -> None:
    """A million models would be 60 bytes of hash each and nothing more: rows go to disk as they come."""
    import tracemalloc

    from crawlers.listing import read_listing, spool_listing

    class Listing:
        def listing_pages(self, cursor: str | None) -> Any:
            for page in range(int(cursor or 0), 50):
                entries = [
                    {"id": f"owner-{page}/model-{n}", "downloads": 10**6 - page, "tags": ["a" * 200] * 5}
                    for n in range(100)
                ]
                yield entries, str(page + 1) if page < 49 else None

    tracemalloc.start()
    spool_listing(Listing(), tmp_path / "spool", None, 0, lambda _: False, lambda _: None)  # type: ignore[arg-type]
    count = sum(1 for _ in read_listing(tmp_path / "spool"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5_000
    assert (tmp_path / "spool").stat().st_size > 5_000_000
    assert peak < 2_000_000
