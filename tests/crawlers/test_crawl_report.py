"""The crawl report against a catalog whose numbers were worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from crawlers.catalog_bytes import SharedComponent
from crawlers.catalog_file import CatalogHeader, write_catalog
from crawlers.crawl_report import SMALL_FILES, crawl_report
from crawlers.crawling.crawl_request import CrawlRequest
from manifests.catalog import CATALOG_REASONS, CatalogRow
from manifests.errors import InputError
from manifests.generator import BasePipeline, WeightFile

GIB = 2**30


def weight(path: str, size: int, content: str | None) -> WeightFile:
    """`content` stands for the file's bytes: equal contents have equal hashes."""
    return WeightFile(path=path, size=size, sha256=content and content.ljust(64, "0"))


def pipeline(unet: str, vae: str, text: str, folder: str = "") -> tuple[WeightFile, ...]:
    """1,000 bytes of UNet, 100 of VAE, 10 of text encoder, the UNet in two files."""
    return (
        weight(f"{folder}unet/a.safetensors", 600, f"{unet}1"),
        weight(f"{folder}unet/b.safetensors", 400, f"{unet}2"),
        weight(f"{folder}vae/model.safetensors", 100, vae),
        weight(f"{folder}text_encoder/model.safetensors", 10, text),
    )


BASE = BasePipeline(repo_id="q/base", revision="b" * 40, files=pipeline("a", "b", "c"))
ROWS: list[dict[str, Any]] = [
    {"files": pipeline("a", "b", "c"), "gpu_memory_bytes": 8 * GIB, "license": "mit", "lineage": "root/one"},
    # The same VAE and text encoder, another UNet, in a subfolder.
    {
        "files": pipeline("d", "b", "c", "inner/"),
        "subfolder": "inner",
        "gpu_memory_bytes": 8 * GIB + 1,
        "license": "mit",
    },
    # A VAE of the same size that is another; a text encoder whose content nobody knows.
    {
        "files": (*pipeline("e", "f", "c")[:3], weight("text_encoder/model.safetensors", 10, None)),
        "gpu_memory_bytes": 100 * GIB,
        "author": "other",
        "family": "sdxl",
        "release_date": "2022-09-01",
        "lineage": "root/one",
    },
    # An adapter of 7 bytes on the first pipeline's weights.
    {
        "files": (weight("lora.safetensors", 7, "9"),),
        "packaging": "lora",
        "base": BASE,
        "created_at": None,
        "license": "apache-2.0",
    },
    {"eligible": False, "reason": "gated"},
    {"eligible": False, "reason": "gated"},
    {"eligible": False, "reason": "no_base", "files": pipeline("x", "y", "z")},
]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    rows = []
    for rank, fields in enumerate(ROWS, start=1):
        given: dict[str, Any] = {
            "snapshot": "0001-aaaa",
            "rank": rank,
            "repo_id": f"a/model-{rank}",
            "generator": f"a--model-{rank}",
            "revision": "1" * 40,
            "eligible": True,
            "reason": "ok",
            "kind": "text-to-image",
            "architecture": "LatentDiff",
            "family": "sd1",
            "author": "a",
            "lineage": f"a/model-{rank}",
            "created_at": "2024-05-06T00:00:00Z",
        }
        rows.append(CatalogRow.model_validate(given | fields).to_record())
    header = CatalogHeader(snapshots=("0001-aaaa",), request=CrawlRequest(), listed=6)
    write_catalog(tmp_path / "catalog.parquet", header, rows)
    return tmp_path


def test_every_number(catalog: Path) -> None:
    report = crawl_report(catalog)
    assert (report.models, report.listed, report.eligible) == (7, 6, 4)
    assert report.reasons == {"ok": 4, "gated": 2, "no_base": 1}
    assert report.packagings == {"pipeline": 3, "lora": 1}
    assert report.families == {"sd1": 3, "sdxl": 1}
    assert report.architectures == {"LatentDiff": 4}
    assert report.licences == {"mit": 2, "apache-2.0": 1, "not stated": 1}
    assert (report.authors, report.author_count) == ({"a": 3, "other": 1}, 2)
    assert report.years == {"2022": 1, "2024": 2, "not stated": 1}
    assert report.lineages == {"root/one": 2, "a/model-2": 1, "a/model-4": 1}
    assert report.lineage_count == 3
    # Four whole pipelines of 1,110 bytes (the adapter's base is one) and the adapter's 7.
    assert report.bytes_naive == 4 * 1110 + 7
    # UNets a, d, e; VAEs b, f; the text encoder c and the unknown one; the adapter.
    assert report.bytes_unique == 3 * 1000 + 2 * 100 + 2 * 10 + 7
    # The largest is the adapter with its base; the first pipeline adds nothing to it, the others their own parts.
    assert report.bytes_pinned == {1: 1117, 2: 1117, 4: report.bytes_unique}
    assert (report.weight_files, report.distinct_files, report.unhashed_files) == (4 * 4 + 1, 11, 1)
    assert report.gpu_memory == {"8": 1, "16": 1, "24": 0, "48": 0, "80": 0, "more": 1, "unknown": 1}
    assert report.components == (
        SharedComponent("text_encoder", models=3, distinct=2, sharing=2, bytes_saved=10),
        SharedComponent("unet", models=3, distinct=3, sharing=0, bytes_saved=0),
        SharedComponent("vae", models=3, distinct=2, sharing=2, bytes_saved=100),
    )
    assert (report.pipelines, report.pipelines_sharing) == (3, 2)
    assert [(entry.what, entry.models) for entry in report.failures] == [
        ("gated", 2),
        ("no_base", 1),
        ("licence not stated", 1),
        ("memory unknown", 1),
        ("files without a hash", 1),
    ]
    assert report.failures[0].meaning == CATALOG_REASONS["gated"]
    # Five repos (four models and a base) are listed; 11 different weight files and their configs are fetched.
    assert (report.requests.api, report.requests.resolvers) == (5, 11 + 5 * SMALL_FILES)


def test_the_json_says_the_same(catalog: Path) -> None:
    report = crawl_report(catalog / "catalog.parquet")
    document = json.loads(json.dumps(report.as_dict()))
    assert document["bytes_unique"] == report.bytes_unique
    assert document["bytes_pinned"] == {"1": 1117, "2": 1117, "4": report.bytes_unique}
    assert document["components"][0] == {
        "component": "text_encoder",
        "models": 3,
        "distinct": 2,
        "sharing": 2,
        "bytes_saved": 10,
        "identical_share": pytest.approx(1 / 3),
    }
    assert document["requests"] == {"api": 5, "resolvers": report.requests.resolvers}
    assert document["cost"] is None


def test_an_empty_catalog_and_none(tmp_path: Path) -> None:
    header = CatalogHeader(snapshots=("0001-aaaa",), request=CrawlRequest(), listed=0)
    write_catalog(tmp_path / "catalog.parquet", header, [])
    report = crawl_report(tmp_path)
    assert (report.models, report.bytes_unique, report.bytes_pinned) == (0, 0, {1: 0})
    assert report.components == report.failures == ()
    with pytest.raises(InputError, match="no such catalog"):
        crawl_report(tmp_path / "elsewhere")
