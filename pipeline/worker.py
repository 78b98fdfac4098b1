"""The worker: where download, sampler, safety checker and writer meet. Read it and you have understood the product.

A unit comes in, a receipt goes out. In between: the generator's files are fetched at their pinned revision, the sampler
is loaded (or kept, when the unit is of the same generator), each draw is sampled, scored and judged, and every draw
becomes a row beside its image in one spooled shard, which is published under the name of its content. Nothing is part
of the dataset until the driver commits the receipt, so a worker can die anywhere without harm.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from PIL import Image

from captioning.blip import BlipCaptioner
from captioning.real_units import store_real_unit
from crawlers.fetch import fetch_generator, fetch_repo
from detectors.devices import DeviceName
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import CheckerSpec, RealUnitSpec, UnitSpec
from pipeline.config import CaptionerConfig
from pipeline.device_check import check_device
from pipeline.disk_errors import disk_refusals
from pipeline.quiet import quiet_libraries
from pipeline.rows import generated_row
from pipeline.spool import own_spool
from pipeline.tasks import CaptionChunk, Done, Failed, Outcome, Task
from pipeline.worker_config import WorkerConfig
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.environment import Environment, current_environment, pin_threads, resolve_device, set_deterministic
from samplers.registry import load_sampler
from samplers.safety_checker import SafetyChecker
from samplers.unit_drawing import DrawnImage, draw_unit
from shards.reader import image_bytes
from shards.statuses import Status, UnitFailure
from shards.writer import Receipt, UnitWriter


class Worker:
    """Runs one task after another and keeps what the next may need: the sampler, the checker, shared components."""

    def __init__(self, config: WorkerConfig) -> None:
        """Pin threads and choose reproducible kernels; from here on this process samples.

        Raises:
            InputError: this process has no such device, or cannot spool. Asked first: then nothing has changed yet.
        """
        check_device("execute.device", cast(DeviceName, config.device))
        with disk_refusals(config.spool):
            self._spool = own_spool(config.spool)
        pin_threads(config.cpu_threads)
        set_deterministic()
        quiet_libraries()
        self._config = config
        self._device = resolve_device(config.device)
        self._components = ComponentStore()
        self._sampler: tuple[GeneratorSpec, Sampler] | None = None
        self._checker: tuple[CheckerSpec, SafetyChecker] | None = None
        self._captioner: tuple[CaptionerConfig, BlipCaptioner] | None = None

    def run(self, task: Task) -> Outcome:
        """Run one task; a failure that has a name is an outcome, anything else is a bug of ours and is raised.

        Raises:
            InputError: what the user must mend first: a full disk, a safety checker or captioner that cannot be had.
        """
        started = time.monotonic()
        try:
            done = self._done(task)
        except UnitFailure as failure:
            return Failed(task, failure.reason, failure.detail, time.monotonic() - started, socket.gethostname())
        return Done(task, time.monotonic() - started, socket.gethostname(), **done)

    def _done(self, task: Task) -> dict[str, Any]:
        if isinstance(task.work, CaptionChunk):
            return {"captions": self._caption(task.work)}
        if isinstance(task.work, RealUnitSpec):
            return {"receipt": self._store(task.work)}
        environment = current_environment(self._device, task.work.generator.dtype or task.work.dtype)
        receipt = self._sample(task.work, task.generation, environment)
        return {"receipt": receipt, "environment": environment.id, "versions": environment.details}

    def _sample(self, unit: UnitSpec, generation: int, environment: Environment) -> Receipt:
        sampler = self._load(unit)
        checker = self._load_checker(unit.checker)
        sampled = {
            "negative_prompt": sampler.negative_prompt,
            "steps": sampler.steps,
            "guidance_scale": sampler.guidance_scale,
            "scheduler": sampler.scheduler_name,
            "watermark": sampler.watermark,
            "call_kwargs": sampler.call_record(unit.batch_size),
            "checker_revision": f"{unit.checker.repo_id}@{unit.checker.revision}" if unit.checker else None,
            "environment": environment.id,
        }
        with self._writer(unit.unit, unit.generator.name) as writer:
            for drawn in draw_unit(unit, sampler, checker):
                writer.add(_row(unit, generation, drawn) | sampled, drawn.image)
            return writer.publish()

    def _store(self, unit: RealUnitSpec) -> Receipt:
        with self._writer(unit.unit, f"real-{unit.source.name}") as writer:
            store_real_unit(unit, writer)
            return writer.publish()

    @contextmanager
    def _writer(self, unit: str, generator: str) -> Iterator[UnitWriter]:
        dataset = self._config.dataset
        with disk_refusals(self._spool, dataset), UnitWriter(dataset, self._spool, unit, generator) as writer:
            yield writer

    def _caption(self, chunk: CaptionChunk) -> tuple[str, ...]:
        captioner = self._load_captioner(chunk.captioner)
        rows = [asdict(image) for image in chunk.images]
        images = [Image.open(BytesIO(image_bytes(self._config.dataset, row))).convert("RGB") for row in rows]
        return tuple(captioner.caption(images))

    def _load(self, unit: UnitSpec) -> Sampler:
        if self._sampler is not None and self._sampler[0] == unit.generator:
            return self._sampler[1]
        config = self._config
        folder = fetch_generator(
            unit.generator,
            endpoint=config.endpoint,
            cache_dir=config.cache,
            token=config.token,
            timeout_seconds=config.download_timeout,
        )
        if self._sampler is not None:  # after the download: until then the old one may still be of use
            self._sampler[1].close()
            self._sampler = None
        sampler = load_sampler(
            unit.generator, folder, dtype=unit.dtype, device=self._device, components=self._components
        )
        self._sampler = (unit.generator, sampler)
        return sampler

    def _load_checker(self, spec: CheckerSpec | None) -> SafetyChecker | None:
        if spec is None:
            return None
        if self._checker is None or self._checker[0] != spec:
            with _not_the_units("sample.checker", spec.repo_id):
                folder = self._fetch(spec.repo_id, spec.revision)
                checker = SafetyChecker.load(folder, spec.revision, self._device, components=self._components)
            self._checker = (spec, checker)
        return self._checker[1]

    def _load_captioner(self, spec: CaptionerConfig) -> BlipCaptioner:
        if self._captioner is None or self._captioner[0] != spec:
            if spec.revision is None:
                raise ValueError("the captioner's revision is pinned before captioning")
            with _not_the_units("caption.captioner", spec.repo_id):
                folder = self._fetch(spec.repo_id, spec.revision)
                captioner = BlipCaptioner.load(
                    folder, self._device, "float32", batch_size=spec.batch_size, max_new_tokens=spec.max_new_tokens
                )
            self._captioner = (spec, captioner)
        return self._captioner[1]

    def _fetch(self, repo_id: str, revision: str) -> Path:
        config = self._config
        return fetch_repo(
            repo_id,
            revision,
            endpoint=config.endpoint,
            cache_dir=config.cache,
            token=config.token,
            timeout_seconds=config.download_timeout,
        )


@contextmanager
def _not_the_units(key: str, repo_id: str) -> Iterator[None]:
    """Keep the failure of a model that all units share from being blamed on the unit, and so on its generator.

    Memory is the exception: what is left of it depends on the generator that is loaded beside it.
    """
    try:
        yield
    except UnitFailure as failure:
        if failure.status is Status.oom:
            raise
        raise InputError(f"{key}: {repo_id}: {failure.detail} ({failure.reason})") from failure


def _row(unit: UnitSpec, generation: int, drawn: DrawnImage) -> dict[str, Any]:
    row = generated_row(unit, generation, drawn.draw, batch=drawn.batch, slot=drawn.slot, reason=drawn.reason)
    return row | {
        name: getattr(drawn, name)
        for name in (
            "prompt_sent",
            "truncated",
            "width",
            "height",
            "format",
            "mode",
            "sha256",
            "phash",
            "nsfw_flag",
            "nsfw_score",
        )
    }
