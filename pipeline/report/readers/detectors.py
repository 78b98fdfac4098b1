"""The run's detectors and how each evaluation of them went."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from manifests.errors import InputError
from pipeline.report.detector_facts import Detector, Evaluation, GeneratorScore, Histogram, Interval, Metrics, Roc
from pipeline.report.formatting import count, plural, score
from pipeline.report.picture_facts import Fact
from pipeline.report.pictures import Pictures
from pipeline.report.readers.detector_files import (
    Binary,
    DetectorFile,
    EvaluationFile,
    Intervals,
    Macro,
    OfGenerator,
    read_json,
)
from pipeline.report.readers.most_wrong import most_wrong
from shards.dataset import Dataset

CURVES = 40
"""Most ROC curves in one chart."""

_GRID = np.linspace(0, 1, 201)


def read_detectors(
    folder: Path,
    dataset: Dataset | None,
    fingerprint: str | None,
    families: Mapping[str, str | None],
    pictures: Pictures,
) -> tuple[Detector, ...]:
    """Read every detector in `folder`, by name. A damaged file becomes one of its detector's problems."""
    if not folder.is_dir():
        return ()
    names = sorted(entry.name for entry in folder.iterdir() if (entry / "detector.json").is_file())
    return tuple(_detector(folder / name, dataset, fingerprint, families, pictures) for name in names)


def _detector(
    folder: Path,
    dataset: Dataset | None,
    fingerprint: str | None,
    families: Mapping[str, str | None],
    pictures: Pictures,
) -> Detector:
    facts: tuple[Fact, ...] = ()
    evaluations: list[Evaluation] = []
    problems: list[str] = []
    try:
        facts = _detector_facts(read_json(folder / "detector.json", DetectorFile))
    except InputError as error:
        problems.append(str(error))
    for path in sorted(folder.glob("evaluations/*/report.json")):
        try:
            evaluations.append(_evaluation(path, dataset, fingerprint, families, pictures))
        except InputError as error:
            problems.append(str(error))
    shown = tuple(problem.replace(f"{folder.parent.parent}/", "") for problem in problems)
    return Detector(folder.name, facts, tuple(evaluations), shown)


def _detector_facts(record: DetectorFile) -> tuple[Fact, ...]:
    facts = [
        Fact("Architecture", f"{record.architecture.name}: {record.architecture.description}".removesuffix(": ")),
        Fact("Paper", record.architecture.paper),
        Fact("Licence", record.architecture.license),
    ]
    images = record.data.training_images
    if images:
        facts.append(
            Fact(
                "Trained on",
                f"{plural(images.get('fake', 0), 'generated image')} of "
                f"{plural(len(record.data.generators), 'generator')} and {plural(images.get('real', 0), 'real image')}",
            )
        )
    if record.validation is not None:
        kept = record.validation
        facts.append(
            Fact(
                "Kept checkpoint",
                f"iteration {count(kept.iteration)}, chosen on held-out training images: "
                f"AP {score(kept.ap)}, AUC {score(kept.auc)}",
            )
        )
    facts.append(Fact("Weights (SHA-256)", record.weights_sha256, code=True))
    return tuple(fact for fact in facts if fact.value)


def _evaluation(
    path: Path,
    dataset: Dataset | None,
    fingerprint: str | None,
    families: Mapping[str, str | None],
    pictures: Pictures,
) -> Evaluation:
    report = read_json(path, EvaluationFile)
    equalised = report.equalised
    curves = [
        Roc(name, result.auc, result.roc.false_positive_rate, result.roc.true_positive_rate)
        for name, result in sorted(report.per_generator.items())
        if result.roc is not None
    ]
    drawn = _spread(curves)
    histograms = [("Scores, native", report.histogram)]
    if equalised is not None:
        histograms.append(("Scores, equalised", equalised.histogram))
    scores = path.parent / Path(report.files.get("native", "scores.parquet")).name
    split = f"{report.selection.split} split" if report.selection.split else "all splits"
    missed, doubted = most_wrong(scores, dataset, pictures)
    return Evaluation(
        title=f"Metrics by generator: {report.dataset}, {split}",
        facts=_evaluation_facts(report, fingerprint),
        macro=_metrics(report.macro),
        micro=_metrics(report.micro),
        equalised_macro=None if equalised is None else _metrics(equalised.macro),
        equalised_micro=None if equalised is None else _metrics(equalised.micro),
        macro_generators=report.macro.n,
        unseen=all(result.trained_on is False for result in report.per_generator.values()),
        auc_interval=_interval(report.interval, "auc"),
        ap_interval=_interval(report.interval, "ap"),
        interval_note=_interval_note(report.interval),
        equalisation="" if equalised is None else equalised.method,
        generators=tuple(
            GeneratorScore(
                generator=name,
                family=families.get(name),
                native=_metrics(result),
                equalised=_metrics(equalised.per_generator[name])
                if equalised and name in equalised.per_generator
                else None,
                undefined=_remark(result),
            )
            for name, result in sorted(report.per_generator.items())
        ),
        curves=drawn,
        curves_left_out=len(curves) - len(drawn),
        macro_curve=_average(curves, report.macro.auc),
        histograms=tuple(
            (name, Histogram(histogram.edges, histogram.real, histogram.fake))
            for name, histogram in histograms
            if histogram is not None
        ),
        missed_fakes=missed,
        doubted_reals=doubted,
    )


