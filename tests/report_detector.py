"""A detector with an evaluation of made-up scores, for the tests of the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.dataset import Dataset


def write_detector(run: Path, name: str, quality: float = 1.0) -> None:
    """Evaluate made-up scores with the project's own evaluation, in the files that it writes."""
    from detectors.evaluation import EQUALISED_SCORES_FILE, REPORT_FILE, SCORES_FILE, evaluate_scores
    from detectors.scoring import SCORE_SCHEMA
    from detectors.selection import dataset_fingerprint

    root = run / "dataset"
    rows = Dataset.open(root).rows(columns=["image_id", "generator", "label", "split", "source_image_id"], status="ok")
    folder = run / "detectors" / name / "evaluations" / "toy-run-test"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    views: dict[str, Any] = {}
    for view, file, strength in (
        ("native", SCORES_FILE, quality),
        ("equalised", EQUALISED_SCORES_FILE, quality / 2),
    ):
        label = rows["label"].to_numpy()
        logits = (rng.normal(0, 1, rows.num_rows) + strength * (2 * label - 1)).astype(np.float32)
        table = pa.table(
            {name: rows[name] for name in ("image_id", "generator", "label")}
            | {"score": 1 / (1 + np.exp(-logits.astype(float))), "logit": logits}
            | {name: rows[name] for name in ("split", "source_image_id")}
            | {
                "photograph": [
                    source or own
                    for source, own in zip(
                        rows["source_image_id"].to_pylist(), rows["image_id"].to_pylist(), strict=True
                    )
                ]
            },
            schema=SCORE_SCHEMA,
        )
        pq.write_table(table, folder / file)
        views[view] = evaluate_scores(table, frozenset({"toy--stable-diffusion"}), resamples=50).model_dump(mode="json")
    fakes = int(rows["label"].to_numpy().sum())
    report = views["native"] | {
        "equalised": views["equalised"] | {"method": "every image: 73 × 73, JPEG quality 90"},
        "dataset": "toy-run",
        "dataset_fingerprint": dataset_fingerprint(root),
        "selection": {"split": "test"},
        "images": {"real": rows.num_rows - fakes, "fake": fakes},
        "seen_in_training": {"images": 0, "photographs": 0},
        "files": {"native": SCORES_FILE, "equalised": EQUALISED_SCORES_FILE},
    }
    (folder / REPORT_FILE).write_text(json.dumps(report))
    record = {
        "architecture": {"name": "tiny-vit-64", "description": "ViT of width 96", "license": "Apache-2.0"},
        "weights_sha256": "ab" * 32,
        "data": {"generators": ["toy--stable-diffusion"], "training_images": {"real": 9, "fake": 18}},
        "validation": {"iteration": 300, "ap": 0.91, "auc": 0.9},
    }
    (run / "detectors" / name / "detector.json").write_text(json.dumps(record))
