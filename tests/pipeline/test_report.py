"""The report of a run: the page shows what is in the run's folder, and nothing the folder holds can break it."""

import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.generator import SamplingParams
from pipeline.report.build import build_report, render
from pipeline.report.collect import collect
from pipeline.report.facts import RunFacts
from pipeline.report.pictures import Pictures
from pipeline.report.readers import crawl as crawl_reader
from pipeline.report.readers import gallery as gallery_reader
from pipeline.report.readers.crawl import read_crawl
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

    def detector(self, name: str, quality: float = 1.0) -> None:
        """Evaluate made-up scores with the project's own evaluation, in the files that it writes."""
        from detectors.evaluation import EQUALISED_SCORES_FILE, REPORT_FILE, SCORES_FILE, evaluate_scores
        from detectors.scoring import SCORE_SCHEMA
        from detectors.selection import dataset_fingerprint

        root = self.root / "dataset"
        rows = Dataset.open(root).rows(
            columns=["image_id", "generator", "label", "split", "source_image_id"], status="ok"
        )
        folder = self.root / "detectors" / name / "evaluations" / "toy-run-test"
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
            views[view] = evaluate_scores(table, frozenset({"toy--stable-diffusion"}), resamples=50).model_dump(
                mode="json"
            )
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
        (self.root / "detectors" / name / "detector.json").write_text(json.dumps(record))


class Page(HTMLParser):
    """The page as a browser would take it apart: elements with attributes, tables as rows of cell texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._label = ""
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self._rows, self._label = [], dict(attrs).get("aria-label") or ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "br" and self._rows and self._rows[-1]:
            self._rows[-1][-1] += "\n"
        if tag in ("script", "style", "caption", "table"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()
        if tag == "table":
            self.tables[self._label] = [[cell.strip() for cell in row] for row in self._rows]

    def handle_data(self, data: str) -> None:
        where = self._in[-1] if self._in else ""
        if where in ("script", "style"):
            return
        self.text += data
        if where == "caption":
            self._label += data
        elif where == "table" and self._rows and self._rows[-1]:
            self._rows[-1][-1] += data

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def page_of(root: Path) -> Page:
    return Page(build_report(root).read_text(encoding="utf-8"))


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
    builder.detector("tiny")
    return builder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes; tests that do make a copy."""
    root = tmp_path_factory.mktemp("report") / "run"
    typical_run(root)
    build_report(root)
    return root


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(run, target)
    return target


def test_composition_counts_every_draw(page: Page) -> None:
    rows = page.tables["Draws by generator and status"]
    assert [row[:9] for row in rows[1:-1]] == [
        ["toy--ddpm-faces\ndevice_oom 6", "generated", "DDPM", "test", "9", "3", "0", "0", "6"],
        ["toy--latent-consistency\nconstant 1, nsfw 2", "generated", "LCM", "train", "13", "10", "2", "1", "0"],
        ["toy--pixart-sigma", "generated", "PixArt", "test", "9", "9", "0", "0", "0"],
        ["toy--stable-diffusion\nnsfw 1", "generated", "SD 1.x", "train", "13", "12", "1", "0", "0"],
        ["photos", "real", "", "test, train", "12", "12", "0", "0", "0"],
    ]
    assert rows[-1] == ["All generators", "44", "34", "3", "1", "6", ""]


def test_composition_by_split_size_prompt_and_licence(page: Page) -> None:
    tables = page.tables
    assert [row[:3] for row in tables["Images by split and label"][1:]] == [["train", "22", "4"], ["test", "12", "8"]]
    formats = [[row[0], row[1], row[3]] for row in tables["Sizes and formats by label"][1:]]
    assert formats == [["32 × 32 PNG", "34", "0"], ["40 × 40 JPEG", "0", "12"]]
    prompts = [row[:2] for row in tables["Where prompts came from"][1:]]
    assert prompts == [["caption", "34"], ["paired with a photograph here", "31"]]
    assert [row[:5] for row in tables["Models and images by licence"][1:]] == [
        ["creativeml-openrail-m", "1", "1", "12", "0"],
        ["cc0-1.0", "0", "0", "0", "12"],
        ["mit", "1", "1", "10", "0"],
        ["openrail++", "1", "1", "9", "0"],
        ["apache-2.0", "1", "1", "3", "0"],
        ["unknown", "3", "0", "0", "0"],
    ]