def _evaluation_facts(report: EvaluationFile, fingerprint: str | None) -> tuple[Fact, ...]:
    images = report.images
    facts = [
        Fact(
            "Scored",
            f"{plural(images.get('fake', 0), 'generated image')}, {plural(images.get('real', 0), 'real image')}",
        )
    ]
    for name, bounds in (("Macro AUC interval", report.interval.auc), ("Macro AP interval", report.interval.ap)):
        if bounds is not None:
            facts.append(Fact(name, f"{score(bounds.low)} to {score(bounds.high)}"))
    if report.equalised is not None:
        for name, bounds in (
            ("equalised AUC", report.equalised.interval.auc),
            ("equalised AP", report.equalised.interval.ap),
        ):
            if bounds is not None:
                facts.append(Fact(f"Macro {name} interval", f"{score(bounds.low)} to {score(bounds.high)}"))
    if report.macro.excluded:
        excluded = ", ".join(f"{name} ({reason})" for name, reason in sorted(report.macro.excluded.items())[:10])
        more = len(report.macro.excluded) - 10
        facts.append(Fact("Not in the macro mean", excluded + (f" and {count(more)} more" if more > 0 else "")))
    if report.seen_in_training is not None:
        seen = report.seen_in_training
        text = f"{plural(seen.images, 'image')}, {plural(seen.photographs, 'photograph')}"
        facts.append(Fact("Also in the training set", text if seen.images or seen.photographs else "none"))
    if report.dataset_fingerprint is not None:
        same = report.dataset_fingerprint == fingerprint
        facts.append(Fact("Dataset fingerprint", report.dataset_fingerprint, code=True))
        if fingerprint is not None and not same:
            facts.append(Fact("Note", "the dataset in this folder has changed since, or is another one"))
    return tuple(facts)


def _metrics(result: Binary | Macro) -> Metrics:
    return Metrics(
        auc=result.auc,
        ap=result.ap,
        accuracy=result.accuracy,
        r_acc=result.r_acc,
        f_acc=result.f_acc,
        fake=result.n_fake if isinstance(result, Binary) else None,
    )


def _remark(result: OfGenerator) -> str | None:
    remarks = sorted(set(result.undefined.values()))
    if result.trained_on:
        remarks.append("trained on")
    return ", ".join(remarks) or None


def _interval(intervals: Intervals, metric: str) -> Interval | None:
    bounds = intervals.auc if metric == "auc" else intervals.ap
    return None if bounds is None else Interval(bounds.low, bounds.high)


def _interval_note(intervals: Intervals) -> str:
    if intervals.auc is None and intervals.ap is None:
        return f"No intervals: {intervals.reason}." if intervals.reason else ""
    return (
        f"Intervals hold {100 * intervals.level:g}% of {count(intervals.resamples)} bootstrap resamples of "
        f"{plural(intervals.photographs, 'source photograph')}."
    )


def _spread(curves: list[Roc]) -> tuple[Roc, ...]:
    """At most CURVES of them, evenly spaced by AUC: the chart shows the range, not the best or the first."""
    if len(curves) <= CURVES:
        return tuple(curves)
    ordered = sorted(curves, key=lambda curve: (curve.auc or 0.0, curve.name))
    places = np.linspace(0, len(ordered) - 1, CURVES).round().astype(int)
    return tuple(sorted((ordered[place] for place in places), key=lambda curve: curve.name))


def _average(curves: list[Roc], auc: float | None) -> Roc | None:
    """The mean true positive rate at each false positive rate. Ties are straight lines, as in each curve."""
    if not curves:
        return None
    rates = np.mean([np.interp(_GRID, curve.false_positive_rate, curve.true_positive_rate) for curve in curves], axis=0)
    return Roc("Average over generators", auc, (0.0, *_GRID.tolist()), (0.0, *rates.tolist()))
