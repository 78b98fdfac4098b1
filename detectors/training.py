"""Train a detector on committed shards: Community Forensics' recipe (section 4), resumable to the last bit.

Run it in one process, or in several under `accelerate launch` or `torchrun`: every process reads its own slice of each
batch. A run that was killed goes on from its last checkpoint when `train` is called again, and with the same hardware
and thread count it ends with the very weights of an undisturbed run.
"""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.nn import functional

from detectors.architecture import Architecture
from detectors.augmentation import TrainingTransform
from detectors.checkpoint import TrainingState, load_state, save_state
from detectors.devices import cpu_threads, resolve_device
from detectors.learning_rate import learning_rate
from detectors.loading import batches
from detectors.preprocessing import InferenceTransform
from detectors.run_identity import SELECTED_IMAGES, check_same_run, finished_run, run_identity
from detectors.saved_detector import (
    RECORD_FILE,
    DetectorRecord,
    ValidationPoint,
    library_versions,
    read_record,
    save_detector,
)
from detectors.selection import require_both_classes, select_rows, selection_fingerprint
from detectors.shard_dataset import ShardImages
from detectors.train_config import TrainConfig
from detectors.training_record import best_validation, save_training_rows, training_data
from detectors.training_setup import configured_architecture, load_initial_weights, training_precision
from detectors.training_stream import BatchPositions, SampleOrder, TrainingStream
from detectors.validation import better, validate
from detectors.validation_split import split_validation
from manifests.errors import InputError
from shards import storage
from shards.run_lock import RunLock

STATE_FILE = "training/state.pt"


@dataclass(frozen=True)
class TrainProgress:
    """What a progress callback is told, every `log_every` iterations and at each validation."""

    iteration: int
    iterations: int
    loss: float
    """Mean loss of the main process's images in this iteration."""
    learning_rate: float
    validation: ValidationPoint | None


ProgressCallback = Callable[[TrainProgress], None]


def train(
    dataset_root: Path,
    out: Path,
    config: TrainConfig,
    *,
    restart: bool = False,
    progress: ProgressCallback | None = None,
) -> DetectorRecord:
    """Train a detector and save it in the folder `out`; returns what detector.json records.

    Goes on from the last checkpoint in `out` if there is one of this config and these images, and returns at once when
    the detector is finished. The checkpoint with the highest average precision on held-out photographs of the training
    images is kept. `restart` discards what is in `out`.

    Raises:
        InputError: no dataset or no such images, one class only, an unavailable device, weights that do not fit, `out`
            in use by another process, or `out` holding a run of another config or other images.
    """
    architecture = configured_architecture(config)
    device = resolve_device(config.device)
    precision = training_precision(config, device)
    rows = select_rows(dataset_root, config.selection)
    require_both_classes(dataset_root, rows, "training")
    identity = run_identity(config, architecture.config, selection_fingerprint(rows))
    storage.make_folder(out)
    accelerator = Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.gradient_accumulation,
        cpu=device.type == "cpu",
    )
    try:
        micro = config.gradient_accumulation * accelerator.num_processes
        if config.batch_size % micro:
            raise InputError(f"batch_size {config.batch_size} is not a multiple of {micro} (accumulation × processes)")
        with RunLock(out) if accelerator.is_main_process else nullcontext(), torch.random.fork_rng(devices=[]):
            if restart and accelerator.is_main_process:
                _discard(out)
            accelerator.wait_for_everyone()
            finished = finished_run(out, identity)
            if finished is None:
                with cpu_threads(config.cpu_threads):
                    run = _Run(dataset_root, out, config, architecture, rows, identity, accelerator, progress)
                    run.finish()
            accelerator.wait_for_everyone()
        return finished or read_record(out)
    finally:
        accelerator.free_memory()
        if accelerator.num_processes == 1:
            # accelerate remembers device and precision for the life of the process; a later run may want others
            AcceleratorState._reset_state(reset_partial_state=True)


