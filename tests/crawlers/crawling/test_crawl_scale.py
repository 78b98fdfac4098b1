"""A crawl of the whole hub in the memory of a small one: what is known of each model lies on disk."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.crawl_scale import SHARE, crawl_of
from benchmarks.listing_hub import listing_hub
from crawlers.catalog import read_columns
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.spilled import SpilledCounter, SpilledMap, SpilledSet

MIB = 20
"""A crawl that kept the listing of 40,000 more models in memory would need over 50 MiB for it."""


def test_memory_does_not_grow_with_the_listing() -> None:
    small, large = crawl_of(12_000), crawl_of(52_000)
    assert large["peak_mib"] - small["peak_mib"] < MIB
    assert (small["asked"], large["asked"]) == (6, 26)
    # A page of a thousand costs one request; so does each model without files; nothing else is asked.
    assert (small["requests"], large["requests"]) == (
        {"api": 12 + 6, "resolvers": 0},
        {"api": 52 + 26, "resolvers": 0},
    )
    assert large["catalog_bytes"] / 52_000 < 60


def test_every_listed_model_has_its_row_in_order(tmp_path: Path) -> None:
    with listing_hub(4_500, SHARE) as endpoint:
        result = crawl(CrawlRequest(endpoint=endpoint, tasks=("text-to-image",)), tmp_path)
    columns = read_columns(tmp_path, ["rank", "repo_id", "downloads", "reason", "packaging"])
    assert columns["rank"] == list(range(1, 4_501))
    assert columns["downloads"] == list(range(4_500, 0, -1))
    assert columns["repo_id"][4_321] == "uploader-04321/model-0004321"
    assert result.reasons == {"filtered": 4_497, "no_model_index": 3}
    assert [place for place, reason in enumerate(columns["reason"]) if reason != "filtered"] == [0, 2_000, 4_000]
    assert set(columns["packaging"][1:2_000]) == {"lora"}  # so the listing's tags say


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=40))
def test_what_is_spilled_is_what_would_be_kept(entries: list[tuple[str, str]]) -> None:
    spilled_set, spilled_map, first, counter = SpilledSet(), SpilledMap(), SpilledMap(), SpilledCounter()
    known: set[str] = set()
    latest: dict[str, str] = {}
    earliest: dict[str, str] = {}
    counts: dict[str, int] = {}
    for key, value in entries:
        assert (key in spilled_set) == (key in known)
        assert spilled_set.add(key) == (key not in known)
        known.add(key)
        spilled_map[key] = latest[key] = value
        assert first.setdefault(key, value) == earliest.setdefault(key, value)
        counter.add(key)
        counts[key] = counts.get(key, 0) + 1
    assert len(spilled_set) == len(known)
    for key in [*known, "nobody"]:
        assert spilled_map.get(key) == latest.get(key)
        assert first.get(key) == earliest.get(key)
        assert counter[key] == counts.get(key, 0)
