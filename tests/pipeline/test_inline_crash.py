"""A model that crashes the process samples nobody: with one process, the driver dies, and the next knows why."""

import signal
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from toy_runs import commforge

from pipeline.events import read_events
from shards.dataset import Dataset

CRASHING = """
import ctypes, sys

def crash(event, arguments):
    if event != "open" or "{crashes}" not in str(arguments[0]):
        return
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "from_pretrained":
            ctypes.string_at(0)
        frame = frame.f_back

sys.addaudithook(crash)
"""
"""Reads at address 0, in native code, when a pipeline of this repo is loaded: as a broken extension would."""


def test_a_segfault_at_loading_ends_the_driver_three_times_and_the_run_all_the_same(fresh_run: Path) -> None:
    catalog = pq.read_table(fresh_run / "catalog.parquet")
    rows = [row for row in catalog.to_pylist() if row["eligible"]][:3]
    bad, *good = [row["generator"] for row in rows]
    pq.write_table(catalog.from_pylist(rows, schema=catalog.schema), fresh_run / "catalog.parquet")
    crashing = CRASHING.replace("{crashes}", "models--" + rows[0]["repo_id"].replace("/", "--"))
    sample = partial(
        commforge, "sample", fresh_run / "run.yaml", "--set", "sample.images_per_generator=2", first=crashing
    )

    def done() -> set[str]:
        commits = Dataset.open(fresh_run / "dataset").commits().values()
        return {commit.generator for commit in commits if commit.label == 1}

    for _ in range(2):
        assert sample().returncode == -signal.SIGSEGV
        assert done() == set(), "it comes first"
    third = sample()
    assert third.returncode == -signal.SIGSEGV, "in its last chance"
    assert "the last run crashed (SIGSEGV) while it sampled " + bad in third.stderr
    assert done() == set(good)
    last = sample()
    assert last.returncode == 1
    assert f"{bad} (worker_signal)" in last.stderr
    assert done() == {bad, *good}
    table = Dataset.open(fresh_run / "dataset").rows(columns=["generator", "status", "reason"], label=1)
    reasons = {(row["generator"], row["status"], row["reason"]) for row in table.to_pylist()}
    assert (bad, "crashed", "worker_signal") in reasons
    assert {status for generator, status, _ in reasons if generator == bad} == {"crashed"}
    assert not (fresh_run / "deaths").exists(), "a finished run remembers none"
    events = [event["event"] for event in read_events(fresh_run / "events.jsonl") if event.get("group") == bad]
    assert events == ["leased", "leased", "quarantined", "leased", "given_up"]
