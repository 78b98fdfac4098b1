"""A catalog grows and is never changed: what it answers, what extends it, what is refused."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from crawl_runs import QUICK, adapter, asked_repos, rows_of

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest, check_same_rules, covers, union
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, SamplingParams


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


NARROWER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tasks": ("text-to-image",)}, {"tasks": ("text-to-image", "image-to-image")}),
    ({"tasks": ("text-to-image",)}, {}),
    ({"families": ("sd1",)}, {"families": ("sd2-base", "sd1")}),
    ({"packagings": ("pipeline",)}, {"packagings": ("pipeline", "lora")}),
    ({"created_from": date(2024, 1, 1)}, {"created_from": date(2022, 1, 1)}),
    ({"created_until": date(2023, 1, 1)}, {"created_until": date(2024, 6, 1)}),
    ({"max_per_author": 1}, {"max_per_author": 3}),
    ({"max_per_base": 1}, {"max_per_base": 3}),
    ({"licences_denied": ("mit", "other")}, {"licences_denied": ("other",)}),
    ({"licences_allowed": ("mit",)}, {"licences_allowed": ("mit", "apache-2.0")}),
    (
        {"tasks": ("text-to-image",), "max_per_author": 1, "packagings": ("pipeline",), "licences_denied": ("mit",)},
        {"tasks": (), "max_per_author": 2, "packagings": ("lora", "pipeline", "component")},
    ),
]


@pytest.fixture(scope="module")
def hub(hub_folder_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Serve models that every filter tells apart: three uploaders, two families, adapters, tasks, years, licences."""
    hub_folder = hub_folder_at(tmp_path_factory.mktemp("hub"))
    tasks, licences = ("text-to-image", "image-to-image"), ("mit", "apache-2.0", "other")
    for number in range(12):
        card = {"license": licences[number % 3], "pipeline_tag": tasks[number % 4 == 3]}
        hub = {"downloads": 500 - number, "created_at": f"{2021 + number % 4}-05-05T00:00:00Z", "card": card}
        owner = f"u{number % 3}"
        if number % 2:
            adapter(hub_folder, f"{owner}/lora-{number}", "u0/model-0", **hub)
        else:
            wide = {"sample_size": 8, "cross_attention_dim": 1024 if number % 8 == 4 else 768}
            hub_folder.sd(f"{owner}/model-{number}", files={"unet/config.json": wide}, **hub)
    hub_folder.sd("u1/gone", downloads=400, behaviour={"missing": True})
    with HubServer(hub_folder.root) as hub:
        yield hub


def judged(out: Path) -> list[dict[str, Any]]:
    """Return the rows without who wrote them; of a row that a filter left out, only that it did."""
    found = []
    for row in read_catalog(out):
        record = row.to_record() | {"snapshot": ""}
        if row.reason in ("filtered", "licence_denied"):
            record = {key: record[key] for key in ("rank", "repo_id", "generator", "named", "eligible")}
        found.append(record)
    return found


@pytest.mark.parametrize(("narrow", "wide"), NARROWER)
def test_wider_rules_take_what_they_would_have_taken_at_once(
    hub: HubServer, tmp_path: Path, narrow: dict[str, Any], wide: dict[str, Any]
) -> None:
    first = crawl(CrawlRequest(endpoint=hub.endpoint, **narrow), tmp_path / "grown", policy=QUICK)
    before = read_catalog(tmp_path / "grown")
    since = len(hub.requests())
    grown = crawl(CrawlRequest(endpoint=hub.endpoint, **wide), tmp_path / "grown", policy=QUICK)
    asked = asked_repos(hub, since)
    listed_again = any(record.path.startswith("/api/models?") for record in hub.requests(since))
    crawl(CrawlRequest(endpoint=hub.endpoint, **wide), tmp_path / "fresh", policy=QUICK)
    again = crawl(CrawlRequest(endpoint=hub.endpoint, **wide), tmp_path / "grown", policy=QUICK)
    after = read_catalog(tmp_path / "grown")
    assert judged(tmp_path / "grown") == judged(tmp_path / "fresh")
    assert grown.eligible > first.eligible and grown.snapshot.startswith("0002-")
    assert again.asked == 0 and again.snapshot == grown.snapshot
    for old, new in zip(before, after, strict=True):
        if old.eligible:
            assert new == old  # it may have been sampled from
        elif new.eligible:
            assert (old.reason in ("filtered", "licence_denied"), new.snapshot) == (True, grown.snapshot)
    # What a row held already was not asked for again, and the listing was not read again.
    held = {row.repo_id for row in before if row.revision and row.reason != "licence_denied"}
    assert not held & set(asked) - {"u0/model-0"}  # the adapters' base, which newly found adapters need
    assert not listed_again


