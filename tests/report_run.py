"""A run's folder for the tests of the report, written with the project's own writers."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image
from report_detector import write_detector

from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.generator import SamplingParams
from shards.commits import Commit, UnitInfo
from shards.dataset import Dataset
from shards.identifiers import content_hash, image_id, real_image_id
from shards.schema import empty_row
from shards.writer import UnitWriter

SHA = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = "cpu-avx2-1t-float32-7d1f"
VERSIONS = {"torch": "2.15.0", "diffusers": "0.42.1"}
GENERATORS = {
    # repo -> (family, licence, split)
    "toy/stable-diffusion": ("SD 1.x", "creativeml-openrail-m", "train"),
    "toy/latent-consistency": ("LCM", "mit", "train"),
    "toy/pixart-sigma": ("PixArt", "openrail++", "test"),
    "toy/ddpm-faces": ("DDPM", "apache-2.0", "test"),
}
LEFT_OUT = {"toy/gated": "gated", "toy/pickles": "pickle_only", "toy/deleted": "gone"}
HOSTILE = (
    """<script>window.pwned=1</script><img src=x onerror="window.pwned=2">' onfocus='window.pwned=3' "</style>""",
    "a prompt\u2028with \u202e separators & entities &amp; <b>",
    "]]></script><!-- {{ 7*7 }} {% raw %}",
)