def test_crawl_says_why_models_were_left_out(page: Page) -> None:
    tables = page.tables
    assert [[row[0], row[2]] for row in tables["Why models were taken or left out"][1:]] == [
        ["ok", "4"],
        ["gated", "1"],
        ["gone", "1"],
        ["pickle_only", "1"],
    ]
    models = tables["Crawled models"][1:]
    assert [row[0] for row in models] == [str(rank) for rank in range(1, 8)]
    assert models[0] == [
        "1", "toy/stable-diffusion\n0123456789", "ok",
        "SD 1.x\nStableDiffusionPipeline\ntold by model_index.json _class_name", "creativeml-openrail-m",
        "1,000", "3.0 MiB", "steps 20 cardguidance 7.5 family",
    ]  # fmt: skip
    assert models[4][1:3] == ["toy/gated\n0123456789", "gated"]


def test_key_figures(page: Page) -> None:
    header = re.sub(r"\s+", " ", page.text)
    assert "7 models crawled, 4 eligible. 4 generators made 34 images, beside 12 real photographs." in header
    assert "crawled7 eligible4 sampled4" in header
    assert "ok34 flagged3 degenerate1 failed6" in header


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


def test_most_wrong_images_are_the_worst_scored(run: Path, page: Page) -> None:
    scores = pq.read_table(run / "detectors/tiny/evaluations/toy-run-test/scores.parquet").to_pylist()
    fakes = sorted((row["score"], row["image_id"]) for row in scores if row["label"] == 1 and row["score"] <= 0.5)[:8]
    reals = sorted((-row["score"], row["image_id"]) for row in scores if row["label"] == 0 and row["score"] > 0.5)[:8]
    assert fakes, "the test's detector must make mistakes"
    worst = [Path(str(image["src"])).stem for image in page.having("img")][-len(fakes + reals) :]
    assert worst == [image for _, image in fakes] + [image for _, image in reals]


def test_gallery_shows_first_images_beside_their_photographs_as_stored_bytes(run: Path, page: Page) -> None:
    dataset = Dataset.open(run / "dataset")
    rows = {row["image_id"]: row for row in dataset.rows(status="ok").to_pylist()}
    folder = run / "report" / "images"
    shown = {Path(str(image["src"])).stem: image for image in page.having("img")}
    assert {file.stem for file in folder.iterdir()} == set(shown)
    for file in folder.iterdir():
        assert file.read_bytes() == dataset.image_bytes(rows[file.stem], verify=True)
    galleries = page.having("ul", **{"aria-label": "Images of toy--stable-diffusion"})
    assert len(galleries) == 1
    images = [Path(str(image["src"])).stem for image in page.having("img")][:16]
    first = sorted(
        (row for row in rows.values() if row["generator"] == "toy--stable-diffusion"), key=lambda row: row["index"]
    )
    assert images == [image for row in first[:8] for image in (row["source_image_id"], row["image_id"])]
    assert [image["alt"] for image in page.having("img")[:2]] == [
        f"Real photograph: {first[0]['prompt']}",
        first[0]["prompt"],
    ]
    assert all(image["alt"] for image in page.having("img"))


def test_every_picture_names_the_command_that_makes_it_again(page: Page) -> None:
    generated = [button for button in page.having("button", **{"class": "picture"}) if "data-command" in button]
    assert generated[0]["data-command"] == (
        f"commforge dataset regenerate runs/toy/dataset {image_id('toy--stable-diffusion', SHA, 'p', 0)} --verify"
    )
    assert str(generated[0]["data-command"]) in page.text


def test_hub_of_its_own_is_named_in_the_command_and_gets_no_links(copy: Path) -> None:
    assert page_of(copy).having("a", href="https://huggingface.co/toy/gated")
    (copy / "run.yaml").write_text("name: x\noutput: my runs/x\nhub: {endpoint: 'http://127.0.0.1:9'}\n")
    page = page_of(copy)
    assert "regenerate 'my runs/x/dataset' " in page.text and "--verify --endpoint http://127.0.0.1:9\n" in page.text
    assert not page.having("a", href="http://127.0.0.1:9/toy/gated")


def test_same_folder_same_bytes_and_no_stale_pictures(run: Path, copy: Path) -> None:
    def content(root: Path) -> dict[str, bytes]:
        return {
            str(file.relative_to(root)): file.read_bytes()
            for file in sorted((root / "report").rglob("*"))
            if file.is_file()
        }

    before = content(run)
    (copy / "report" / "images" / f"{'0' * 32}.png").write_bytes(b"of an earlier report")
    build_report(copy)
    assert content(copy) == before
    shutil.rmtree(copy / "report")
    build_report(copy)
    assert content(copy) == before


