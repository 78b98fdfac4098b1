"""docs/real-hub.md names every request: its numbers are those of a hub's own log."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crawl_runs import QUICK, adapter
from safetensors.numpy import save

from crawlers.catalog import eligible_generators
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.fetching.fetch import fetch_generator
from crawlers.hub.rate_limits import API, RESOLVERS, RateLimits
from crawlers.hub_server.server import HubServer

DOC = (Path(__file__).parents[2] / "docs" / "real-hub.md").read_text(encoding="utf-8")
ROWS = {
    cells[0]: cells[1:]
    for line in DOC.splitlines()
    if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) >= 3
}


def documented(what: str) -> dict[str, int]:
    """Return the numbers of one row of the document's tables: requests by bucket."""
    return {API: int(ROWS[what][0].replace(",", "")), RESOLVERS: int(ROWS[what][1].replace(",", ""))}


def sent(hub: HubServer, since: int = 0, about: str = "") -> dict[str, int]:
    records = [record.path for record in hub.requests(since) if about in record.path]
    counts = Counter(RateLimits.bucket_of(path) for path in records)
    return {API: counts[API], RESOLVERS: counts[RESOLVERS]}


@pytest.fixture
def kinds(hub_folder: Any) -> Any:
    """One model of each kind that the document counts; weights whose headers can be read."""
    unet = save({"conv_in.weight": np.zeros((4, 4), np.float16)})
    hub_folder.sd("kind/pipeline", downloads=100, unet=unet)
    hub_folder.sd("base/model", downloads=1, library_name="other", unet=unet)
    for number in range(3):
        adapter(hub_folder, f"kind/lora-{number}", "base/model", downloads=90 - number)
    hub_folder.sd("kind/gated", downloads=50, gated="auto")
    hub_folder.sd("kind/gone", downloads=40, behaviour={"missing": True})
    hub_folder.sd("kind/video", downloads=30, card={"pipeline_tag": "text-to-video"})
    return hub_folder


def test_the_requests_of_a_crawl(kinds: Any, tmp_path: Path) -> None:
    tasks = ("text-to-image",)
    for name in ("pipeline", "lora-0", "lora-1", "lora-2", "gated", "gone"):
        settings = kinds.root / "models" / "kind" / name / ".hub.yaml"
        settings.write_text(settings.read_text() + "pipeline_tag: text-to-image\n")
    with HubServer(kinds.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint, tasks=tasks, connections=1), tmp_path, policy=QUICK)
        assert sent(hub, about="/api/models?") == documented("the listing, for each 1,000 models")
        assert sent(hub, about="kind/pipeline") == documented("a whole pipeline (UNet, VAE, scheduler)")
        for number in range(3):
            assert sent(hub, about=f"kind/lora-{number}") == documented("an adapter")
        assert sent(hub, about="base/model") == documented("a base, once for all of its adapters")
        assert sent(hub, about="kind/gated") == documented("a gated model, without token")
        assert sent(hub, about="kind/gone") == documented("a model that is gone")
        assert sent(hub, about="kind/video") == documented("a model that the listing's filters leave out")
        since = len(hub.requests())
        crawl(CrawlRequest(endpoint=hub.endpoint, tasks=tasks), tmp_path, policy=QUICK)
        assert sent(hub, since) == documented("a crawl that the catalog answers")


def test_the_requests_of_a_first_run_of_5000(kinds: Any) -> None:
    """4,000 adapters of 200 bases and 1,000 pipelines, from the numbers above."""
    parts = (("the listing, for each 1,000 models", 5), ("a whole pipeline (UNet, VAE, scheduler)", 1_000))
    parts += (("an adapter", 4_000), ("a base, once for all of its adapters", 200))
    for bucket in (API, RESOLVERS):
        total = sum(documented(what)[bucket] * times for what, times in parts)
        assert documented("5,000 models: 1,000 pipelines, 4,000 adapters of 200 bases")[bucket] == total


def test_the_requests_of_a_download(kinds: Any, tmp_path: Path) -> None:
    with HubServer(kinds.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint, count=0, named=("kind/pipeline",)), tmp_path, policy=QUICK)
        (spec,) = eligible_generators(tmp_path)
        since = len(hub.requests())
        with fetch_generator(spec, endpoint=hub.endpoint, cache_dir=tmp_path / "cache") as held:
            files = sum(path.is_file() for path in held.folder.rglob("*"))
        fetched = sent(hub, since)
        assert fetched == {API: int(ROWS["a repo that is fetched"][0]), RESOLVERS: files}
        since = len(hub.requests())
        fetch_generator(spec, endpoint=hub.endpoint, cache_dir=tmp_path / "cache").release()
        assert sent(hub, since) == documented("a repo that the cache holds")
    assert ROWS["a repo that is fetched"][1] == "1 for each file that the cache lacks"


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOC))
    root = Path(__file__).parents[1]
    there = {
        name for path in root.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 50
    assert named - there == set()
