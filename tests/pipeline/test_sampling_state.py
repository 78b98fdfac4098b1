"""What is shown of a run agrees with what is committed, and times add up."""

import io
import os
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline import sampling_watch
from pipeline.byte_sizes import size
from pipeline.model_tally import ModelState, ModelTally, tally_models
from pipeline.sampling_state import SamplingState
from pipeline.sampling_watch import duration, models_line, render, summary_line
from pipeline.status_file import read_status
from shards.commit_cache import CommitSummary
from shards.statuses import Reason

WANTED = 6
UNIT = 2


def _commit(generator: str, number: int, reasons: dict[Reason, int], generation: int = 0, **changes: Any) -> Any:
    counts: Counter[str] = Counter()
    for reason, draws in reasons.items():
        counts[str(reason.status)] += draws
    values: dict[str, Any] = {
        "unit": f"{generator}{number}",
        "generation": generation,
        "generator": generator,
        "revision": "r",
        "label": 1,
        "first": number * UNIT,
        "count": UNIT,
        "split": "train",
        "prompts": 5,
        "retryable": any(reason.retryable for reason in reasons),
        "stored": 10,
        "seconds": 1.0,
        "counts": dict(counts),
        "reasons": {str(reason): draws for reason, draws in reasons.items()},
    }
    return CommitSummary(**values | changes)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _leased(state: SamplingState, unit: str, worker: int = 0, attempt: int = 1) -> None:
    state.hear("leased", {"unit": unit, "group": unit[0], "worker": worker, "attempt": attempt})


def _ended(state: SamplingState, event: str, unit: str, **fields: Any) -> None:
    usage = {"waited": 0.0, "loading": 0.0, "sampling": 0.0, "fetched": 0, "saved": 0}
    state.hear(event, {"unit": unit, "group": unit[0], "usage": usage | fields.pop("usage", {})} | fields)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 2),
            st.dictionaries(
                st.sampled_from([Reason.none, Reason.nsfw, Reason.constant, Reason.device_oom, Reason.worker_signal]),
                st.integers(1, 3),
                min_size=1,
            ),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_counting_as_commits_are_made_is_counting_them_afterwards(
    made: list[tuple[str, int, dict[Reason, int]]], start: int
) -> None:
    """Whatever was committed before this driver came, and whatever it replaces."""
    generators = {"a": "r", "b": "r", "c": "r"}
    commits: dict[str, CommitSummary] = {}
    state: SamplingState | None = None
    for step, (generator, number, reasons) in enumerate(made):
        if step == start:
            state = SamplingState(tally_models(generators, WANTED, UNIT, commits.values()), 9)
        before = commits.get(f"{generator}{number}")
        commit = _commit(generator, number, reasons, 0 if before is None else before.generation + 1)
        commits[commit.unit] = commit
        if state is not None:
            state.committed(commit, before, 0.001)
    truth = SamplingState(tally_models(generators, WANTED, UNIT, commits.values()), 9).snapshot()
    found = (state or SamplingState(tally_models(generators, WANTED, UNIT, commits.values()), 9)).snapshot()
    for key in ("models", "images", "reasons"):
        assert found[key] == truth[key]
    assert sum(found["models"][state] for state in ModelState) == found["models"]["total"] == 3


@pytest.mark.parametrize(
    ("reasons", "missing", "running", "state"),
    [
        ([{Reason.none: 2}], 0, False, "done"),
        ([{Reason.none: 2}, {Reason.corrupt_weights: 2}], 0, False, "failed"),
        ([{Reason.none: 2}, {Reason.quarantined: 2}], 0, False, "quarantined"),
        ([{Reason.worker_signal: 2}], 0, False, "quarantined"),
        ([{Reason.worker_signal: 2}], 2, False, "waiting"),
        ([{Reason.none: 2}], 2, True, "running"),
        ([{Reason.nsfw: 9, Reason.none: 1}], 0, False, "done"),
    ],
)
def test_the_state_of_a_model(reasons: list[dict[Reason, int]], missing: int, running: bool, state: str) -> None:
    tally = ModelTally("a", 6, missing)
    for number, own in enumerate(reasons):
        tally.count(_commit("a", number, own))
    assert tally.state(running) == state