def test_nothing_on_the_page_needs_a_network(run: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
            if tag != "a" and attributes.get(name):
                assert urlsplit(str(attributes[name])).scheme in ("", "data"), (tag, attributes)
    html = (run / "report" / "index.html").read_text()
    assert "@import" not in html and "url(" not in html


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    builder = typical_run(tmp_path / "run", captions=HOSTILE)
    builder.model(
        "evil/repo",
        "bad_model_index",
        detail=HOSTILE[0],
        license=HOSTILE[0],
        family=HOSTILE[0],
        family_evidence=HOSTILE[2],
    )
    builder.write_catalog()
    builder.config(licence_notes=HOSTILE[0])
    page = page_of(builder.root)
    harmless = Page(build_report(typical_run(tmp_path / "harmless").root).read_text())
    for tag in ("script", "style", "meta", "link", "dialog"):
        assert len(page.having(tag)) == len(harmless.having(tag)), tag
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text and "49" not in "".join(row[0] for row in page.tables["Crawled models"])
    prompts = {button["data-prompt"] for button in page.having("button", **{"class": "picture"})}
    assert set(HOSTILE) <= prompts
    assert {f"Real photograph: {text}" for text in HOSTILE} <= {image["alt"] for image in page.having("img")}
    for button in page.having("button", **{"class": "picture"}):
        assert json.loads(str(button["data-facts"]))


def test_crawl_only(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.model("toy/stable-diffusion")
    builder.write_catalog()
    page = page_of(builder.root)
    assert "There are no generated images yet." in page.text
    assert "This run has no dataset yet." in page.text
    assert "No detector was trained in this run yet." in page.text
    assert "no run.yaml" in page.text
    assert not (builder.root / "report" / "images").exists()


def test_dataset_only(copy: Path) -> None:
    shutil.rmtree(copy / "detectors")
    for name in ("catalog.parquet", "run.yaml"):
        (copy / name).unlink()
    page = page_of(copy)
    assert "This run has no catalog yet" in page.text
    assert len(page.tables["Draws by generator and status"]) == 7
    assert page.having("img")


def test_detector_without_evaluation(copy: Path) -> None:
    shutil.rmtree(copy / "detectors" / "tiny" / "evaluations")
    page = page_of(copy)
    assert "This detector was not evaluated yet." in page.text
    assert "ViT of width 96" in page.text


def test_run_that_has_only_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: fresh\n")
    assert "This run has no catalog yet" in page_of(tmp_path).text


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.yaml.*catalog\.parquet.*dataset/dataset\.json"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        build_report(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("catalog.parquet", b"not parquet", r"catalog\.parquet: not a catalog"),
        ("run.yaml", b"a: [", r"run\.yaml: not YAML"),
        ("run.yaml", b"- a", r"run\.yaml: must be a mapping"),
        ("dataset/dataset.json", b"{", r"dataset\.json: damaged"),
    ],
)
def test_damaged_file_is_named(copy: Path, file: str, content: bytes, message: str) -> None:
    (copy / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        build_report(copy)


def test_catalog_without_a_column_is_named(copy: Path) -> None:
    table = pq.read_table(copy / "catalog.parquet").drop_columns(["license"])
    pq.write_table(table, copy / "catalog.parquet")
    with pytest.raises(InputError, match=r"catalog\.parquet.*license"):
        build_report(copy)


def test_damaged_evaluation_is_named_on_the_page(copy: Path) -> None:
    (copy / "detectors/tiny/evaluations/toy-run-test/report.json").write_text('{"macro": 1}')
    page = page_of(copy)
    assert "detectors/tiny/evaluations/toy-run-test/report.json: macro" in page.text


def test_damaged_shard_is_named_on_the_page(copy: Path) -> None:
    (tar,) = (copy / "dataset" / "images" / "toy--pixart-sigma").iterdir()
    tar.write_bytes(tar.read_bytes()[:700])
    page = page_of(copy)
    assert "could not be shown" in page.text
    assert f"images/toy--pixart-sigma/{tar.name}" in page.text and str(copy) not in page.text
    assert len(page.having("article")) == 4


def test_counts_that_do_not_reconcile_are_marked(copy: Path) -> None:
    dataset = Dataset.open(copy / "dataset")
    (commit,) = (commit for commit in dataset.commits().values() if commit.generator == "toy--pixart-sigma")
    file = copy / "dataset" / "commits" / f"{commit.unit}.0.json"
    content = json.loads(file.read_text())
    content["counts"]["ok"] += 1
    file.write_text(json.dumps(content))
    page = page_of(copy)
    assert "The rows and the commits disagree for 1 generator" in page.text
    rows = [row[0] for row in page.tables["Draws by generator and status"]]
    assert [row for row in rows if "does not reconcile: the commits count 10 draws" in row]
    assert "The counts reconcile" not in page.text


def test_evaluation_of_an_earlier_state_is_marked(run: Path, copy: Path) -> None:
    assert "has changed since" not in page_of(run).text
    RunBuilder(copy).fakes("toy/ddpm-faces", ["none"], seed=77, pairs=False)
    assert "has changed since" in page_of(copy).text


def test_totals_are_those_of_the_audit(run: Path, page: Page) -> None:
    from shards.audit.counts import count_rows

    counts = count_rows(run / "dataset")
    rows = page.tables["Draws by generator and status"]
    for column, name in enumerate(("draws", "ok", "flagged", "degenerate", "failed"), start=4):
        assert sum(int(row[column]) for row in rows[1:-1]) == counts[name]
        assert {row[0].split("\n")[0]: int(row[column]) for row in rows[1:-1]} == {
            generator: numbers[name] for generator, numbers in counts["generator"].items()
        }


def test_gallery_cut_takes_families_in_turn(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = RunBuilder(copy)
    for number in range(3):  # ranked before all others: of no catalog, but of a family that is there already
        builder.fakes(f"toy/a-copy-{number}", ["none"], seed=100 + number, family="SD 1.x")
    monkeypatch.setattr(gallery_reader, "GENERATORS", 5)
    monkeypatch.setattr(gallery_reader, "IMAGES", 2)
    page = page_of(copy)
    assert "The gallery holds 5 of 7 generators: at most 5, 2 images of each" in re.sub(r"\s+", " ", page.text)
    assert [ul["aria-label"] for ul in page.having("ul") if str(ul.get("aria-label")).startswith("Images of")] == [
        "Images of toy--stable-diffusion",
        "Images of toy--latent-consistency",
        "Images of toy--pixart-sigma",
        "Images of toy--ddpm-faces",
        "Images of toy--a-copy-0",
    ]
    shown = [button for button in page.having("button", **{"class": "picture"}) if "data-command" in button]
    assert [button["data-generator"] for button in shown][:3] == ["toy--stable-diffusion"] * 2 + [
        "toy--latent-consistency"
    ]


def test_a_large_gallery_loads_as_it_scrolls(copy: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not page.having("img", loading="lazy")
    monkeypatch.setattr(gallery_reader, "EAGER_BYTES", 1000)
    assert all(image["loading"] == "lazy" for image in page_of(copy).having("img"))


def many(facts: RunFacts, count: int) -> RunFacts:
    """The same run with `count` generators."""
    assert facts.crawl is not None and facts.composition is not None
    models = tuple(
        replace(facts.crawl.models[0], rank=number + 1, repo_id=f"author-{number % 70}/model-{number}")
        for number in range(count)
    )
    outcome = facts.composition.outcomes[0]
    outcomes = tuple(replace(outcome, generator=f"model-{number}", ok=number) for number in range(count))
    (detector,) = facts.detectors
    (evaluation,) = detector.evaluations
    scores = tuple(replace(evaluation.generators[0], generator=f"model-{number}") for number in range(count))
    return replace(
        facts,
        crawl=replace(facts.crawl, crawled=count, models=models),
        composition=replace(facts.composition, outcomes=outcomes),
        detectors=(replace(detector, evaluations=(replace(evaluation, generators=scores),)),),
    )


@pytest.fixture(scope="module")
def large(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with 3,000 generators in each of its tables."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(run / "report" / "images", folder / "images")
    facts = many(collect(run, Pictures(folder)), 3000)
    started = time.perf_counter()
    html = render(facts)
    assert time.perf_counter() - started < 60
    (folder / "index.html").write_text(html, encoding="utf-8")
    return folder / "index.html"


def test_thousands_of_generators_are_paged(large: Path) -> None:
    html = large.read_text(encoding="utf-8")
    assert len(html) < 12 << 20
    rows = re.findall(r"<tr[^>]*>", html.split("<tbody>", 2)[2])
    assert len(rows) > 9000
    assert sum("hidden" in row for row in rows) >= 9000 - 25 - 50 - 50, "rows beyond the first page start hidden"


def test_a_long_catalog_is_cut_with_eligible_models_first(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    for number in range(60):
        builder.model(f"author/model-{number}", "ok" if number % 10 == 9 else "no_weights")
    builder.write_catalog()
    whole = read_crawl(tmp_path / "catalog.parquet", None)
    assert [model.rank for model in whole.models] == list(range(1, 61))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crawl_reader, "MODEL_ROWS", 8)
        page = page_of(tmp_path)
    assert [row[0] for row in page.tables["Crawled models"][1:]] == ["10", "20", "30", "40", "50", "60", "1", "2"]
    assert "The table lists 8 of 60 models, the eligible ones first." in page.text


def test_average_roc_has_the_macro_area(run: Path, tmp_path: Path) -> None:
    (detector,) = collect(run, Pictures(tmp_path)).detectors
    (evaluation,) = detector.evaluations
    average = evaluation.macro_curve
    assert average is not None and evaluation.macro is not None and evaluation.macro.auc is not None
    area = np.trapezoid(average.true_positive_rate, average.false_positive_rate)
    assert area == pytest.approx(evaluation.macro.auc, abs=0.01)
    assert (average.true_positive_rate[0], average.true_positive_rate[-1]) == (0.0, 1.0)


def browser_executable() -> str | None:
    """The system's browser: COMMFORGE_CHROMIUM, or one on PATH, or macOS's application."""
    named = os.environ.get("COMMFORGE_CHROMIUM")
    if named:
        return named
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next((path for path in found if path), str(mac) if mac.exists() else None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = browser_executable()
    if executable is None:
        reason = "no Chromium or Chrome found; install one or set COMMFORGE_CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield running
        running.close()


@dataclass
class Visit:
    """An open page and what it complained about or asked for."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def column(self, table: str, number: int) -> list[str]:
        """The texts of a column in the rows that are shown, from the top."""
        cells: list[str] = self.page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()
        return [cell.split("\n")[0] for cell in cells]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a page; at the end no page may have complained or asked for anything but files."""
    visits: list[Visit] = []

    def opened(path: Path, **options: Any) -> Visit:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(20_000)
        visit = Visit(page, [], [])
        page.on("console", lambda message: visit.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.goto(path.as_uri())
        visits.append(visit)
        return visit

    yield opened
    for visit in visits:
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(("file://", "data:"))] == []
        visit.page.context.close()


@pytest.mark.browser
def test_opens_with_every_picture(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    images = opened.page.evaluate("Array.from(document.images, image => [image.src, image.naturalWidth])")
    assert len(images) > 30
    assert [source for source, width in images if width == 0] == []
    assert {Path(unquote(urlsplit(source).path)).name for source, _ in images} == {
        file.name for file in (run / "report" / "images").iterdir()
    }


@pytest.mark.browser
def test_tables_sort_numbers_as_numbers_and_both_ways(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    header = opened.page.locator("#crawl th", has_text="Downloads")
    expected = [str(1000 // rank) if rank > 1 else "1,000" for rank in range(1, 8)]
    assert opened.column("#crawl [data-table]", 6) == expected
    header.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert opened.column("#crawl [data-table]", 6) == expected[::-1]
    assert opened.page.locator("#crawl th[aria-sort=ascending], #crawl th[aria-sort=descending]").count() == 1
    header.click()
    assert header.get_attribute("aria-sort") == "descending"
    assert opened.column("#crawl [data-table]", 6) == expected
    opened.page.locator("#crawl th button", has_text="Model").focus()
    opened.page.keyboard.press("Enter")
    names = opened.column("#crawl [data-table]", 2)
    assert names == sorted(names) and len(names) == 7
    opened.page.locator("#crawl th button", has_text="Family").press("Enter")
    families = opened.column("#crawl [data-table]", 4)
    assert families == ["DDPM", "LCM", "PixArt", "SD 1.x", "–", "–", "–"], "absent values come last"
    opened.page.locator("#crawl th button", has_text="Family").press("Enter")
    assert opened.column("#crawl [data-table]", 4) == ["SD 1.x", "PixArt", "LCM", "DDPM", "–", "–", "–"]


@pytest.mark.browser
def test_filter_keeps_rows_that_hold_every_word(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    box = opened.page.locator("#crawl input")
    box.fill("MIT latent")
    assert opened.column("#crawl [data-table]", 2) == ["toy/latent-consistency"]
    assert opened.page.locator("#crawl output").inner_text() == "1 of 7 models"
    box.fill("")
    assert len(opened.column("#crawl [data-table]", 2)) == 7
    opened.page.locator("#gallery-filter").fill("pixart")
    assert opened.page.locator("article:visible h4").all_inner_texts() == ["toy--pixart-sigma"]
    assert opened.page.locator("#gallery-shown").inner_text() == "1 of 4 shown"


@pytest.mark.browser
def test_long_tables_are_paged(large: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(large)
    table = "#composition [data-table]"
    assert opened.column(table, 1) == [f"model-{number}" for number in range(50)]
    opened.page.locator("#composition .pager button", has_text="Next").click()
    assert opened.column(table, 1)[0] == "model-50"
    assert opened.page.locator("#composition .pager span").inner_text() == "51–100"
    started = time.perf_counter()
    opened.page.locator("#composition th", has_text="Ok").first.click()
    opened.page.locator("#composition th", has_text="Ok").first.click()
    assert opened.column(table, 6)[:2] == ["2,999", "2,998"]
    opened.page.locator("#composition input").fill("model-2999")
    assert opened.column(table, 1) == ["model-2999"]
    assert time.perf_counter() - started < 20
    assert opened.page.locator("#composition .pager").is_hidden()


@pytest.mark.browser
def test_viewer_by_keyboard(run: Path, visit: Callable[..., Visit]) -> None:
    opened = visit(run / "report" / "index.html")
    first = opened.page.locator("button.picture").first
    first.focus()
    opened.page.keyboard.press("Enter")
    viewer = opened.page.locator("#viewer")
    assert viewer.is_visible()
    prompts = [viewer.locator("blockquote").inner_text()]
    assert viewer.locator("figcaption").all_inner_texts() == ["Real photograph", "Generated"]
    sizes = viewer.locator("img").evaluate_all(
        "all => all.map(image => [image.width / image.naturalWidth, image.naturalWidth])"
    )
    assert [natural for _, natural in sizes] == [40, 32]
    assert all(scale > 1 and scale == int(scale) for scale, _ in sizes), "enlarged by whole multiples"
    assert viewer.locator("pre").inner_text().startswith("commforge dataset regenerate ")
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
        opened.page.keyboard.press(key)
        prompts.append(viewer.locator("blockquote").inner_text())
    assert prompts == [f"a photograph of subject {number}" for number in (0, 1, 0, 7)]
    opened.page.keyboard.press("Escape")
    assert viewer.is_hidden()
    assert opened.page.evaluate("document.activeElement.dataset.prompt") == "a photograph of subject 7"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_fits_its_window_and_text_has_contrast(run: Path, visit: Callable[..., Visit], scheme: str, width: int) -> None:
    opened = visit(run / "report" / "index.html", color_scheme=scheme, viewport={"width": width, "height": 900})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    poor = opened.page.evaluate(CONTRAST)
    assert poor == []


CONTRAST = """() => {
  const channels = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = Array.from(element.childNodes).some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.disabled) continue;
    const style = getComputedStyle(element);
    const text = channels(element.closest("svg") ? style.fill : style.color);
    const [light, dark] = [luminance(text), luminance(behind(element))].sort((a, b) => b - a);
    if ((light + 0.05) / (dark + 0.05) < 4.5) poor.add(`${element.tagName} ${element.className} ${style.color}`);
  }
  return Array.from(poor);
}"""
"""Elements whose own text has less than WCAG AA's contrast of 4.5 with what is behind it."""


@pytest.mark.browser
def test_hostile_strings_run_nothing(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    builder = typical_run(tmp_path / "run", captions=HOSTILE)
    builder.model("evil/repo", "bad_model_index", detail=HOSTILE[0], license=HOSTILE[0], family=HOSTILE[0])
    builder.write_catalog()
    opened = visit(build_report(builder.root))
    for button in opened.page.locator("button.picture").all()[:3]:
        button.press("Enter")
        assert opened.page.locator("#viewer blockquote").inner_text().strip() in {text.strip() for text in HOSTILE}
        opened.page.keyboard.press("Escape")
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("#crawl img, #viewer script").count() == 0


@pytest.mark.browser
def test_without_scripts_every_row_is_there(run: Path, tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = tmp_path / "index.html"
    page.write_text(render(many(collect(run, Pictures(tmp_path)), 120)), encoding="utf-8")
    opened = visit(page, java_script_enabled=False)
    assert opened.page.locator("#composition tbody tr").nth(119).is_visible()
    assert opened.page.locator("#composition input").is_hidden()
