"""Make an image of a dataset again from its row alone, and compare."""

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from crawlers.fetching.model_cache import ModelCache
from detectors.devices import DeviceName
from manifests.errors import InputError, system_words
from pipeline.device_check import check_device
from pipeline.exit_codes import ExitCode
from pipeline.hub_token import hub_token
from pipeline.progress import say
from samplers.component_store import ComponentStore
from samplers.environment import current_environment, pin_threads, resolve_device, set_deterministic
from samplers.placement import Offload, Placement
from samplers.registry import load_sampler
from samplers.replay import generator_from_row, replay_batch
from shards.dataset import Dataset
from shards.statuses import Reason, Status, UnitFailure

_DOWNLOAD_SECONDS = 3600.0
_OF_THE_HUB = {
    Reason.download_failed,
    Reason.download_timeout,
    Reason.repo_not_found,
    Reason.revision_not_found,
    Reason.gated_repo,
}


def regenerate(
    root: Path,
    image_id: str,
    *,
    verify: bool,
    out: Path | None,
    endpoint: str,
    cache: Path | None,
    device: DeviceName,
) -> ExitCode:
    """Replay the image's batch; write the image to `out`, and with `verify` compare its hash with the row's.

    Returns DONE_WITH_FAILURES when the bytes differ, or when this machine is another environment, in which equal bytes
    are not promised and were not found.

    Raises:
        InputError: no such image, a real image, a draw that never made one, no such device, or the model cannot be had.
    """
    dataset = Dataset.open(root)
    batch = _batch_rows(dataset, image_id)
    row = next(row for row in batch if row["image_id"] == image_id)
    check_device("--device", device)
    pin_threads(int(dataset.identity.get("sample.cpu_threads", 1)))
    set_deterministic()
    chosen = resolve_device(device)
    spec = generator_from_row(row)
    models = ModelCache(
        endpoint=endpoint, cache_dir=cache, token=hub_token(), timeout_seconds=_DOWNLOAD_SECONDS, prefetch=0
    )
    dtype = spec.dtype or "float32"
    try:
        with models, models.fetch(spec) as files:
            sampler = load_sampler(
                spec,
                files.folder,
                base_folder=files.base,
                dtype=dtype,
                device=chosen,
                components=ComponentStore(),
                placement=_placement(chosen, json.loads(row["call_kwargs"])["load"]),
            )
            images = replay_batch(batch, sampler)
            here = current_environment(chosen, dtype, compiled=sampler.compiled).id
            sampler.close()
    except UnitFailure as failure:
        where = f" from {endpoint}" if failure.reason in _OF_THE_HUB else ""
        raise InputError(f"image {image_id} cannot be made again{where}: {failure}") from failure
    made = images[row["slot"]]
    if made is None:
        raise InputError(f"image {image_id}: the model gives values that are no numbers, now and then")
    if out is not None:
        _write(out, made.data)
    print(f"{image_id} {spec.repo_id}@{(spec.revision or '')[:12]} seed {row['seed']} sha256 {made.sha256}")
    if not verify:
        return ExitCode.DONE
    if made.sha256 == row["sha256"]:
        print("equal: the same bytes as the dataset's")
        return ExitCode.DONE
    print(f"different: the dataset's sha256 is {row['sha256']}")
    if here != row["environment"]:
        say(f"equal bytes are promised in one environment: this is {here}, the image's was {row['environment']}")
    return ExitCode.DONE_WITH_FAILURES


def _placement(device: str, load: dict[str, Any]) -> Placement:
    """Place the pipeline as it was: what had to be offloaded there would not fit here either."""
    offload: Offload = load.get("offload", "none") if device != "cpu" else "none"
    return Placement(device, offload, compile=bool(load.get("compiled")))


def _batch_rows(dataset: Dataset, image_id: str) -> list[dict[str, Any]]:
    """Return all rows of the image's batch."""
    places = dataset.rows(columns=["image_id", "generator", "unit"])
    places = places.filter(pc.equal(places["image_id"], image_id)).to_pylist()
    if not places:
        raise InputError(f"{dataset.root}: no committed image {image_id!r}; image ids are in index/rows.parquet")
    rows = dataset.rows(generator=places[0]["generator"])
    unit: list[dict[str, Any]] = rows.filter(pc.equal(rows["unit"], places[0]["unit"])).to_pylist()
    row = next(row for row in unit if row["image_id"] == image_id)
    if row["label"] == 0:
        raise InputError(f"{image_id} is a real image of {row['real_source']}: there is nothing to make again")
    if Status(row["status"]).failed:
        raise InputError(f"{image_id} was never made: {row['status']} ({row['reason']})")
    return [other for other in unit if other["batch"] == row["batch"]]


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"--out: cannot write {path}: {system_words(error)}") from error
