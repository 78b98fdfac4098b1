"""Evaluation pairs fakes with their own reals, keeps one-class generators out of means, and saves what it measured."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from detectors.evaluation import EvaluationReport, evaluate, evaluate_scores
from detectors.format_equalisation import equalise
from detectors.preprocessing import InferenceTransform, decode_rgb
from detectors.saved_detector import load_detector, read_record
from detectors.scoring import SCORE_SCHEMA, read_scores
from detectors.selection import Selection, dataset_fingerprint, select_rows
from detectors.shard_dataset import ShardImages
from manifests.errors import InputError


def scores(*rows):
    """rows: (image_id, generator, label, score, source_image_id)."""
    return pa.Table.from_pylist(
        [
            {
                "image_id": image,
                "generator": generator,
                "label": label,
                "score": score,
                "logit": 0.0,
                "split": "test",
                "source_image_id": source,
                "photograph": source or image,
            }
            for image, generator, label, score, source in rows
        ],
        schema=SCORE_SCHEMA,
    )


REALS = [(f"r{n}", "coco", 0, score, None) for n, score in enumerate((0.1, 0.2, 0.9, 0.8))]


def test_a_generator_is_scored_against_the_reals_it_was_prompted_from():
    table = scores(
        *REALS, ("f0", "paired", 1, 0.7, "r0"), ("f1", "paired", 1, 0.6, "r1"), ("f2", "loose", 1, 0.7, "gone")
    )
    result = evaluate_scores(table, resamples=50)
    paired, loose = result.per_generator["paired"], result.per_generator["loose"]
    assert (paired.real_rule, paired.paired_fakes, paired.n_real, paired.n_fake) == ("paired", 2, 2, 2)
    assert paired.auc == 1.0
    assert (loose.real_rule, loose.paired_fakes, loose.n_real, loose.n_fake) == ("all_selected", 0, 4, 1)
    assert loose.auc == 0.5
    assert result.macro.n == 2
    assert result.macro.auc == 0.75
    labels, values = [0] * 4 + [1] * 3, [0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.7]
    assert result.micro.auc == pytest.approx(roc_auc_score(labels, values))
    assert result.micro.ap == pytest.approx(average_precision_score(labels, values))
    assert (result.micro.n_real, result.micro.n_fake) == (4, 3)


def test_generators_without_reals_do_not_enter_the_mean():
    result = evaluate_scores(scores(("f0", "a", 1, 0.7, None), ("f1", "b", 1, 0.2, None)))
    assert (result.macro.n, result.macro.ap, result.macro.auc, result.macro.accuracy) == (0, None, None, None)
    assert result.macro.excluded == {"a": "no real images", "b": "no real images"}
    assert result.per_generator["a"].ap is None
    assert result.per_generator["a"].undefined["ap"] == "no real images"
    assert result.per_generator["a"].f_acc == 1.0
    assert result.roc is None
    assert (result.interval.auc, result.interval.reason) == (None, "no generator has both classes")


def test_the_interval_resamples_photographs_that_generators_share():
    reals = [(f"r{n}", "coco", 0, n / 50, None) for n in range(40)]
    fakes = [(f"{g}{n}", g, 1, min(n / 50 + 0.15, 1), f"r{n}") for g in ("a", "b") for n in range(40)]
    result = evaluate_scores(scores(*reals, *fakes), resamples=200)
    assert result.interval.photographs == 40
    assert result.interval.auc.low < result.macro.auc < result.interval.auc.high
    assert result.interval.ap.low < result.macro.ap < result.interval.ap.high


@pytest.fixture(scope="module")
def evaluated(trained, separable, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    seen = []
    report = evaluate(
        trained,
        separable,
        "test",
        out=out,
        batch_size=10,
        device="cpu",
        resamples=100,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(10, 48), (20, 48), (30, 48), (40, 48), (48, 48)]
    return report, out


def test_the_report_has_the_promised_keys_and_is_what_was_saved(evaluated):
    report, out = evaluated
    content = json.loads((out / "report.json").read_text())
    assert content.keys() >= {"macro", "micro", "per_generator", "interval", "equalised"}
    assert content["equalised"].keys() >= {"macro", "micro", "per_generator", "interval", "method"}
    assert content["macro"].keys() >= {"n", "ap", "auc", "accuracy", "balanced_accuracy", "r_acc", "f_acc"}
    assert list(content["per_generator"]) == ["gen-c"]
    assert content["per_generator"]["gen-c"]["real_rule"] == "paired"
    assert content["per_generator"]["gen-c"]["trained_on"] is False
    assert content["images"] == {"real": 24, "fake": 24}
    assert EvaluationReport.model_validate(content) == report
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "scores-equalised.parquet", "scores.parquet"]


def test_every_image_has_its_own_score_from_its_own_bytes(evaluated, trained, separable):
    _, out = evaluated
    detector = load_detector(trained, "cpu")
    transform = InferenceTransform(detector.config.preprocessing)
    rows = select_rows(separable, Selection(split="test"))
    images = ShardImages(separable, rows, transform)
    for file, view in (
        ("scores.parquet", lambda image: image),
        ("scores-equalised.parquet", lambda image: equalise(image, 73)),
    ):
        table = pq.read_table(out / file)
        assert table.schema.names == SCORE_SCHEMA.names
        assert table["image_id"].to_pylist() == rows["image_id"].to_pylist()
        for number in (0, 17, 47):
            image = decode_rgb(images.image_bytes(number))
            logit = float(detector.logits(transform(view(image))[None])[0])
            assert table["logit"][number].as_py() == pytest.approx(logit, abs=1e-4)
            assert table["score"][number].as_py() == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
            assert table["label"][number].as_py() == rows["label"][number].as_py()
            assert table["generator"][number].as_py() == rows["generator"][number].as_py()


def test_scores_carry_their_provenance_and_give_the_report_again(evaluated, trained, separable):
    report, out = evaluated
    record = read_record(trained)
    for name, view, result in (("native", "native", report), ("equalised", report.equalised.method, report.equalised)):
        table, provenance = read_scores(out / report.files[name])
        assert provenance.detector_sha256 == record.weights_sha256 == report.detector.weights_sha256
        assert provenance.dataset_fingerprint == dataset_fingerprint(separable) == report.dataset_fingerprint
        assert provenance.view == view
        again = evaluate_scores(table, frozenset(record.data.generators), resamples=100)
        assert (again.macro, again.micro, again.interval) == (result.macro, result.micro, result.interval)
        assert again.per_generator == result.per_generator


def test_images_seen_in_training_are_counted(trained, separable, tmp_path):
    test = evaluate(trained, separable, "test", out=tmp_path / "test", device="cpu", resamples=10)
    assert (test.seen_in_training.images, test.seen_in_training.photographs) == (0, 0)
    both = evaluate(trained, separable, out=tmp_path / "all", generators=("gen-a",), device="cpu", resamples=10)
    assert both.seen_in_training.images == 48 + 24
    assert both.per_generator["gen-a"].trained_on is True
    assert both.per_generator["gen-a"].n_real == 24


def test_the_default_folder_is_beside_the_detector(trained, separable):
    evaluate(trained, separable, "test", device="cpu", resamples=10)
    assert (trained / "evaluations/toy-test/report.json").is_file()


def test_format_alone_stops_helping_once_it_is_equalised(make_toy, tmp_path, photo, to_bytes):
    """A detector that only sees the difference between a small JPEG and a large PNG of the same content."""
    toy = make_toy(tmp_path)
    for label, generator in ((0, "photos"), (1, "gen")):
        data = []
        for seed in range(12):
            pixels = photo(seed).repeat(3, axis=0).repeat(3, axis=1)
            data.append(to_bytes(pixels) if label else to_bytes(pixels, "JPEG", quality=20))
        toy.add(generator, label, data, split="test")
    rows = select_rows(toy.root, Selection())

    def blockiness(image):
        grey = np.asarray(image.convert("L"), dtype=float)
        steps = np.abs(np.diff(grey, axis=1))
        return -steps[:, 7::8].mean() / (steps.mean() + 1e-9)

    native, equal = [], []
    for number in range(24):
        image = ShardImages(toy.root, rows, InferenceTransform).image(number)
        native.append(blockiness(image))
        equal.append(blockiness(equalise(image, 73)))
    labels = rows["label"].to_numpy()
    assert roc_auc_score(labels, native) == 1.0
    assert roc_auc_score(labels, equal) < 0.9


def test_one_class_and_unknown_splits_are_refused(trained, toy, photo, to_bytes, separable):
    toy.add("gen", 1, [to_bytes(photo(0))], split="test")
    with pytest.raises(InputError, match="evaluation needs both classes, but the selection has no real images"):
        evaluate(trained, toy.root, "test", device="cpu")
    with pytest.raises(InputError, match="split val not in it"):
        evaluate(trained, separable, "val", device="cpu")
    with pytest.raises(InputError, match="no dataset here"):
        evaluate(trained, trained, "test", device="cpu")


def test_scoring_leaves_the_thread_count_alone(trained, separable, tmp_path):
    before = torch.get_num_threads()
    evaluate(trained, separable, "test", out=tmp_path, device="cpu", threads=1, resamples=10)
    assert torch.get_num_threads() == before
