"""Fetching ahead, holding, and making room, with a real hub and real download processes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from fetching import PIPELINE_FILES, UNET, bodies, files_in, hub_revision, partials, wait_until

from crawlers.fetching.model_cache import ModelCache
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from shards.statuses import Reason, UnitFailure

BLOB = 100_000


@contextmanager
def models_of(hub: HubServer, cache: Path, **more: Any) -> Iterator[ModelCache]:
    settings = {"endpoint": hub.endpoint, "cache_dir": cache, "token": None, "timeout_seconds": 60.0}
    with ModelCache(**(settings | more)) as models:
        yield models


def spec(hub: HubServer, repo_id: str) -> GeneratorSpec:
    return GeneratorSpec(name="g", kind="text-to-image", repo_id=repo_id, revision=hub_revision(hub, repo_id))


def large(name: str) -> bytes:
    return (name.encode() * BLOB)[:BLOB]


def bytes_in(cache: Path) -> int:
    files = [path.lstat() for path in cache.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({stat.st_ino: stat.st_size for stat in files}.values())


def repos(cache: Path) -> set[str]:
    """Return the repos that are complete."""
    receipts = cache.glob(f"models--*/commforge/{'[0-9a-f]' * 40}-*.json")
    return {path.parents[1].name.removeprefix("models--a--") for path in receipts}


def _downloads() -> set[psutil.Process]:
    """The download processes of this one."""
    return {p for p in psutil.Process().children() if "crawlers.fetching.download_process" in p.cmdline()}


def test_what_was_fetched_ahead_is_there_at_once(hub_folder: Any, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        hub_folder.sd(f"a/{name}", unet=large(name))
    with HubServer(hub_folder.root) as hub, models_of(hub, tmp_path / "cache", prefetch=2) as models:
        one, two, three = (spec(hub, f"a/{name}") for name in ("one", "two", "three"))
        with models.fetch(one):
            first = models.take_traffic()
            assert first.fetched > BLOB and first.saved == 0 and first.waited > 0
            models.prefetch([two, three])
            wait_until(lambda: {f"a/two:{UNET}", f"a/three:{UNET}"} <= set(bodies(hub)))
            wait_until(lambda: len(list((tmp_path / "cache").glob("models--*/commforge/*-*.json"))) == 3)
            time.sleep(0.2)
            since = len(hub.requests())
            with models.fetch(two) as held, models.fetch(three):
                assert files_in(held.folder) == PIPELINE_FILES
                assert hub.requests(since) == []
            ahead = models.take_traffic()
            assert ahead.waited < 0.3
            assert ahead.fetched == 2 * BLOB and ahead.saved > 0, "all but the UNets is the first one's"


def test_a_fetch_joins_the_download_that_is_under_way(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=large("slow"), behaviour={"bytes_per_second": 50_000})
    with HubServer(hub_folder.root) as hub, models_of(hub, tmp_path / "cache") as models:
        slow = spec(hub, "a/slow")
        models.prefetch([slow])
        wait_until(lambda: partials(tmp_path / "cache"))
        with models.fetch(slow) as held:
            assert files_in(held.folder) == PIPELINE_FILES
        asked = [record for record in hub.requests() if record.method == "GET" and record.path.endswith(UNET)]
        assert len(asked) == 1
        assert models.take_traffic().waited > 0.5


def test_failures_ahead_are_met_by_the_fetch_alone(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/gated", gated="auto", gated_token="hf_right")
    hub_folder.sd("a/good")
    with HubServer(hub_folder.root) as hub, models_of(hub, tmp_path / "cache", prefetch=2) as models:
        gated, good = spec(hub, "a/gated"), spec(hub, "a/good")
        models.prefetch([gated, good])
        wait_until(lambda: f"a/good:{UNET}" in bodies(hub))
        with models.fetch(good):
            pass
        with pytest.raises(UnitFailure, match="a/gated") as caught:
            models.fetch(gated)
        assert caught.value.reason is Reason.gated_repo


def test_a_wish_that_is_dropped_ends_when_something_else_is_needed(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=large("slow"), behaviour={"bytes_per_second": 2_000})
    hub_folder.sd("a/next")
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub, models_of(hub, cache) as models:
        slow, following = spec(hub, "a/slow"), spec(hub, "a/next")
        models.prefetch([slow])
        wait_until(lambda: partials(cache))
        models.prefetch([])
        with models.fetch(following):
            left = partials(cache)
            time.sleep(1)
            assert left, "it stays, to be gone on with"
            assert partials(cache) == left, "and grows no more"


def test_the_oldest_go_and_what_is_held_stays(hub_folder: Any, tmp_path: Path) -> None:
    names = ("one", "two", "three", "four")
    for name in names:
        hub_folder.sd(f"a/{name}", unet=large(name))
    cache = tmp_path / "cache"
    budget = 2 * BLOB + 60_000
    with HubServer(hub_folder.root) as hub, models_of(hub, cache, disk_budget=budget, prefetch=0) as models:
        one, two, three, four = (spec(hub, f"a/{name}") for name in names)
        held = models.fetch(one)
        models.fetch(two).release()
        assert repos(cache) == {"one", "two"} and bytes_in(cache) <= budget
        models.fetch(three).release()
        assert repos(cache) == {"one", "three"}, "two was used last, and one is held"
        assert (held.folder / UNET).read_bytes() == large("one")
        held.release()
        models.fetch(three).release()
        models.fetch(four).release()
        assert repos(cache) == {"three", "four"}
        since = len(hub.requests())
        models.fetch(one).release()
        assert f"a/one:{UNET}" in bodies(hub, since), "it was gone, and comes again"
        assert bytes_in(cache) <= budget


def test_room_is_made_by_the_one_who_needs_it(hub_folder: Any, tmp_path: Path) -> None:
    """The budget holds one model: what is held, and what is fetched ahead, both stand in the way of the next."""
    for name in ("one", "two", "three"):
        hub_folder.sd(f"a/{name}", unet=large(name))
    cache = tmp_path / "cache"
    budget = BLOB + 60_000
    with HubServer(hub_folder.root) as hub, models_of(hub, cache, disk_budget=budget, timeout_seconds=30) as models:
        one, two, three = (spec(hub, f"a/{name}") for name in ("one", "two", "three"))
        held = models.fetch(one)
        models.prefetch([two])  # finds no room, says nothing, tries again later
        asked = []
        with models.fetch(three, make_room=lambda: (asked.append(bytes_in(cache) > BLOB), held.release())) as other:
            assert asked == [True], "the first was still there, and it was asked for once"
            assert files_in(other.folder) == PIPELINE_FILES
            assert repos(cache) == {"three"}
            assert bytes_in(cache) <= budget
        models.prefetch([two])
        wait_until(lambda: repos(cache) == {"two"})
        with models.fetch(one):  # what is only fetched ahead goes for what is needed now
            assert repos(cache) == {"one"}
            assert bytes_in(cache) <= budget


def test_a_model_that_never_fits_and_a_cache_that_is_full_of_others(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/big", unet=large("big") * 3)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        big = spec(hub, "a/big")
        with models_of(hub, cache, disk_budget=2 * BLOB) as models:
            started = time.monotonic()
            with pytest.raises(UnitFailure, match=r"a/big: 3\d{5} bytes .* of hub.disk_budget = 200000") as caught:
                models.fetch(big)
            assert caught.value.reason is Reason.disk_budget
            assert caught.value.reason.retryable, "with a larger budget"
            assert time.monotonic() - started < 30, "nothing is waited for"
            assert set(bodies(hub)) == {"a/big:model_index.json"}, "which says what to fetch"
            (cache / "datasets--b--c").mkdir()
            (cache / "datasets--b--c" / "data").write_bytes(b"x" * 2 * BLOB)
        with (
            models_of(hub, cache, disk_budget=2 * BLOB) as models,
            pytest.raises(InputError, match=r"hub\.disk_budget: .* 200000 bytes in the cache were brought by other"),
        ):
            models.fetch(big)


def test_a_killed_download_process_is_a_failure_and_the_next_fetch_works(hub_folder: Any, tmp_path: Path) -> None:
    others = _downloads()
    hub_folder.sd("a/slow", unet=large("slow"), behaviour={"bytes_per_second": 50_000})
    with HubServer(hub_folder.root) as hub, models_of(hub, tmp_path / "cache") as models:
        slow = spec(hub, "a/slow")
        models.prefetch([slow])
        wait_until(lambda: max(partials(tmp_path / "cache").values(), default=0) > BLOB / 10)
        [child] = _downloads() - others
        os.kill(child.pid, signal.SIGKILL)
        with models.fetch(slow) as held:
            assert files_in(held.folder) == PIPELINE_FILES
        assert [r.range is not None for r in hub.requests() if r.path.endswith(UNET)] == [False, True]


def test_closing_ends_everything(hub_folder: Any, tmp_path: Path) -> None:
    others = _downloads()
    hub_folder.sd("a/slow", unet=large("slow"), behaviour={"bytes_per_second": 2_000})
    with HubServer(hub_folder.root) as hub:
        with models_of(hub, tmp_path / "cache") as models:
            models.prefetch([spec(hub, "a/slow")])
            wait_until(lambda: partials(tmp_path / "cache"))
        assert not _downloads() - others
