"""The same config gives the same bytes, whoever does the work, in every toy family."""

from pathlib import Path

from toy_runs import commforge, committed_files

from shards.dataset import Dataset


def test_ray_with_two_workers_writes_the_bytes_of_one_inline_worker(
    fresh_run: Path, undisturbed: Path, ray_cluster: str
) -> None:
    done = commforge(
        *("sample", fresh_run / "run.yaml", "--set", "execute.executor=ray", "--set", "execute.workers=2"),
        *("--set", f"execute.ray_address={ray_cluster}"),
    )
    assert done.returncode == 0, done.stderr
    assert committed_files(fresh_run) == committed_files(undisturbed)
    families = set(Dataset.open(fresh_run / "dataset").rows(columns=["family"], label=1)["family"].to_pylist())
    assert len(families) >= 7, families
