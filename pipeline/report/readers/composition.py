"""The dataset counted: by generator and status, split and label, size and format, licence; does it reconcile?"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.facts import Composition, Count, Crawl, LabelCount, Licence, Outcome
from shards.commits import Commit
from shards.dataset import Dataset
from shards.statuses import Status

FORMAT_ROWS = 24
"""Most size-and-format combinations that the page lists."""

_PROMPT_SOURCES = {
    "blip": "a captioner’s words for a photograph",
    "caption": "the caption that came with a photograph",
    "class_label": "a class that the model was trained on",
    "template": "a template",
    "unconditional": "none: the model takes no prompt",
}

_COLUMNS = (
    "label", "generator", "family", "split", "status", "reason", "license", "width", "height", "format",
    "prompt_source", "source_image_id", "image_id",
)  # fmt: skip


def read_composition(dataset: Dataset) -> tuple[Composition, dict[str, tuple[int, int]]]:
    """Count the committed rows. The second value is licence -> (real, generated) images."""
    rows = dataset.rows(columns=_COLUMNS)
    images = rows.filter(pc.equal(rows["status"], Status.ok))
    fakes = images.filter(pc.equal(images["label"], 1))
    reals = images.filter(pc.equal(images["label"], 0))
    formats = _by_label(_sizes(images))
    composition = Composition(
        outcomes=_outcomes(rows, dataset.commits().values()),
        splits=tuple(_by_label(images.select(["split", "label"]))),
        formats=tuple(formats[:FORMAT_ROWS]),
        formats_left_out=max(0, len(formats) - FORMAT_ROWS),
        prompt_sources=_prompt_sources(fakes),
        real_images=reals.num_rows,
        fake_images=fakes.num_rows,
        pairs=pc.sum(pc.is_in(fakes["source_image_id"], value_set=_values(reals["image_id"]))).as_py() or 0,
    )
    licences = {count.name: (count.real, count.fake) for count in _by_label(images.select(["license", "label"]))}
    return composition, licences


def licences(crawl: Crawl | None, images: Mapping[str, tuple[int, int]]) -> tuple[Licence, ...]:
    """Licences of models and of images together, those with most images first."""
    models = {} if crawl is None else dict(crawl.licences)
    entries = [
        Licence(name, *models.get(name, (0, 0)), *images.get(name, (0, 0))) for name in models.keys() | images.keys()
    ]
    return tuple(
        sorted(entries, key=lambda entry: (-entry.real - entry.fake, -entry.eligible, -entry.crawled, entry.name))
    )


def _outcomes(rows: pa.Table, commits: Iterable[Commit]) -> tuple[Outcome, ...]:
    committed: Counter[tuple[str, int]] = Counter()
    for commit in commits:
        committed[commit.generator, commit.label] += commit.draws
    statuses: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    reasons: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    families: dict[tuple[str, int], set[str]] = defaultdict(set)
    splits: dict[tuple[str, int], set[str]] = defaultdict(set)
    grouped = rows.group_by(["generator", "label", "family", "split", "status", "reason"]).aggregate(
        [([], "count_all")]
    )
    for group in grouped.to_pylist():
        key = group["generator"], group["label"]
        statuses[key][group["status"]] += group["count_all"]
        reasons[key][group["reason"]] += group["count_all"]
        families[key] |= {group["family"]} - {None}
        splits[key] |= {group["split"]} - {None}
    outcomes = []
    for key in sorted(committed.keys() | statuses.keys(), key=lambda key: (-key[1], key[0])):
        status = statuses[key]
        failures = [Count(name, status[name]) for name in Status if name.failed and status[name]]
        outcomes.append(
            Outcome(
                generator=key[0],
                label=key[1],
                family=", ".join(sorted(families[key])) or None,
                split=", ".join(sorted(splits[key])) or None,
                draws=status.total(),
                ok=status[Status.ok],
                flagged=status[Status.flagged],
                degenerate=status[Status.degenerate],
                failures=tuple(failures),
                reasons=tuple(Count(name, value) for name, value in sorted(reasons[key].items()) if name != "none"),
                committed=committed[key],
            )
        )
    return tuple(outcomes)


def _sizes(images: pa.Table) -> pa.Table:
    width, height = (images[name].cast(pa.string()) for name in ("width", "height"))
    names = pc.binary_join_element_wise(pc.binary_join_element_wise(width, height, " × "), images["format"], " ")
    return pa.table({"name": names, "label": images["label"]})


def _by_label(table: pa.Table) -> list[LabelCount]:
    """Counts of the first column's values by the column `label`, most frequent first."""
    column = table.column_names[0]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group in table.group_by([column, "label"]).aggregate([([], "count_all")]).to_pylist():
        counts[group[column] or "not stated"][group["label"]] += group["count_all"]
    entries = [LabelCount(name, real, fake) for name, (real, fake) in counts.items()]
    return sorted(entries, key=lambda entry: (-entry.real - entry.fake, entry.name))


def _prompt_sources(fakes: pa.Table) -> tuple[Count, ...]:
    values = pc.value_counts(pc.fill_null(fakes["prompt_source"], "not stated")).to_pylist()
    ordered = sorted(values, key=lambda entry: (-entry["counts"], entry["values"]))
    return tuple(Count(entry["values"], entry["counts"], _PROMPT_SOURCES.get(entry["values"], "")) for entry in ordered)


def _values(column: pa.ChunkedArray) -> pa.Array:
    return pc.unique(column.drop_null())