def test_commits_of_another_revision_or_of_reals_cover_nothing() -> None:
    commits = [
        _commit("a", 0, {Reason.none: 2}),
        _commit("a", 1, {Reason.none: 2}, revision="older"),
        _commit("a", 2, {Reason.none: 2}, label=0),
        _commit("gone", 0, {Reason.none: 2}),
    ]
    tallies = tally_models({"a": "r", "b": None}, WANTED, UNIT, commits)
    assert {name: (tally.missing, tally.ok) for name, tally in tallies.items()} == {
        "a": (4, 4),
        "b": (6, 0),
        "gone": (0, 2),
    }


def test_rates_times_and_bytes() -> None:
    clock = Clock()
    state = SamplingState(tally_models({"a": "r", "b": "r"}, WANTED, UNIT, []), 6, clock=clock)
    assert state.snapshot()["eta_seconds"] is None and state.snapshot()["idle_share"] is None
    _leased(state, "a0", worker=0)
    _leased(state, "b0", worker=1)
    found = state.snapshot()
    assert found["units"] == {"waiting": 4, "running": 2, "ended": 0}
    assert found["models"] == {"total": 2, "done": 0, "failed": 0, "quarantined": 0, "running": 2, "waiting": 0}
    clock.now += 10
    state.committed(_commit("a", 0, {Reason.none: 2}), None, 0.5)
    _ended(state, "done", "a0", usage={"sampling": 8.0, "loading": 2.0, "fetched": 1000, "saved": 500})
    clock.now += 10
    _ended(state, "retry", "b0", reason="worker_signal", attempt=1, signal=11, usage={})
    found = state.snapshot()
    # Worker 0: 10 s, 8 of them sampling; worker 1: 20 s for nothing. 2 images in 20 s, 10 missing.
    assert found["idle_share"] == pytest.approx(1 - 8 / 30, abs=1e-4)
    assert (found["images_per_second"], found["eta_seconds"]) == (0.1, 100.0)
    assert found["totals"] == {
        "retries": 1,
        "given_up": 0,
        "fetched": 1000,
        "saved": 500,
        "waited": 0.0,
        "loading": 2.0,
        "sampling": 8.0,
        "worker_seconds": 30.0,
        "deaths": {"11": 1},
    }
    assert found["running"] == [] and found["last"] == {"generator": "a", "unit": "a0", "reason": None}
    state.hear("quarantined", {"unit": "b0", "group": "b", "attempt": 2})
    assert state.snapshot()["quarantined"] == {"b0": "b"}
    clock.now += 5
    _leased(state, "b0", worker=1, attempt=3)
    clock.now += 5
    assert state.snapshot()["running"] == [{"unit": "b0", "generator": "b", "worker": 1, "attempt": 3, "seconds": 5.0}]
    state.committed(_commit("b", 0, {Reason.worker_signal: 2}), None, 0.5)
    _ended(state, "given_up", "b0", reason="worker_signal", signal=11)
    found = state.snapshot()
    assert found["quarantined"] == {} and found["totals"]["deaths"] == {"11": 2}
    assert found["totals"]["worker_seconds"] == 40.0, "the time between two leases is the worker's too"
    assert found["commits"] == {"count": 2, "seconds": 1.0}
    clock.now += 10_000
    assert state.snapshot()["images_per_second"] == 0.0, "only the last ten minutes count"
    later = SamplingState(tally_models({"a": "r"}, WANTED, UNIT, []), 6, before=found["totals"])
    assert later.snapshot()["totals"] == found["totals"], "sums go on where the last driver left them"


def test_what_people_read() -> None:
    clock = Clock()
    state = SamplingState(tally_models({"a": "r", "b": "r"}, WANTED, UNIT, []), 6, clock=clock)
    _leased(state, "a0")
    clock.now += 10
    state.committed(_commit("a", 0, {Reason.none: 1, Reason.nsfw: 1}), None, 0.1)
    _ended(state, "done", "a0", usage={"sampling": 9.0, "fetched": 1_234_000_000, "saved": 50_000})
    line = "1/12 images (1 lost), 0.2/s, models: 2 waiting, 1.2 GB fetched, 50.0 kB saved, devices idle 10%, 50 s left"
    assert summary_line(state.snapshot()) == line
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(render(state.snapshot()))
    shown = console.export_text()
    for words in (
        "1/12 images (1 lost)",
        "0.2/s",
        "50 s left",
        "2 waiting",
        "1 ok, 1 flagged",
        "devices idle 10%",
        "last    a",
    ):
        assert words in shown


