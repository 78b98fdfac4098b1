"""The evaluate stage: every trained detector on the test split, whose generators it has never seen."""

from pathlib import Path

from detectors.evaluation import REPORT_FILE, EvaluationReport
from detectors.evaluation import evaluate as evaluate_detector
from detectors.saved_detector import read_record
from detectors.selection import dataset_fingerprint
from pipeline.context import RunContext
from pipeline.progress import StageProgress, say

SPLIT = "test"


def evaluate(context: RunContext) -> dict[str, EvaluationReport]:
    """Return detector name → report; scores anew only what changed since the last time.

    Raises:
        InputError: no detector, or no images of one class in the test split.
    """
    reports = {}
    for detector in context.config.detectors:
        folder = context.folder.detectors / detector.name
        out = folder / "evaluations" / SPLIT
        report = _current_report(folder, out, context.folder.dataset)
        if report is None:
            with StageProgress(f"evaluate {detector.name}", 1, "images") as progress:
                report = evaluate_detector(
                    folder,
                    context.folder.dataset,
                    SPLIT,
                    out=out,
                    device=context.config.execute.device,
                    progress=progress.at,
                )
        macro = report.macro
        say(f"evaluate: {detector.name}: macro AP {macro.ap:.3f}, AUC {macro.auc:.3f} over {macro.n} unseen generators")
        reports[detector.name] = report
    return reports


def _current_report(folder: Path, out: Path, dataset: Path) -> EvaluationReport | None:
    path = out / REPORT_FILE
    if not path.exists():
        return None
    report = EvaluationReport.model_validate_json(path.read_bytes())
    same = report.detector.weights_sha256 == read_record(
        folder
    ).weights_sha256 and report.dataset_fingerprint == dataset_fingerprint(dataset)
    return report if same else None
