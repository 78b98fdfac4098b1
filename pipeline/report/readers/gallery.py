"""Which pictures the gallery shows: the first of each of a limited number of generators, never a choice by looks."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.facts import Composition, Crawl, Gallery, GeneratorGallery
from pipeline.report.picture_facts import Picture
from pipeline.report.pictures import Pictures
from shards.dataset import Dataset
from shards.statuses import Status

GENERATORS = 48
"""Most generators that the gallery shows."""
IMAGES = 8
"""Most images of one generator."""
MEBIBYTES = 256
"""No generator is begun once the pictures take this much."""
EAGER_BYTES = 32 << 20
"""Below this the browser loads every picture at once; above, as they scroll into view."""

_COLUMNS = (
    "image_id", "label", "index", "generator", "license", "revision", "split", "class_label", "source_image_id",
    "prompt", "prompt_sent", "prompt_source", "seed", "steps", "guidance_scale", "scheduler", "width", "height",
    "format", "sha256", "file", "offset", "length",
)  # fmt: skip


def read_gallery(dataset: Dataset, composition: Composition, crawl: Crawl | None, pictures: Pictures) -> Gallery:
    """Copy the gallery's pictures and return them, generators in order of downloads."""
    names = _generators(composition, crawl)
    first = {name: _first_rows(dataset, name) for name in names[:GENERATORS]}
    wanted = {row["source_image_id"] for rows in first.values() for row in rows} - {None}
    sources = rows_by_id(dataset, 0, wanted)
    images = {outcome.generator: outcome.ok for outcome in composition.outcomes if outcome.label == 1}
    families = {outcome.generator: outcome.family for outcome in composition.outcomes if outcome.label == 1}
    shown: list[GeneratorGallery] = []
    for name, rows in first.items():
        if pictures.bytes > MEBIBYTES << 20:
            break
        made = [_shown(dataset, row, sources.get(row["source_image_id"]), pictures) for row in rows]
        present = tuple(picture for picture in made if picture is not None)
        shown.append(GeneratorGallery(name, families[name], images[name], present))
    return Gallery(
        generators=tuple(sorted(shown, key=lambda entry: _rank(entry.name, crawl))),
        of=len(names),
        lazy=pictures.bytes > EAGER_BYTES,
        problems=tuple(pictures.problems),
    )


def rows_by_id(
    dataset: Dataset, label: int, image_ids: Collection[str], generators: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """The ok rows with these ids, by id; `generators` (when known) spares reading the others' rows."""
    if not image_ids:
        return {}
    table = dataset.rows(columns=_COLUMNS, label=label, generator=generators, status=Status.ok)
    found = table.filter(pc.is_in(table["image_id"], value_set=pa.array(sorted(image_ids), pa.string())))
    return {row["image_id"]: row for row in found.to_pylist()}


def _first_rows(dataset: Dataset, generator: str) -> list[dict[str, Any]]:
    """Target draws in order, then reserve draws in order: the first IMAGES of them that are ok."""
    table = dataset.rows(columns=_COLUMNS, label=1, generator=generator, status=Status.ok)
    rows: list[dict[str, Any]] = table.to_pylist()
    return sorted(rows, key=lambda row: (row["index"] < 0, abs(row["index"])))[:IMAGES]


def _shown(
    dataset: Dataset, row: Mapping[str, Any], source: Mapping[str, Any] | None, pictures: Pictures
) -> Picture | None:
    return pictures.show(dataset, row, None if source is None else pictures.show(dataset, source))


def _generators(composition: Composition, crawl: Crawl | None) -> list[str]:
    """Generators with images, families taken in turn: a cut of any length shows as many families as it can."""
    by_family: dict[str, list[str]] = defaultdict(list)
    outcomes = [outcome for outcome in composition.outcomes if outcome.label == 1 and outcome.ok]
    for outcome in sorted(outcomes, key=lambda outcome: _rank(outcome.generator, crawl)):
        by_family[outcome.family or ""].append(outcome.generator)
    rounds = [(place, _rank(name, crawl), name) for names in by_family.values() for place, name in enumerate(names)]
    return [name for _, _, name in sorted(rounds)]


def _rank(generator: str, crawl: Crawl | None) -> tuple[float, str]:
    model = None if crawl is None else crawl.generators.get(generator)
    return (float("inf") if model is None else model.rank, generator)
