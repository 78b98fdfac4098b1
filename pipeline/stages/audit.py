"""The audit stage: count before anyone trains, and refuse to go on when the counts do not reconcile."""

from collections.abc import Mapping
from typing import Any

from manifests.errors import InputError
from pipeline.context import RunContext
from pipeline.progress import say
from shards.audit.counts import count_rows
from shards.index import build_index


def audit(context: RunContext) -> None:
    """Build the index, count the dataset and say what was found.

    Raises:
        InputError: the counts do not reconcile, so training on the dataset would be unsound.
    """
    build_index(context.folder.dataset)
    counts = count_rows(context.folder.dataset)
    for line in audit_lines(counts):
        say(f"audit: {line}")
    if not counts["reconciled"]:
        raise InputError(
            f"{context.folder.dataset}: rows and commits do not add up; run `commforge dataset verify` to see which"
        )


def audit_lines(counts: Mapping[str, Any]) -> list[str]:
    """Return the counts as lines for people."""
    agreement = "reconciled with the commits" if counts["reconciled"] else "NOT RECONCILED with the commits"
    lines = [
        f"{counts['draws']} draws = {counts['ok']} ok + {counts['flagged']} flagged + "
        f"{counts['degenerate']} degenerate + {counts['failed']} failed; {agreement}"
    ]
    bad = [f"{count} {reason}" for reason, count in counts["reason"].items() if reason != "none"]
    if bad:
        lines.append("reasons: " + ", ".join(bad))
    for name in ("format", "size"):
        lines.append(f"{name}: " + ", ".join(f"{value} {c['draws']}" for value, c in counts[name].items()))
    return lines
