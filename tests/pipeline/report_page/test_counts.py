"""The page's counts are those of the catalog, the rows and the commits."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
from report_page import Page, page_of
from report_run import RunBuilder, picture

from shards.dataset import Dataset


def test_composition_counts_every_draw(page: Page) -> None:
    rows = page.tables["Draws by generator and status"]
    assert [row[:9] for row in rows[1:-1]] == [
        ["toy--ddpm-faces\ndevice_oom 6", "generated", "DDPM", "test", "9", "3", "0", "0", "6"],
        ["toy--latent-consistency\nconstant 1, nsfw 2", "generated", "LCM", "train", "13", "10", "2", "1", "0"],
        ["toy--pixart-sigma", "generated", "PixArt", "test", "9", "9", "0", "0", "0"],
        ["toy--stable-diffusion\nnsfw 1", "generated", "SD 1.x", "train", "13", "12", "1", "0", "0"],
        ["photos", "real", "", "test, train", "12", "12", "0", "0", "0"],
    ]
    assert rows[-1] == ["All generators, without real photographs", "44", "34", "3", "1", "6", ""]


def test_composition_by_split_size_prompt_and_licence(page: Page) -> None:
    tables = page.tables
    assert [row[:3] for row in tables["Images by split and label"][1:]] == [["train", "22", "4"], ["test", "12", "8"]]
    formats = [[row[0], row[1], row[3]] for row in tables["Sizes and formats by label"][1:]]
    assert formats == [["32 × 32 PNG", "34", "0"], ["40 × 40 JPEG", "0", "12"]]
    prompts = [row[:3] for row in tables["Where prompts came from"][1:]]
    assert prompts == [["caption", "the caption that came with a photograph", "34"]]
    assert "31 of 34 generated images are paired with the photograph that the prompt came from." in page.text
    assert "Where a row has images of one label only" in page.text
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


def test_totals_are_those_of_the_audit(run: Path, page: Page) -> None:
    from shards.audit.counts import count_rows

    counts = count_rows(run / "dataset")
    rows = page.tables["Draws by generator and status"]
    for column, name in enumerate(("draws", "ok", "flagged", "degenerate", "failed"), start=4):
        assert sum(int(row[column]) for row in rows[1:-1]) == counts[name]
        assert {row[0].split("\n")[0]: int(row[column]) for row in rows[1:-1]} == {
            generator: numbers[name] for generator, numbers in counts["generator"].items()
        }


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


def test_sizes_that_both_labels_have_are_not_warned_of(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.config()
    builder.unit("photos", 0, [({"image_id": "1" * 32}, picture(1))])
    builder.unit("toy--ddpm-faces", 1, [({"image_id": "2" * 32}, picture(2))])
    page = page_of(builder.root)
    assert "Every size and format has images of both labels" in page.text
    assert "images of one label only" not in page.text


def test_family_evidence_does_not_repeat_the_class(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    evidence = "class StableDiffusionPipeline; unet.cross_attention_dim 768"
    builder.model("toy/stable-diffusion", family_evidence=evidence)
    builder.write_catalog()
    ((*_, family, _, _, _, _),) = page_of(tmp_path).tables["Crawled models"][1:]
    assert family == "SD 1.x\nStableDiffusionPipeline\ntold by its class; unet.cross_attention_dim 768"


def test_catalog_with_columns_of_another_release_is_read(copy: Path) -> None:
    table = pq.read_table(copy / "catalog.parquet")
    kept = table.drop_columns(["hf_diffusers_tag", "likes"]).append_column("later", table["repo_id"])
    pq.write_table(kept, copy / "catalog.parquet")
    assert len(page_of(copy).tables["Crawled models"]) == 8
