"""A dataset grows without touching what is there: more images, another generator, other workers."""

from pathlib import Path

import pytest
import yaml
from toy_runs import ToyWorld, commforge, committed_files, copy_run

from manifests.errors import InputError
from manifests.strict_yaml import load_model
from pipeline.config import RunConfig
from pipeline.context import open_run
from pipeline.demo.toy_generators import TOY_GENERATORS
from pipeline.run_status import run_status
from shards.dataset import Dataset


def _untouched(run: Path) -> dict[str, tuple[int, int]]:
    """Name → inode and time of last change of every commit and shard."""
    root = run / "dataset"
    files = [path for part in ("commits", "images", "rows") for path in (root / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def sampled(undisturbed: Path, tmp_path: Path) -> Path:
    return copy_run(undisturbed, tmp_path / "run")


def test_more_images_add_units_and_leave_commits_alone(sampled: Path) -> None:
    before, bytes_before = _untouched(sampled), committed_files(sampled)
    done = commforge("sample", sampled / "run.yaml", "--images-per-model", "7", "--set", "execute.attempts=2")
    assert done.returncode == 0, done.stderr
    after = _untouched(sampled)
    assert {name: after[name] for name in before} == before
    assert committed_files(sampled).items() >= bytes_before.items()
    rows = Dataset.open(sampled / "dataset").rows(label=1).to_pylist()
    ok = {name: [row for row in rows if row["generator"] == name and row["status"] == "ok"] for name in _names(rows)}
    assert {name: len(found) for name, found in ok.items()} == dict.fromkeys(_names(rows), 7)
    assert len({row["image_id"] for row in rows}) == len(rows)
    again = commforge("sample", sampled / "run.yaml", "--images-per-model", "7")
    assert again.returncode == 0
    assert _untouched(sampled) == after, "a second call finds nothing to do"


def test_a_generator_added_later_is_sampled_and_a_broken_one_ends_as_rows_with_the_reason(
    sampled: Path, toy_world: ToyWorld
) -> None:
    before = _untouched(sampled)
    models = [*TOY_GENERATORS, "fumbled/toy-diffusion-truncated"]
    more = ("--set", f"crawl.models={yaml.safe_dump(models, default_flow_style=True, width=10**6).strip()}")
    crawled = commforge("crawl", sampled / "run.yaml", *more)
    assert crawled.returncode == 0, crawled.stderr
    done = commforge("sample", sampled / "run.yaml", *more)
    assert done.returncode == 1
    assert "fumbled--toy-diffusion-truncated (corrupt_weights)" in done.stderr.splitlines()[-1]
    after = _untouched(sampled)
    assert {name: after[name] for name in before} == before
    broken = Dataset.open(sampled / "dataset").rows(generator="fumbled--toy-diffusion-truncated").to_pylist()
    assert {(row["status"], row["reason"], row["file"]) for row in broken} == {("load_failed", "corrupt_weights", None)}
    assert sorted(row["index"] for row in broken) == list(range(6))
    status = run_status(sampled)
    entry = next(g for g in status["generators"] if g["generator"] == "fumbled--toy-diffusion-truncated")
    assert (entry["failed"], entry["missing"], entry["reason"]) == (6, 0, "corrupt_weights")
    retried = commforge("sample", sampled / "run.yaml", *more, "--retry", "load_failed", "--retry", "oom")
    assert retried.returncode == 1
    assert "sample: 6 draws failed with corrupt_weights, which no retry can help" in retried.stderr
    assert "sample: no draw is oom, so there is nothing to try again" in retried.stderr
    assert _untouched(sampled) == after, "broken weights stay broken: no new generation"


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("sample.batch_size=4", "sample.batch_size"),
        ("sample.cpu_threads=2", "sample.cpu_threads"),
        ("sample.dtype=bfloat16", "sample.dtype"),
        ("sample.checker=null", "sample.checker"),
        ("splits.salt=other", "splits.salt"),
        ("name=other", "name"),
    ],
)
def test_an_identity_key_that_changed_is_refused_by_name(sampled: Path, setting: str, key: str) -> None:
    before = _untouched(sampled)
    config = load_model(sampled / "run.yaml", RunConfig, (setting,))
    with pytest.raises(InputError, match=key.replace(".", r"\.")), open_run(config):
        pass
    assert _untouched(sampled) == before


@pytest.mark.parametrize(
    "setting",
    ["execute.workers=9", "execute.executor=ray", "sample.images_per_generator=100", "hub.download_timeout=5"],
)
def test_extent_and_runtime_keys_may_change(sampled: Path, setting: str) -> None:
    with open_run(load_model(sampled / "run.yaml", RunConfig, (setting,))) as context:
        assert context.dataset.name == "small"


def _names(rows: list[dict[str, object]]) -> set[str]:
    return {str(row["generator"]) for row in rows}
