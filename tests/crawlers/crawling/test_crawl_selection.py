"""Which models a crawl takes: count, popularity, names, filters, limits; and what it asks the hub for them."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from crawl_runs import QUICK, adapter, asked_repos, rows_of
from scripted_hub import scripted_hub

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_filters import finding_verdict
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError


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


def test_what_the_listing_tells_is_judged_without_asking(hub_folder: Any, tmp_path: Path) -> None:
    def model(name: str, downloads: int, created: str = "2024-06-01", **hub: Any) -> None:
        hub_folder.sd(f"a/{name}", downloads=downloads, created_at=f"{created}T23:59:59Z", **hub)

    model("fits", 100, card={"pipeline_tag": "text-to-image", "license": "mit"})
    model("first-day", 90, "2024-01-01", card={"pipeline_tag": "text-to-image"})
    model("last-day", 80, "2024-12-31", card={"pipeline_tag": "text-to-image"})
    model("early", 70, "2023-12-31", card={"pipeline_tag": "text-to-image"})
    model("late", 60, "2025-01-01", card={"pipeline_tag": "text-to-image"})
    model("video", 50, card={"pipeline_tag": "text-to-video"})
    model("no-tag", 40)
    model("denied", 30, card={"pipeline_tag": "text-to-image", "license": "cc-by-nc-4.0"})
    model("other", 20, card={"pipeline_tag": "text-to-image", "license": "other", "license_name": "fair-nc"})
    model("wanted", 10, "2020-01-01", card={"pipeline_tag": "text-to-video"})
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(
            hub,
            tmp_path,
            tasks=("text-to-image",),
            created_from=date(2024, 1, 1),
            created_until=date(2024, 12, 31),
            licences_denied=("*-nc*",),
            named=("a/wanted",),
        )
        asked = asked_repos(hub)
    found = {name.removeprefix("a/"): (row.rank, row.reason, row.detail) for name, row in rows.items()}
    assert found == {
        "fits": (1, "ok", None),
        "first-day": (2, "ok", None),
        "last-day": (3, "ok", None),
        "early": (4, "filtered", "created_from: created 2023-12-31, before 2024-01-01"),
        "late": (5, "filtered", "created_until: created 2025-01-01, after 2024-12-31"),
        "video": (6, "filtered", "tasks: text-to-video is not among text-to-image"),
        "no-tag": (7, "filtered", "tasks: no pipeline tag is not among text-to-image"),
        "denied": (8, "licence_denied", "licence cc-by-nc-4.0 is denied by '*-nc*'"),
        # The listing only says `other`: what that is, the card says.
        "other": (9, "licence_denied", "licence other, fair-nc is denied by '*-nc*'"),
        "wanted": (10, "ok", None),
    }
    assert sorted(asked) == ["a/first-day", "a/fits", "a/last-day", "a/other", "a/wanted"]
    assert rows["a/video"].revision is None and rows["a/video"].hf_pipeline_tag == "text-to-video"


def test_what_only_the_model_tells_is_kept_in_its_row(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd1", downloads=30)
    hub_folder.sd("a/sd2", downloads=20, files={"unet/config.json": {"sample_size": 8, "cross_attention_dim": 1024}})
    adapter(hub_folder, "a/lora", "a/sd1", downloads=10)
    hub_folder.sd("a/broken", downloads=5, drop=("unet",))
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path / "1", families=("sd1",), packagings=("pipeline",))
        named = rows_of(hub, tmp_path / "2", families=("sd1",), packagings=("pipeline",), named=("a/sd2", "a/lora"))
    assert {name: row.reason for name, row in rows.items()} == {
        "a/sd1": "ok",
        "a/sd2": "filtered",
        "a/lora": "filtered",
        "a/broken": "no_weights",  # what is wrong with a model is worth more than that nobody wanted it
    }
    assert rows["a/sd2"].detail == "families: sd2-base is not among sd1"
    assert str(rows["a/lora"].detail).startswith("packagings: lora is not among pipeline")
    assert rows["a/sd2"].revision and rows["a/sd2"].files and rows["a/sd2"].family == "sd2-base"
    assert rows["a/lora"].base is not None and rows["a/lora"].base.repo_id == "a/sd1"
    assert named["a/sd2"].eligible and named["a/lora"].eligible


def test_adapters_of_one_base_are_limited_and_the_rest_not_asked_for(hub_folder: Any, tmp_path: Path) -> None:
    """Thirty thousand adapters of one base: those beyond the limit cost no request."""
    old = "runwayml/stable-diffusion-v1-5"
    base = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    hub_folder.sd(base, downloads=1000)
    hub_folder.sd("other/base", downloads=999)
    for number in range(12):  # two names of one base
        adapter(hub_folder, f"u{number}/lora", old if number % 2 else base, downloads=100 - number)
    adapter(hub_folder, "x/lora", "other/base", downloads=1)
    adapter(hub_folder, "x/wanted", base, downloads=0)
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path, max_per_base=2, connections=1, named=("x/wanted",))
        asked = set(asked_repos(hub))
    taken = [name for name, row in rows.items() if row.eligible]
    assert taken == [base, "other/base", "u0/lora", "u1/lora", "x/lora", "x/wanted"]
    assert {row.detail for name, row in rows.items() if not row.eligible} == {
        f"max_per_base: {base} has 2 adapters already"
    }
    assert rows["u5/lora"].base_model == old and rows["u5/lora"].packaging == "lora"
    assert {f"u{number}/lora" for number in range(4, 12)}.isdisjoint(asked)  # a window of two may have been asked ahead


@pytest.mark.parametrize(
    ("request_keys", "words"),
    [
        ({"families": ("sd1", "sdlx")}, "families: sdlx is not known; allowed: sd1"),
        ({"packagings": ()}, "packagings: none is left to take; allowed: pipeline, lora"),
        ({"created_from": date(2024, 2, 1), "created_until": date(2024, 1, 1)}, "created_from: no day lies between"),
    ],
)
def test_filters_that_could_take_nothing(tmp_path: Path, request_keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        crawl(CrawlRequest(endpoint="http://127.0.0.1:9", **request_keys), tmp_path)
    assert words in str(caught.value)


def test_a_date_that_the_listing_does_not_tell(tmp_path: Path) -> None:
    """An entry without `createdAt` is asked for; a model of which nobody knows the day is in no range of days."""
    listed = [{"id": f"a/{name}", "downloads": 1, "tags": ["diffusers"]} for name in ("dated", "undated")]

    def reply(path: str, number: int) -> Any:
        if path.startswith("/api/models?"):
            return 200, listed, {}
        info = {"id": path.split("?")[0].removeprefix("/api/models/"), "sha": "0" * 40, "siblings": []}
        return 200, info | ({"createdAt": "2024-01-01T00:00:00.000Z"} if "a/dated" in path else {}), {}

    with scripted_hub(reply) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, created_from=date(2023, 1, 1))
        crawl(request, tmp_path, policy=QUICK)
        assert len(hub.asked) == 3
    # Neither has files, and that is what their rows say: filters choose among what could be sampled.
    assert [row.reason for row in read_catalog(tmp_path)] == ["no_model_index"] * 2
    fields = {"created_at": None, "packaging": "pipeline", "family": "sd1"}
    verdict = finding_verdict(request, fields)
    assert verdict.reason == "filtered" and "nobody knows when" in str(verdict.detail)
    assert finding_verdict(request, fields | {"created_at": "2024-01-01T00:00:00Z"}).eligible
