"""The gallery: the stored bytes, chosen by order alone, beside the photographs they came from."""

import re
from pathlib import Path

import pytest
from report_page import Page, page_of
from report_run import RunBuilder, picture

from pipeline.report.readers import gallery as gallery_reader
from shards.dataset import Dataset


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


def test_damaged_shard_is_named_on_the_page(copy: Path) -> None:
    (tar,) = (copy / "dataset" / "images" / "toy--pixart-sigma").iterdir()
    tar.write_bytes(tar.read_bytes()[:700])
    page = page_of(copy)
    assert "could not be shown" in page.text
    assert f"images/toy--pixart-sigma/{tar.name}" in page.text and str(copy) not in page.text
    assert len(page.having("article")) == 4


def test_class_that_was_drawn_is_the_caption(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.config()
    row = {"image_id": "1" * 32, "kind": "class-conditional", "prompt_sent": "47 African chameleon"}
    builder.unit("toy--dit", 1, [(row, picture(1))])
    (button,) = page_of(builder.root).having("button", **{"class": "picture"})
    assert button["data-prompt"] == "47 African chameleon"
