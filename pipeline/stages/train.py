"""The train stage: every configured detector, on the train split."""

from pathlib import Path

from crawlers.fetch import fetch_repo, pin_revision

from detectors.registry import get_architecture
from detectors.run_identity import OtherRun
from detectors.train_config import parse_train_config
from detectors.training import TrainProgress
from detectors.training import train as train_detector
from pipeline.config import DetectorConfig
from pipeline.context import RunContext
from pipeline.hub_token import hub_token
from pipeline.progress import StageProgress, say


def train(context: RunContext) -> None:
    """Train the detectors that are missing, or whose images or settings have changed since.

    Raises:
        InputError: bad settings, no images of one class, or a backbone that cannot be fetched.
    """
    for detector in context.config.detectors:
        _train_one(context, detector)


def _train_one(context: RunContext, detector: DetectorConfig) -> None:
    architecture = get_architecture(detector.architecture)
    settings: dict[str, object] = {"architecture": detector.architecture, "selection": {"split": "train"}}
    settings["device"] = context.config.execute.device
    settings |= detector.train
    if (
        detector.backbone == "pretrained"
        and architecture.config.backbone_weights
        and "initial_detector" not in settings
    ):
        settings.setdefault("initial_backbone", str(_backbone(context, architecture.config.backbone_weights)))
    config = parse_train_config(settings, f"detectors: {detector.name}")
    out = context.folder.detectors / detector.name
    done = 0
    with StageProgress(f"train {detector.name}", config.iterations, "iterations") as progress:

        def report(at: TrainProgress) -> None:
            nonlocal done
            progress.advance(at.iteration - done, f"loss {at.loss:.3f}")
            done = at.iteration

        try:
            record = train_detector(context.folder.dataset, out, config, progress=report)
        except OtherRun:
            say(f"train: {detector.name}: settings or images have changed, training anew")
            record = train_detector(context.folder.dataset, out, config, progress=report, restart=True)
    images = record.data.training_images
    say(
        f"train: {detector.name}: {images['real']} real and {images['fake']} fake images of "
        f"{len(record.data.generators)} generators; validation AP {record.validation.ap:.3f}"
    )


def _backbone(context: RunContext, repo_id: str) -> Path:
    hub = context.config.hub
    return fetch_repo(
        repo_id,
        pin_revision(repo_id, hub.endpoint, hub_token()),
        endpoint=hub.endpoint,
        cache_dir=hub.cache,
        token=hub_token(),
        timeout_seconds=hub.download_timeout,
    )