def test_what_failed_is_not_shown_as_made(tmp_path: Path) -> None:
    """Nine of ten units fail: no image, and the bar does not move."""
    state = SamplingState(tally_models({"a": "r"}, 20, UNIT, []), 10)
    for number in range(9):
        state.committed(_commit("a", number, {Reason.device_oom: 3}), None, 0.1)
    assert summary_line(state.snapshot()).startswith("0/20 images (18 lost), 0.0/s")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render(state.snapshot()))
    assert "0/20 images (18 lost)" in console.export_text()
    again = _commit("a", 0, {Reason.none: 2}, generation=1)
    state.committed(again, _commit("a", 0, {Reason.device_oom: 3}), 0.1)
    images = state.snapshot()["images"]
    assert (images["ok"], images["lost"], images["missing"], images["wanted"]) == (2, 16, 2, 20)
    bar = next(iter(render(state.snapshot()).renderables))
    assert [(cell.completed, cell.total) for cell in bar.columns[1].cells] == [(2, 20)]


@pytest.mark.parametrize(
    ("reasons", "made"),
    [({Reason.none: 2}, 2), ({Reason.none: 2, Reason.nsfw: 2}, 4), ({Reason.worker_signal: 2}, 0)],
    ids=["all good", "half flagged", "all failed"],
)
def test_time_left_is_right_whatever_becomes_of_the_draws(reasons: dict[Reason, int], made: int) -> None:
    """A unit of 2 wanted images takes 10 s, one that is missing and one that is tried again."""
    clock = Clock()
    state = SamplingState(tally_models({"a": "r"}, WANTED, UNIT, []), 3, again=4, clock=clock)
    assert state.snapshot()["images_again"] == 4
    for number in (0, 1):
        clock.now += 10
        state.committed(_commit("a", number, reasons), None, 0.1)
    found = state.snapshot()
    assert (found["images_per_second"], found["covered_per_second"]) == (made / 10, 0.2)
    assert found["eta_seconds"] == 30.0, "2 missing, 4 to be tried again"
    clock.now += 10
    retried = _commit("a", 0, {Reason.none: 2}, generation=1)
    state.committed(retried, _commit("a", 0, reasons), 0.1)
    assert state.snapshot()["eta_seconds"] == 20.0, "2 missing and 2 to be tried again: 6 images in 30 s"
    state.committed(_commit("a", 2, reasons), None, 0.1)
    state.committed(retried, _commit("a", 1, reasons), 0.1)
    assert state.snapshot()["eta_seconds"] == 0.0


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_a_display_and_a_log_gets_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=100)
    monkeypatch.setattr(sampling_watch, "console", console)
    monkeypatch.setattr(sampling_watch, "say", lambda text: console.print(text, markup=False))
    monkeypatch.setattr(sampling_watch, "SNAPSHOT_SECONDS", 0.01)
    monkeypatch.setattr(sampling_watch, "PLAIN_INTERVAL", 0.02)
    state = SamplingState(tally_models({"a": "r"}, WANTED, UNIT, []), 3)
    path = tmp_path / "status.json"
    with sampling_watch.watched(state, path, clock=lambda: 1000.0):
        assert read_status(path)["images"]["ok"] == 0, "there from the start"
        _leased(state, "a0")
        state.committed(_commit("a", 0, {Reason.none: 2}), None, 0.1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (
            read_status(path)["images"]["ok"] != 2 or "2/6 images" not in written.getvalue()
        ):
            time.sleep(0.02)
        _ended(state, "done", "a0")
    found = read_status(path)
    assert found["driver"] == {"pid": os.getpid(), "host": socket.gethostname(), "started": 1000.0, "updated": 1000.0}
    assert (found["images"]["ok"], found["running"]) == (2, []), "the last snapshot is of the end"
    assert "2/6 images" in written.getvalue()
    assert ("sample: 2/6 images" in written.getvalue()) is not terminal
    assert ("units   1 running, 2 waiting" in written.getvalue()) is terminal


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1500), "1.5 kB"),
        (size(317e9), "317 GB"),
        (size(2.5e12), "2.5 TB"),
        (size(5e18), "5000 PB"),
        (duration(119), "119 s"),
        (duration(600), "10 min"),
        (duration(7200), "2.0 h"),
        (duration(14 * 86_400), "14.0 days"),
        (models_line({"total": 3, "done": 2, "failed": 0, "waiting": 1}), "2 done, 1 waiting"),
    ],
)
def test_figures_for_people(found: str, expected: str) -> None:
    assert found == expected