class _Run:
    """One training run in one process."""

    def __init__(
        self,
        dataset_root: Path,
        out: Path,
        config: TrainConfig,
        architecture: Architecture,
        rows: pa.Table,
        identity: dict[str, str],
        accelerator: Accelerator,
        progress: ProgressCallback | None,
    ) -> None:
        self._root, self._out, self._config, self._architecture = dataset_root, out, config, architecture
        self._identity, self._accelerator, self._progress = identity, accelerator, progress
        training, validation = split_validation(rows, config.validation_fraction, config.seed)
        self._training_rows, self._validation_rows = rows.take(training), rows.take(validation)
        torch.manual_seed(config.seed)
        model = architecture.build(architecture.config)
        load_initial_weights(model, config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        self._best_model: dict[str, torch.Tensor] | None = None
        self._validations: list[ValidationPoint] = []
        self._iteration = 0
        self._resume()

    def finish(self) -> None:
        """Run the remaining iterations and save the detector."""
        config, accelerator = self._config, self._accelerator
        positions = BatchPositions(
            self._iteration,
            config.iterations,
            config.batch_size,
            config.gradient_accumulation,
            accelerator.process_index,
            accelerator.num_processes,
        )
        stream = batches(self._stream(), positions, config.workers, accelerator.device)
        while self._iteration < config.iterations:
            loss, rate = self._step(stream)
            self._iteration += 1
            last = self._iteration == config.iterations
            point = self._validate() if last or self._iteration % config.validate_every == 0 else None
            if self._iteration % config.checkpoint_every == 0 or last:
                self._save_checkpoint()
            if point is not None or self._iteration % config.log_every == 0:
                self._report(TrainProgress(self._iteration, config.iterations, float(loss), rate, point))
        if accelerator.is_main_process:
            self._save()

    def _step(self, stream: Any) -> tuple[torch.Tensor, float]:
        config, accelerator = self._config, self._accelerator
        rate = learning_rate(
            self._iteration,
            config.iterations,
            config.learning_rate,
            config.warmup_fraction,
            config.final_learning_rate_factor,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_mixed(config.seed, self._iteration, accelerator.process_index))
        self._model.train()
        total = torch.zeros((), device=accelerator.device)
        for _ in range(config.gradient_accumulation):
            images, labels, _ = next(stream)
            with accelerator.accumulate(self._model):
                logits = self._model(images.to(accelerator.device, non_blocking=True)).float()
                target = labels.to(accelerator.device, torch.float32)
                loss = functional.binary_cross_entropy_with_logits(logits, target)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self._model.parameters(), config.gradient_clip)
                self._optimizer.step()
                self._optimizer.zero_grad()
            total += loss.detach() / config.gradient_accumulation
        return total, rate

    def _validate(self) -> ValidationPoint:
        transform = InferenceTransform(self._architecture.config.preprocessing)
        images = ShardImages(self._root, self._validation_rows, transform)
        size = max(1, self._config.batch_size // (self._config.gradient_accumulation * self._accelerator.num_processes))
        point = validate(self._accelerator, self._model, images, size, self._config.workers, self._iteration)
        if better(point, self._validations):
            self._best_model = self._weights()
        self._validations.append(point)
        return point

    def _weights(self) -> dict[str, torch.Tensor]:
        state = self._accelerator.unwrap_model(self._model).state_dict()
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    def _save_checkpoint(self) -> None:
        if not self._accelerator.is_main_process:
            return
        scaler = self._accelerator.scaler
        save_state(
            self._out / STATE_FILE,
            TrainingState(
                identity=self._identity,
                iteration=self._iteration,
                model=self._weights(),
                optimizer=self._optimizer.state_dict(),
                scaler=None if scaler is None else scaler.state_dict(),
                best_model=self._best_model,
                validations=[point.model_dump() for point in self._validations],
            ),
        )

    def _resume(self) -> None:
        state = load_state(self._out / STATE_FILE)
        if state is None:
            return
        check_same_run(self._out / STATE_FILE, state.identity, self._identity)
        self._accelerator.unwrap_model(self._model).load_state_dict(state.model)
        self._optimizer.load_state_dict(state.optimizer)
        if state.scaler is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state.scaler)
        self._best_model = state.best_model
        self._validations = [ValidationPoint.model_validate(point) for point in state.validations]
        self._iteration = state.iteration

    def _report(self, progress: TrainProgress) -> None:
        if not np.isfinite(progress.loss):
            raise InputError(
                f"training diverged: the loss is {progress.loss} at iteration {progress.iteration}; "
                f"lower learning_rate (now {self._config.learning_rate:g})"
            )
        if self._progress is not None and self._accelerator.is_main_process:
            self._progress(progress)

    def _stream(self) -> TrainingStream:
        # decoded here, transformed with the sample's own generator in the stream
        images: ShardImages[Any] = ShardImages(self._root, self._training_rows, _as_is)
        generators = self._training_rows["generator"].combine_chunks().dictionary_encode().indices.to_numpy()
        order = SampleOrder(images.labels, generators, self._config.balance, self._config.seed)
        return TrainingStream(images, order, TrainingTransform(self._architecture.config), self._config.seed)

    def _save(self) -> None:
        if self._best_model is None:
            raise RuntimeError("a finished run has validated at least once")
        fingerprint = self._identity[SELECTED_IMAGES]
        record = DetectorRecord(
            architecture=self._architecture.config,
            weights_sha256="",  # known once the weights are written
            training=self._config,
            data=training_data(self._root, fingerprint, self._training_rows, self._validation_rows),
            validation=best_validation(self._validations),
            validations=tuple(self._validations),
            versions=library_versions(),
        )
        save_training_rows(self._out, self._training_rows, self._validation_rows)
        save_detector(self._out, self._best_model, record)
        shutil.rmtree(self._out / Path(STATE_FILE).parent)


def _as_is(image: Any) -> Any:
    return image


def _discard(out: Path) -> None:
    (out / RECORD_FILE).unlink(missing_ok=True)
    shutil.rmtree(out / Path(STATE_FILE).parent, ignore_errors=True)


def _mixed(*values: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(values).generate_state(1, np.uint64)[0] >> np.uint64(1))
