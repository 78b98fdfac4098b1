"""Detectors on the page: metrics are recomputed from the scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_page import Page, page_of
from report_run import GENERATORS, RunBuilder

from pipeline.report.collect import collect
from pipeline.report.pictures import Pictures


def test_metrics_are_those_of_the_scores(run: Path, page: Page) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    (label,) = [name for name in page.tables if name.startswith("Metrics by generator")]
    assert label == "Metrics by generator: toy-run, test split"
    rows = {row[0].split("\n")[0]: row for row in page.tables[label][2:]}
    folder = run / "detectors" / "tiny" / "evaluations" / "toy-run-test"
    for file, column in (("scores.parquet", 0), ("scores-equalised.parquet", 1)):
        scores = pq.read_table(folder / file).to_pylist()
        aucs, aps = [], []
        for generator in (repo.replace("/", "--") for repo in GENERATORS):
            fakes = [row for row in scores if row["generator"] == generator]
            sources = {row["source_image_id"] for row in fakes} - {None}
            reals = [row for row in scores if row["label"] == 0 and (not sources or row["image_id"] in sources)]
            labels, values = zip(*((row["label"], row["score"]) for row in fakes + reals), strict=True)
            aucs.append(roc_auc_score(labels, values))
            aps.append(average_precision_score(labels, values))
            assert rows[generator][1] == str(len(fakes))
            assert float(rows[generator][2 + column]) == pytest.approx(aucs[-1], abs=0.0011)
            assert float(rows[generator][4 + column]) == pytest.approx(aps[-1], abs=0.0011)
        macro = rows["Macro, mean of 4 generators"]
        assert float(macro[1 + column]) == pytest.approx(np.mean(aucs), abs=0.0011)
        assert float(macro[3 + column]) == pytest.approx(np.mean(aps), abs=0.0011)
        pooled = roc_auc_score([row["label"] for row in scores], [row["score"] for row in scores])
        assert float(rows["Micro, all images together"][1 + column]) == pytest.approx(pooled, abs=0.0011)
    assert "trained on" in page.tables[label][-3][0] and "trained on" not in page.tables[label][2][0]


def test_average_roc_has_the_macro_area(run: Path, tmp_path: Path) -> None:
    (detector,) = collect(run, Pictures(tmp_path)).detectors
    (evaluation,) = detector.evaluations
    average = evaluation.macro_curve
    assert average is not None and evaluation.macro is not None and evaluation.macro.auc is not None
    area = np.trapezoid(average.true_positive_rate, average.false_positive_rate)
    assert area == pytest.approx(evaluation.macro.auc, abs=0.01)
    assert (average.true_positive_rate[0], average.true_positive_rate[-1]) == (0.0, 1.0)


def test_most_wrong_images_are_the_worst_scored(run: Path, page: Page) -> None:
    scores = pq.read_table(run / "detectors/tiny/evaluations/toy-run-test/scores.parquet").to_pylist()
    fakes = sorted((row["score"], row["image_id"]) for row in scores if row["label"] == 1 and row["score"] <= 0.5)[:8]
    reals = sorted((-row["score"], row["image_id"]) for row in scores if row["label"] == 0 and row["score"] > 0.5)[:8]
    assert fakes, "the test's detector must make mistakes"
    worst = [Path(str(image["src"])).stem for image in page.having("img")][-len(fakes + reals) :]
    assert worst == [image for _, image in fakes] + [image for _, image in reals]


def test_detector_without_evaluation(copy: Path) -> None:
    shutil.rmtree(copy / "detectors" / "tiny" / "evaluations")
    page = page_of(copy)
    assert "This detector was not evaluated yet." in page.text
    assert "ViT of width 96" in page.text


def test_damaged_evaluation_is_named_on_the_page(copy: Path) -> None:
    (copy / "detectors/tiny/evaluations/toy-run-test/report.json").write_text('{"macro": 1}')
    page = page_of(copy)
    assert "detectors/tiny/evaluations/toy-run-test/report.json: macro" in page.text


def test_evaluation_of_an_earlier_state_is_marked(run: Path, copy: Path) -> None:
    assert "has changed since" not in page_of(run).text
    RunBuilder(copy).fakes("toy/ddpm-faces", ["none"], seed=77, pairs=False)
    assert "has changed since" in page_of(copy).text


def test_header_says_when_no_evaluated_generator_was_trained_on(copy: Path, page: Page) -> None:
    assert "over 4 generators." in page.text
    file = copy / "detectors/tiny/evaluations/toy-run-test/report.json"
    report = json.loads(file.read_text())
    for result in report["per_generator"].values():
        result["trained_on"] = False
    file.write_text(json.dumps(report))
    assert "over 4 generators it was not trained on." in page_of(copy).text
