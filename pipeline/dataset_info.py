"""What a dataset holds, in numbers."""

from pathlib import Path
from typing import Any

from shards.audit.counts import count_rows
from shards.dataset import Dataset
from shards.index import index_state


def describe_dataset(root: Path) -> dict[str, Any]:
    """Return name, identity settings, units, stored bytes and counts by generator.

    Raises:
        InputError: `root` is no dataset, or a shard is damaged.
    """
    dataset = Dataset.open(root)
    commits = dataset.commits().values()
    counts = count_rows(root)
    labels = {commit.generator: "fake" if commit.label else "real" for commit in commits}
    return {
        "name": dataset.name,
        "units": len(commits),
        "bytes": sum(commit.images.bytes for commit in commits if commit.images),
        "index": "current" if index_state(root).current else "stale or missing",
        "snapshots": sorted(dataset.manifest.snapshots),
        "environments": sorted({commit.environment for commit in commits if commit.environment}),
        "generators": {name: {"label": labels[name], **numbers} for name, numbers in counts["generator"].items()},
        "identity": dataset.identity,
    }
