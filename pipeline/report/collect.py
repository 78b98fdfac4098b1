"""Everything the report shows, read from a run's folder. Only this module and `readers/` know how the files look."""

from pathlib import Path
from typing import Any

import yaml

from detectors.selection import dataset_fingerprint
from manifests.errors import InputError
from pipeline.events import read_events
from pipeline.report.cost_facts import WorkingTime
from pipeline.report.facts import Composition, RunFacts
from pipeline.report.pictures import Pictures
from pipeline.report.readers.composition import licences, read_composition
from pipeline.report.readers.crawl import read_crawl
from pipeline.report.readers.detectors import read_detectors
from pipeline.report.readers.gallery import read_gallery
from pipeline.report.readers.hub import endpoint_of
from pipeline.report.readers.provenance import read_provenance
from pipeline.report.readers.working_time import read_working_time
from pipeline.run_folder import RunFolder
from shards import layout
from shards.dataset import Dataset


def collect(root: Path, pictures: Pictures) -> RunFacts:
    """Read the run in `root`; the images that the page will show are copied through `pictures`.

    Parts that are not there yet are None.

    Raises:
        InputError: `root` is no run's folder, or a file that is there cannot be read.
    """
    run = RunFolder.at(root)
    _check_is_run(run)
    config = _config(run.config)
    endpoint = endpoint_of(config)
    dataset = Dataset.open(run.dataset) if _has_dataset(run) else None
    fingerprint = None if dataset is None else dataset_fingerprint(run.dataset)
    crawl = read_crawl(run.catalog, endpoint) if run.catalog.is_file() else None
    composition, image_licences = (None, {}) if dataset is None else read_composition(dataset)
    gallery = None
    if dataset is not None and composition is not None:
        gallery = read_gallery(dataset, composition, crawl, pictures)
    families = {} if composition is None else {outcome.generator: outcome.family for outcome in composition.outcomes}
    events = read_events(run.events)
    return RunFacts(
        name=str(config.get("name") or (dataset.name if dataset else root.resolve().name)),
        crawl=crawl,
        gallery=gallery,
        composition=composition,
        licences=licences(crawl, image_licences),
        detectors=read_detectors(run.detectors, dataset, fingerprint, families, pictures),
        provenance=read_provenance(run, config, dataset, fingerprint, crawl, gallery, endpoint, events),
        notes=dataset.manifest.licence_notes if dataset else "",
        time=None if dataset is None or composition is None else _time(events, dataset, composition),
    )


def _time(events: list[dict[str, Any]], dataset: Dataset, composition: Composition) -> WorkingTime | None:
    images = {outcome.generator: outcome.ok for outcome in composition.outcomes if outcome.label == 1}
    units = sum(commit.label == 1 for commit in dataset.commits().values())
    return read_working_time(events, images, units)


def _check_is_run(run: RunFolder) -> None:
    if not run.root.is_dir():
        raise InputError(f"{run.root}: no such folder; a report is made from a run's folder")
    if not (run.config.is_file() or run.catalog.is_file() or _has_dataset(run)):
        raise InputError(
            f"{run.root}: not a run's folder: it has no {run.config.name}, no {run.catalog.name} and no "
            f"{run.dataset.name}/{layout.MANIFEST} (`commforge run` makes them)"
        )


def _has_dataset(run: RunFolder) -> bool:
    """An interrupted start can leave the folder without its manifest: then there is no dataset yet."""
    return (run.dataset / layout.MANIFEST).is_file()


def _config(path: Path) -> dict[str, Any]:
    """run.yaml as plain values: a report can be made of a run whose configuration this release would refuse."""
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping of keys to values, not {type(content).__name__}")
    return content
