"""Commands that ask for what is not there say what there is, at once, and change nothing."""

import os
import subprocess
from pathlib import Path

import pytest
from mistakes import PIXELS, TEXT, Refused, image_of, tree
from toy_runs import COMMFORGE, ToyWorld, environment


def test_unknown_generator(refused: Refused, run: Path) -> None:
    before = tree(run)
    named = ("--set", "splits.test_generators=[no/such]")
    refused("sample", run / "run.yaml", *named, says=("splits.test_generators", "no/such", PIXELS, TEXT))
    refused("status", run / "nope", says=("nope",))
    refused("generator", "show", "no/such", run, says=("no/such", PIXELS, TEXT))
    assert tree(run) == before


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="this machine has the device")
def test_device_that_is_not_there(refused: Refused, run: Path, toy_world: ToyWorld) -> None:
    """Before any model loads: no unit is written off for it."""
    before = tree(run / "dataset")
    more = ("--set", "sample.images_per_generator=4", "--set", "execute.device=cuda")
    says = ("execute.device = cuda", "not available on this machine", "available: cpu")
    for executor in ("inline", "ray"):
        refused("sample", run / "run.yaml", *more, "--executor", executor, says=says, after_notices=True)
    assert tree(run / "dataset") == before
    again = ("dataset", "regenerate", run / "dataset", image_of(run, 1), "--endpoint", toy_world.endpoint)
    refused(*again, "--device", "cuda", says=("--device = cuda", "not available", "available: cpu"))


def test_image_that_cannot_be_made_again(
    refused: Refused, made: Path, tmp_path: Path, toy_world: ToyWorld, dead_endpoint: str
) -> None:
    dataset, image, real = made / "dataset", image_of(made, 1), image_of(made, 0)
    before = tree(made)
    refused("dataset", "regenerate", dataset, "f" * 32, says=(str(dataset), "f" * 32))
    refused("dataset", "regenerate", dataset, real, says=(real, "real image of photos"))
    refused("dataset", "regenerate", dataset, image, "--device", "tpu", says=("--device", "'tpu'", "'cuda'"))
    there = ("--endpoint", dead_endpoint, "--cache", tmp_path / "cache", "--device", "cpu")
    refused("dataset", "regenerate", dataset, image, *there, says=(image, dead_endpoint, "refused"))
    here = ("--endpoint", toy_world.endpoint, "--cache", toy_world.root / "cache", "--device", "cpu")
    out = made / "run.yaml" / "again.png"
    refused("dataset", "regenerate", dataset, image, *here, "--out", out, says=("--out", str(out), "Not a directory"))
    assert tree(made) == before


def test_detector_commands(refused: Refused, made: Path, tmp_path: Path) -> None:
    data, nope = ("--data", made / "dataset"), tmp_path / "nope"
    train = ("detector", "train", "--out", tmp_path / "detector")
    tiny = ("--architecture", "tiny-vit-64")
    refused(*train, *data, "--architecture", "vgg", says=("'vgg'", "tiny-vit-64"))
    refused(*train, "--data", nope, *tiny, says=(str(nope), "no dataset here"))
    refused(*train, *data, *tiny, "--set", "iterations", says=("--set iterations", "KEY=VALUE"))
    refused(*train, *data, *tiny, "--set", "iteration=3", says=("iteration", "iterations"))
    refused(*train, *data, *tiny, "--set", "iterations=-3", says=("iterations = -3",))
    assert not (tmp_path / "detector").exists()
    refused("detector", "evaluate", "--model", nope, *data, says=(str(nope),))
    refused("detector", "predict", "--model", nope, nope, says=(str(nope),))


def test_demo_never_clears_what_is_no_demo(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("precious")
    before = tree(tmp_path)
    outputs = (tmp_path / "work", tmp_path / "work" / "thesis.txt", tmp_path / "work" / "thesis.txt" / "demo")
    for output in outputs:
        refused("demo", "--output", output, says=(str(output),), after_notices=True)
    assert tree(tmp_path) == before


def test_messages_hold_no_token(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HF_TOKEN", "hf_" + "secret" * 5)
    message = refused(
        "crawl", "--out", tmp_path / "x", "--count", "1", "--endpoint", "http://user:pass@", says=("endpoint",)
    )
    assert "secret" not in message
    assert "pass" not in message


def test_a_reader_that_has_seen_enough_is_no_mistake() -> None:
    """`commforge generator list | head -0`: the pipe is closed before the first line comes."""
    command = [COMMFORGE, "generator", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