def test_a_filtered_model_that_is_named_later_is_taken(hub: HubServer, tmp_path: Path) -> None:
    filters: dict[str, Any] = {"families": ("sd1",), "packagings": ("pipeline",), "max_per_author": 1}
    before = rows_of(hub, tmp_path, **filters)
    named = ("u1/model-4", "u1/lora-1", "u0/model-6", "u0/model-0")
    after = rows_of(hub, tmp_path, named=named, **filters)
    assert [before[name].reason for name in named] == ["filtered", "filtered", "filtered", "ok"]
    assert [(after[name].reason, after[name].named) for name in named] == [("ok", True)] * 4
    assert [row.rank for row in after.values()] == [row.rank for row in before.values()]
    others = set(before) - set(named)
    assert {name: after[name] for name in others} == {name: before[name] for name in others}


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_growing_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path, stop_after: int) -> None:
    narrow = {"tasks": ("text-to-image",), "max_per_author": 1}

    def stop(text: str) -> None:
        if text.startswith(f"crawl: looked at {stop_after} of"):
            raise KeyboardInterrupt

    for name in ("stopped", "undisturbed"):
        crawl(CrawlRequest(endpoint=hub.endpoint, **narrow), tmp_path / name, policy=QUICK)
    wide = CrawlRequest(endpoint=hub.endpoint, max_per_author=3, connections=1)
    with pytest.raises(KeyboardInterrupt):
        crawl(wide, tmp_path / "stopped", stop, policy=QUICK)
    assert read_catalog(tmp_path / "stopped") == read_catalog(tmp_path / "undisturbed")
    crawl(wide, tmp_path / "stopped", policy=QUICK)
    crawl(wide, tmp_path / "undisturbed", policy=QUICK)
    assert read_catalog(tmp_path / "stopped") == read_catalog(tmp_path / "undisturbed")


@pytest.mark.parametrize(("wide", "narrow"), [(wide, narrow) for narrow, wide in NARROWER[:-1]])
def test_narrower_rules_are_refused_by_name(wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    """What was taken may have been sampled from: a catalog cannot forget it."""
    with pytest.raises(InputError) as caught:
        check_same_rules(CrawlRequest(**wide), CrawlRequest(**narrow))
    (key,) = narrow
    assert f"other settings: {key} (" in str(caught.value)
    assert "refresh it, or crawl into another folder" in str(caught.value)


def test_the_same_rules_in_another_order_are_the_same() -> None:
    old = CrawlRequest(families=("sd1", "sdxl"), tasks=("a", "b"), licences_denied=("x", "y"))
    new = CrawlRequest(families=("sdxl", "sd1"), tasks=("b", "a"), licences_denied=("y", "x"))
    check_same_rules(old, new)
    assert covers(old, new) and union(old, new) == old


def test_a_catalog_of_another_version_is_not_extended(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/one")
    with HubServer(hub_folder.root) as hub:
        path = crawl(CrawlRequest(endpoint=hub.endpoint, count=0, named=("a/one",)), tmp_path, policy=QUICK).path
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["trigger_words"]), path)
        with pytest.raises(InputError, match=r"another version of commforge.*refresh it"):
            crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path, policy=QUICK)
        assert crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path, policy=QUICK, refresh=True).rows == 1
