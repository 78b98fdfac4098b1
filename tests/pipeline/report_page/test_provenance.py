"""What it takes to make the run, an image of it and the page itself again."""

import shlex
import shutil
from pathlib import Path

from report_page import Page, page_of
from report_run import SHA

from pipeline.report.build import build_report
from shards.identifiers import image_id


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


def test_command_names_the_cache_and_the_device_of_the_run(copy: Path) -> None:
    (copy / "run.yaml").write_text("output: runs/x\nhub: {cache: my cache}\nexecute: {device: cpu}\n")
    page = page_of(copy)
    (command, *_) = [str(button["data-command"]) for button in page.having("button") if "data-command" in button]
    words = shlex.split(command)
    assert words[:4] == ["commforge", "dataset", "regenerate", "runs/x/dataset"]
    assert words[5:] == ["--verify", "--cache", "my cache", "--device", "cpu"]
    assert "The run’s hub was" not in page.text


def test_local_hub_has_to_answer_and_the_demos_is_started_first(copy: Path) -> None:
    (copy / "run.yaml").write_text(
        "output: runs/x\nhub: {endpoint: 'http://127.0.0.1:8950'}\nexecute: {device: auto}\n"
    )
    text = page_of(copy).text
    assert "The run’s hub was http://127.0.0.1:8950" in text and "hub serve" not in text and "--device" not in text
    (copy / "toy" / "hub").mkdir(parents=True)
    text = page_of(copy).text
    assert text.index("commforge hub serve runs/x/toy/hub --port 8950") < text.index("--endpoint http://127.0.0.1:8950")
