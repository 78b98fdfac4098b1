"""Crawls that are killed, whose hub dies, or that nobody can write: nothing known is asked for again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from crawl_runs import QUICK, adapter, asked_repos, rows_of
from scripted_hub import scripted_hub

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.listing import read_listing, spool_listing
from crawlers.hub.hub_client import HubClient
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.catalog import CatalogRow
from manifests.errors import InputError

CRAWL_SCRIPT = """
import sys
from pathlib import Path
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
crawl(CrawlRequest(endpoint=sys.argv[1], connections=2), Path(sys.argv[2]))
"""


def journalled(out: Path) -> list[str]:
    """Return the repos whose rows are in the journal; a torn line does not count."""
    journal = out / "catalog.jsonl.part"
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return [json.loads(line)["row"]["repo_id"] for line in lines if line.endswith(b"\n") and b'"row"' in line]


def without_snapshot(out: Path) -> list[CatalogRow]:
    return [row.model_copy(update={"snapshot": ""}) for row in read_catalog(out)]


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


@pytest.mark.parametrize("torn", [b"", b'{"row": {"repo_id": "half'])
def test_after_a_kill_nothing_known_is_asked_again(hub_folder: Any, tmp_path: Path, torn: bytes) -> None:
    for number in range(9):
        hub_folder.sd(f"a/model-{number:02d}", downloads=100 - number, behaviour={"delay_seconds": 0.05})
    hub_folder.sd("base/model", library_name="other", downloads=0)
    for number in range(2):
        adapter(hub_folder, f"a/lora-{number}", "base/model", downloads=200 - number)
    out = tmp_path / "out"
    with HubServer(hub_folder.root, HubOptions(page_size=5)) as hub:
        process = subprocess.Popen([sys.executable, "-c", CRAWL_SCRIPT, hub.endpoint, str(out)])
        try:
            deadline = time.monotonic() + 60
            while len(journalled(out)) < 4:
                assert process.poll() is None and time.monotonic() < deadline, "ended before it could be killed"
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        known = journalled(out)
        assert 4 <= len(known) < 11
        with (out / "catalog.jsonl.part").open("ab") as journal:
            journal.write(torn)
        time.sleep(0.5)  # what was under way at the hub when the crawl died
        of_base = {record.path for record in hub.requests() if "base/model" in record.path}
        assert len(of_base) > 2
        since = len(hub.requests())
        crawl(CrawlRequest(endpoint=hub.endpoint, connections=2), out, policy=QUICK)
        later = [record.path for record in hub.requests(since)]
        assert not any(repo_id in path for repo_id in known for path in later)
        assert not of_base & set(later), "what the adapters' base is was asked for again"
        assert not any(path.startswith("/api/models?") for path in later), "the listing was asked for again"
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "undisturbed", policy=QUICK)
    assert without_snapshot(out) == without_snapshot(tmp_path / "undisturbed")
    assert len(read_catalog(out)) == 11


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


def test_a_page_that_was_cut_off_loses_no_model(hub_folder: Any, tmp_path: Path) -> None:
    """A kill between the models of a page and its cursor: they are read again, none is taken for known."""
    for number in range(6):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)
    spool = tmp_path / "spool"
    with HubServer(hub_folder.root, HubOptions(page_size=3)) as hub:
        client = HubClient(hub.endpoint, policy=QUICK)
        assert spool_listing(client, spool, None, 0, lambda _: False, lambda _: None) == 6
        lines = spool.read_bytes().splitlines(keepends=True)
        for kept in range(len(lines)):
            spool.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
            assert spool_listing(client, spool, None, 0, lambda _: False, lambda _: None) == 6
            assert [model.repo_id for model in read_listing(spool)] == [f"a/model-{number}" for number in range(6)]


def test_a_base_is_asked_for_once_and_not_after_a_kill(hub_folder: Any, tmp_path: Path) -> None:
    """Twelve adapters of one base that is no row of its own, and one of a base that nobody has."""
    hub_folder.sd("base/model", downloads=1, library_name="other")
    for number in range(12):
        adapter(hub_folder, f"a/lora-{number:02d}", "base/model", downloads=100 - number)
    adapter(hub_folder, "a/orphan", "gone/base", downloads=200)

    def stop(text: str) -> None:
        if text.startswith("crawl: looked at 4 of"):
            raise KeyboardInterrupt

    with HubServer(hub_folder.root) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, connections=3)
        with pytest.raises(KeyboardInterrupt):
            crawl(request, tmp_path, stop, policy=QUICK)
        time.sleep(0.5)
        paths = [record.path for record in hub.requests()]
        about_bases = [path for path in paths if "base/model" in path or "gone/base" in path]
        assert len(about_bases) == len(set(about_bases)) >= 3
        since = len(hub.requests())
        crawl(request, tmp_path, policy=QUICK)
        later = [record.path for record in hub.requests(since)]
    assert not set(later) & set(about_bases), "asked again for what was known"
    rows = {row.repo_id: row for row in read_catalog(tmp_path)}
    assert rows.pop("a/orphan").reason == "no_base"
    assert {row.reason for row in rows.values()} == {"ok"}
    assert {row.base.repo_id for row in rows.values() if row.base} == {"base/model"}
    assert {row.lineage for row in rows.values()} == {"base/model"}
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def listed(*names: str) -> list[dict[str, Any]]:
    return [{"id": f"a/{name}", "downloads": 1, "tags": ["diffusers"]} for name in names]


def test_one_repos_trouble_is_its_own(tmp_path: Path) -> None:
    """A repo that the hub cannot describe becomes a row; the next one is asked for."""

    def reply(path: str, number: int) -> Any:
        if path.startswith("/api/models?"):
            return 200, listed("sick", "well"), {}
        return (503, {}, {}) if "a/sick" in path else (200, {"id": "a/well", "sha": "0" * 40, "siblings": []}, {})

    with scripted_hub(reply) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path, policy=QUICK)
        asked = [path for path in hub.paths() if "a/sick" in path]
    assert [(row.repo_id, row.reason) for row in read_catalog(tmp_path)] == [
        ("a/sick", "unavailable"),
        ("a/well", "no_model_index"),
    ]
    assert len(asked) == QUICK.attempts


@pytest.mark.parametrize("trouble", [(503, {}, {}), (429, {}, {"Retry-After": "3600"})])
def test_a_hub_that_answers_nothing_any_more_ends_the_crawl(tmp_path: Path, trouble: Any) -> None:
    """Else every further model of the catalog would be `unavailable`, for nothing of its own."""
    sick = True

    def reply(path: str, number: int) -> Any:
        if sick and number >= 2:
            return trouble
        if path.startswith("/api/models?"):
            return 200, listed("first", "second", "third"), {}
        return 200, {"id": path.split("?")[0].removeprefix("/api/models/"), "sha": "0" * 40, "siblings": []}, {}

    with scripted_hub(reply) as hub:
        request = CrawlRequest(endpoint=hub.endpoint, connections=1)
        with pytest.raises(InputError, match=r"does not answer.*stopped after 1 models; the same command goes on"):
            crawl(request, tmp_path, policy=QUICK)
        assert not (tmp_path / "catalog.parquet").exists()
        time.sleep(0.3)  # what was under way when the crawl ended
        sick, since = False, len(hub.asked)
        crawl(request, tmp_path, policy=QUICK)
        assert hub.paths()[since:] == ["/api/models/a/second?blobs=true", "/api/models/a/third?blobs=true"]
    assert [row.reason for row in read_catalog(tmp_path)] == ["no_model_index"] * 3
