"""The worker: where download, sampler, safety checker and writer meet. Read it and you have understood the product.

A unit comes in, a receipt goes out. In between: the generator's files are fetched at their pinned revision, the sampler
is loaded (or kept, when the unit is of the same generator), each draw is sampled, scored and judged, and every draw
becomes a row beside its image in one spooled shard, which is published under the name of its content. Nothing is part
of the dataset until the driver commits the receipt, so a worker can die anywhere without harm.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, cast

from PIL import Image

from captioning.blip import BlipCaptioner
from captioning.real_units import store_real_unit
from crawlers.fetching.held_folders import HeldFolders
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub.hub_errors import redact
from detectors.devices import DeviceName
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import CheckerSpec, RealUnitSpec, UnitSpec
from pipeline.config import CaptionerConfig
from pipeline.device_check import check_device
from pipeline.disk_errors import disk_refusals
from pipeline.memory_plan import activation_bytes, largest_component_bytes, model_bytes
from pipeline.quiet import quiet_libraries
from pipeline.rows import generated_row
from pipeline.spool import own_spool
from pipeline.tasks import CaptionChunk, Done, Failed, Outcome, Task, Usage
from pipeline.worker_config import WorkerConfig
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.device_memory import limit_device_memory
from samplers.environment import Environment, current_environment, pin_threads, resolve_device, set_deterministic
from samplers.placement import OffloadSetting, Placement, plan_placement
from samplers.registry import load_sampler
from samplers.safety_checker import SafetyChecker
from samplers.unit_drawing import DrawnImage, draw_unit
from shards.reader import image_bytes
from shards.statuses import Reason, Status, UnitFailure
from shards.writer import Receipt, UnitWriter

_OF_THE_HUB = {Reason.download_failed, Reason.download_timeout}


@dataclass(frozen=True)
class _Loaded:
    """The generator that is ready to sample, and its files, which must not be evicted while it is."""

    spec: GeneratorSpec
    sampler: Sampler
    files: HeldFolders

    def close(self) -> None:
        self.sampler.close()
        self.files.release()


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
        limit_device_memory(self._device, config.gpus_per_worker)
        self._models = ModelCache(
            endpoint=config.endpoint,
            cache_dir=config.cache,
            token=config.token,
            timeout_seconds=config.download_timeout,
            disk_budget=config.disk_budget,
            prefetch=config.prefetch,
        )
        self._components = ComponentStore()
        self._loaded: _Loaded | None = None
        # With their files, which are held for as long as this process lives.
        self._checker: tuple[CheckerSpec, SafetyChecker, HeldFolders] | None = None
        self._captioner: tuple[CaptionerConfig, BlipCaptioner, HeldFolders] | None = None
        self._loading = 0.0

    def run(self, task: Task, on_fetched: Callable[[], None] = lambda: None) -> Outcome:
        """Run one task; a failure that has a name is an outcome, anything else is a bug of ours and is raised.

        Args:
            on_fetched: called once every file that the task needs is here: a unit's time limit starts then, for a
                download has a limit of its own.

        Raises:
            InputError: what the user must mend first: a full disk, a safety checker or captioner that cannot be had.
        """
        started = time.monotonic()
        self._loading = 0.0
        try:
            done = self._done(task, on_fetched)
        except UnitFailure as failure:
            self._forget(failure)
            seconds = time.monotonic() - started
            host, usage = socket.gethostname(), self._usage(seconds)
            return Failed(task, failure.reason, failure.detail, seconds, host, usage=usage)
        seconds = time.monotonic() - started
        return Done(task, seconds, socket.gethostname(), usage=self._usage(seconds), **done)

    def close(self) -> None:
        """Give back the models and end what is fetched in the background."""
        self._let_go()
        self._models.close()

    def _forget(self, failure: UnitFailure) -> None:
        """Keep nothing that was left half-way: a call that runs out of memory can leave a shared part lifted to another
        precision."""
        if failure.status is Status.oom:
            self._let_go()
            self._components = ComponentStore()

    def _let_go(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _usage(self, seconds: float) -> Usage:
        traffic = self._models.take_traffic()
        return Usage(
            waited=traffic.waited,
            loading=self._loading,
            sampling=max(0.0, seconds - traffic.waited - self._loading),
            fetched=traffic.fetched,
            saved=traffic.saved,
        )

    def _done(self, task: Task, on_fetched: Callable[[], None]) -> dict[str, Any]:
        if isinstance(task.work, CaptionChunk):
            return {"captions": self._caption(task.work, on_fetched)}
        if isinstance(task.work, RealUnitSpec):
            on_fetched()
            return {"receipt": self._store(task.work)}
        receipt, environment = self._sample(task, task.work, on_fetched)
        return {"receipt": receipt, "environment": environment.id, "versions": environment.details}

    def _sample(self, task: Task, unit: UnitSpec, on_fetched: Callable[[], None]) -> tuple[Receipt, Environment]:
        def fetched() -> None:
            on_fetched()
            self._models.prefetch(task.upcoming)

        # The checker first: while it is fetched, this worker holds no generator that other workers could wait for.
        checker = self._load_checker(unit.checker)
        sampler = self._load(unit, fetched)
        environment = current_environment(self._device, unit.dtype, compiled=sampler.compiled)
        batch_size = max(1, unit.batch_size >> task.halvings)
        sampled = {
            "negative_prompt": sampler.negative_prompt,
            "steps": sampler.steps,
            "guidance_scale": sampler.guidance_scale,
            "scheduler": sampler.scheduler_name,
            "watermark": sampler.watermark,
            "call_kwargs": sampler.call_record(batch_size),
            "checker_revision": f"{unit.checker.repo_id}@{unit.checker.revision}" if unit.checker else None,
            "environment": environment.id,
        }
        with self._writer(unit.unit, unit.generator.name) as writer:
            for drawn in draw_unit(unit, sampler, checker, batch_size=batch_size):
                writer.add(_row(unit, task.generation, drawn) | sampled, drawn.image)
            return writer.publish(), environment

    def _store(self, unit: RealUnitSpec) -> Receipt:
        with self._writer(unit.unit, f"real-{unit.source.name}") as writer:
            store_real_unit(unit, writer)
            return writer.publish()

    @contextmanager
    def _writer(self, unit: str, generator: str) -> Iterator[UnitWriter]:
        dataset = self._config.dataset
        with disk_refusals(self._spool, dataset), UnitWriter(dataset, self._spool, unit, generator) as writer:
            yield writer

    def _caption(self, chunk: CaptionChunk, on_fetched: Callable[[], None]) -> tuple[str, ...]:
        captioner = self._load_captioner(chunk.captioner)
        on_fetched()
        rows = [asdict(image) for image in chunk.images]
        images = [Image.open(BytesIO(image_bytes(self._config.dataset, row))).convert("RGB") for row in rows]
        return tuple(captioner.caption(images))

    def _load(self, unit: UnitSpec, on_fetched: Callable[[], None]) -> Sampler:
        if self._loaded is not None and self._loaded.spec == unit.generator:
            on_fetched()
            return self._loaded.sampler
        # The old generator is let go after the download, since until then it may still be of use, unless the disk
        # budget does not hold both.
        files = self._models.fetch(unit.generator, make_room=self._let_go)
        on_fetched()
        self._let_go()
        started = time.monotonic()
        try:
            sampler = load_sampler(
                unit.generator,
                files.folder,
                base_folder=files.base,
                dtype=unit.dtype,
                device=self._device,
                components=self._components,
                placement=self._placement(unit),
            )
        except UnitFailure:
            files.release()
            raise
        finally:
            self._loading += time.monotonic() - started
        loaded = _Loaded(unit.generator, sampler, files)
        try:
            sampler.check_effect()
        except UnitFailure:
            loaded.close()
            raise
        self._loaded = loaded
        return sampler

    def _placement(self, unit: UnitSpec) -> Placement:
        """Offload as little as the device at hand needs: unlike precision and batch size it changes no byte."""
        share = self._config.gpus_per_worker
        return plan_placement(
            model_bytes(unit.generator, unit.dtype),
            activation_bytes(unit.generator, unit.dtype, unit.batch_size),
            self._device,
            cast(OffloadSetting, self._config.offload),
            largest_bytes=largest_component_bytes(unit.generator, unit.dtype),
            share=share if 0 < share < 1 else 1.0,
            compile=self._config.compile,
        )

    def _load_checker(self, spec: CheckerSpec | None) -> SafetyChecker | None:
        if spec is None:
            return None
        if self._checker is None or self._checker[0] != spec:
            with self._not_the_units("sample.checker", spec.repo_id):
                files = self._models.fetch_repo(spec.repo_id, spec.revision)
                checker = SafetyChecker.load(files.folder, spec.revision, self._device, components=self._components)
            self._checker = (spec, checker, files)
        return self._checker[1]

    def _load_captioner(self, spec: CaptionerConfig) -> BlipCaptioner:
        if self._captioner is None or self._captioner[0] != spec:
            if spec.revision is None:
                raise ValueError("the captioner's revision is pinned before captioning")
            with self._not_the_units("caption.captioner", spec.repo_id):
                files = self._models.fetch_repo(spec.repo_id, spec.revision)
                captioner = BlipCaptioner.load(
                    files.folder,
                    self._device,
                    "float32",
                    batch_size=spec.batch_size,
                    max_new_tokens=spec.max_new_tokens,
                )
            self._captioner = (spec, captioner, files)
        return self._captioner[1]

    @contextmanager
    def _not_the_units(self, key: str, repo_id: str) -> Iterator[None]:
        """Keep the failure of a model that all units share from being blamed on the unit, and so on its generator.

        Memory is the exception: what is left of it depends on the generator that is loaded beside it.
        """
        try:
            yield
        except UnitFailure as failure:
            if failure.status is Status.oom:
                raise
            where = f" (asked {redact(self._config.endpoint)})" if failure.reason in _OF_THE_HUB else ""
            raise InputError(
                f"{key}: {repo_id}: {failure.detail} ({failure.reason}){where}; the same command goes on from here"
            ) from failure


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