def picture(number: int, side: int = 32, **save: Any) -> bytes:
    """A small image, different for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    buffer = io.BytesIO()
    coarse.save(buffer, **(save or {"format": "PNG"}))
    return buffer.getvalue()


class RunBuilder:
    """Writes a run's folder with the project's own writers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.catalog_rows: list[CatalogRow] = []
        self.real_ids: list[str] = []
        self.captions: list[str] = []
        self.units = 0
        self._dataset: Dataset | None = None

    def config(self, **values: Any) -> None:
        (self.root / "run.yaml").write_text(yaml.safe_dump({"name": "toy-run", "output": "runs/toy", **values}))

    def model(self, repo: str, reason: str = "ok", **fields: Any) -> None:
        family, licence, _ = GENERATORS.get(repo, (None, "unknown", None))
        fields = {
            "downloads": 1000 // (len(self.catalog_rows) + 1),
            "family": family,
            "pipeline_class": "StableDiffusionPipeline" if family else None,
            "family_evidence": "model_index.json _class_name" if family else None,
            "license": licence,
            "revision": SHA,
            "weight_bytes": 3 << 20,
            "params": SamplingParams(
                steps=20, guidance_scale=7.5, sources={"steps": "card", "guidance_scale": "family"}
            ),
        } | fields
        self.catalog_rows.append(
            CatalogRow(
                snapshot="c0ffee",
                rank=len(self.catalog_rows) + 1,
                repo_id=repo,
                generator=re.sub(r"[^A-Za-z0-9._-]", "_", repo.replace("/", "--")),
                eligible=reason == "ok",
                reason=reason,
                **fields,
            )
        )

    def write_catalog(self) -> None:
        records = [row.to_record() for row in self.catalog_rows]
        pq.write_table(pa.Table.from_pylist(records, schema=CATALOG_SCHEMA), self.root / "catalog.parquet")

    @property
    def dataset(self) -> Dataset:
        root = self.root / "dataset"
        if self._dataset is None and (root / "dataset.json").exists():
            self._dataset = Dataset.open(root)
        elif self._dataset is None:
            self._dataset = Dataset.create(root, "toy-run", {"seed": 1})
        return self._dataset

    def unit(self, generator: str, label: int, draws: list[tuple[dict[str, Any], bytes | None]]) -> None:
        """Publish and commit one unit; each draw is what differs from an empty row, and its image."""
        dataset = self.dataset
        unit = content_hash([generator, str(self.root), self.units])
        self.units += 1
        with UnitWriter(dataset.root, self.root / "spool", unit, generator) as writer:
            for number, (fields, image) in enumerate(draws):
                row = empty_row() | {
                    "label": label,
                    "unit": unit,
                    "index": number,
                    "generator": generator,
                    "kind": "text-to-image" if label else "real",
                    "status": "ok",
                    "reason": "none",
                    "split": "train",
                }
                if image is not None:
                    with Image.open(io.BytesIO(image)) as opened:
                        row |= {
                            "width": opened.width,
                            "height": opened.height,
                            "format": opened.format,
                            "mode": opened.mode,
                        }
                writer.add(row | fields, image)
            receipt = writer.publish()
        info = UnitInfo(unit=unit, generator=generator, revision=SHA, label=label, first=0, count=len(draws))
        dataset.log.commit(
            Commit.of(
                info,
                receipt,
                environment=ENVIRONMENT if label else None,
                versions=VERSIONS if label else {},
                host="node-1",
                seconds=2.0,
                committed_at="2026-01-02T03:04:05+00:00",
            )
        )

    def reals(self, count: int, captions: tuple[str, ...] = (), split: Callable[[int], str] | None = None) -> None:
        draws = []
        for number in range(count):
            data = picture(10_000 + number, 40, format="JPEG", quality=90)
            caption = captions[number % len(captions)] if captions else f"a photograph of subject {number}"
            self.real_ids.append(real_image_id(data))
            self.captions.append(caption)
            fields = {"image_id": self.real_ids[-1], "prompt": caption, "license": "cc0-1.0", "real_source": "photos"}
            draws.append((fields | {"split": split(number) if split else "test"}, data))
        self.unit("photos", 0, draws)

    def fakes(self, repo: str, statuses: list[str], *, seed: int = 0, pairs: bool = True, **fields: Any) -> None:
        """One unit of a generator; `statuses` are reasons, `none` for ok."""
        family, licence, split = GENERATORS.get(repo, ("Other", "unknown", "train"))
        name = repo.replace("/", "--")
        status_of = {"none": "ok", "nsfw": "flagged", "constant": "degenerate", "device_oom": "oom"}
        draws = []
        for number, reason in enumerate(statuses):
            row = {
                "image_id": image_id(name, SHA, "p", seed * 1000 + number),
                "status": status_of[reason],
                "reason": reason,
                "repo_id": repo,
                "revision": SHA,
                "family": family,
                "license": licence,
                "split": split,
                "seed": 2**62 + number,
                "steps": 20,
                "guidance_scale": 7.5,
                "scheduler": "DDIMScheduler",
                "prompt": f"subject {number}",
                "prompt_source": "caption",
            }
            if pairs and self.real_ids:
                place = number % len(self.real_ids)
                row |= {"source_image_id": self.real_ids[place], "prompt": self.captions[place]}
            draws.append((row | fields, picture(seed * 1000 + number) if reason == "none" else None))
        self.unit(name, 1, draws)


def typical_run(root: Path, captions: tuple[str, ...] = ()) -> RunBuilder:
    """Four generators, three models left out, a detector."""
    builder = RunBuilder(root)
    builder.config()
    for repo in GENERATORS:
        builder.model(repo)
    for repo, reason in LEFT_OUT.items():
        builder.model(repo, reason, family=None, params=SamplingParams())
    builder.write_catalog()
    builder.reals(12, captions, split=lambda number: "train" if number % 3 == 0 else "test")
    plans = (
        ["none"] * 12 + ["nsfw"],
        ["none"] * 10 + ["nsfw", "nsfw", "constant"],
        ["none"] * 9,
        ["none"] * 3 + ["device_oom"] * 6,
    )
    for seed, (repo, plan) in enumerate(zip(GENERATORS, plans, strict=True)):
        builder.fakes(repo, plan, seed=seed, pairs=repo != "toy/ddpm-faces")
    write_detector(builder.root, "tiny")
    return builder
