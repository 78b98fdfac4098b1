"""A user's mistake ends with exit code 2 and one clear message, at once, and leaves everything as it was.

All commands run in this process through `pipeline.cli.main`, which is what the installed command calls.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toy_runs import COMMFORGE, ToyWorld, commforge, copy_run, environment, small_config, write_yaml

from pipeline.cli import main
from shards.dataset import Dataset

PIXELS, TEXT = "gridworks/toy-ddpm-64", "crayon-labs/toy-diffusion-v1"
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may appear in the working folder: every path of these tests is elsewhere."""
    here = tmp_path / "working folder"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert list(here.iterdir()) == []


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command that must be refused, and return its one message."""

    def run(*arguments: str | Path, says: tuple[str, ...] = (), after_notices: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["commforge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        assert leaving.value.code == 2, f"exit code {leaving.value.code}: {said.out}{said.err}"
        *_, message = said.err.rstrip("\n").split("\nerror: ") if after_notices else ["", said.err.rstrip("\n")]
        message = message.removeprefix("error: ")
        assert said.err.count("error: ") == 1, said.err
        assert "Traceback" not in said.err
        assert said.out == ""
        assert len(message.splitlines()) == 1, said.err
        assert [words for words in says if words not in message] == [], message
        return message

    return run


@pytest.fixture
def dead_endpoint() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def made(toy_world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: a model of pixels and one of text, two images each, six photographs. Not to be written to."""
    folder = tmp_path_factory.mktemp("made")
    config = small_config(toy_world, folder / "run", crawl={"models": [PIXELS, TEXT]})
    config["caption"]["reals"][0]["limit"] = 6
    config["sample"] |= {"images_per_generator": 2, "unit_images": 2}
    config["execute"]["attempts"] = 1
    write_yaml(folder / "config.yaml", config)
    with pytest.MonkeyPatch.context() as patch:  # in this process, which then has the model libraries for what follows
        for stage in ("crawl", "caption", "sample"):
            patch.setattr(sys, "argv", ["commforge", stage, str(folder / "config.yaml")])
            with pytest.raises(SystemExit) as leaving:
                main()
            assert leaving.value.code == 0, stage
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to make mistakes with."""
    return copy_run(made, tmp_path / "run")


def _tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but for lock files: taking a lock is not a change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _config(tmp_path: Path, **changes: Any) -> Path:
    """A config that needs no hub to be read; it never gets further than its mistake."""
    config = {"name": "mistaken", "output": str(tmp_path / "run"), "crawl": {"models": [PIXELS]}} | changes
    return write_yaml(tmp_path / "config.yaml", config)


def _image(run: Path, label: int) -> str:
    rows = Dataset.open(run / "dataset").rows(columns=["image_id", "status"], label=label, status="ok")
    return str(rows["image_id"][0].as_py())


# The config


@pytest.mark.parametrize("command", ["run", "crawl", "caption", "sample"])
def test_config_that_is_not_there(refused: Refused, tmp_path: Path, command: str) -> None:
    refused(command, tmp_path / "nope.yaml", says=(str(tmp_path / "nope.yaml"), "no such file"))


def test_config_that_is_a_folder(refused: Refused, tmp_path: Path) -> None:
    refused("run", tmp_path, says=(str(tmp_path), "folder", "YAML file is needed"))


def test_config_that_is_not_yaml(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: x\noutput: [runs/a\n")
    refused("run", path, says=(f"{path}:3:1", "'['"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"smaple": {}},
            ("config.yaml:6", "smaple = {}: unknown key", "did you mean sample?", "Allowed here: name, output"),
        ),
        ({"sample": {"batchsize": 2}}, ("sample.batchsize = 2", "did you mean batch_size?")),
        ({"crawl": {"count": -3}}, ("config.yaml:4", "crawl.count = -3", "at least 0")),
        ({"sample": {"images_per_generator": 0}}, ("sample.images_per_generator = 0", "at least 1")),
        ({"execute": {"executor": "slurm"}}, ('execute.executor = "slurm"', "'inline' or 'ray'")),
        ({"execute": {"device": "tpu"}}, ('execute.device = "tpu"', "'cuda'")),
        ({"execute": {"workers": "two"}}, ('execute.workers = "two"', "a whole number, at least 1")),
        ({"crawl": {"models": ["stable"]}}, ('crawl.models.0 = "stable"', "owner/name")),
        ({"hub": {"endpoint": "localhost:80"}}, ('hub.endpoint = "localhost:80"', "http")),
        ({"output": "s3://bucket/run"}, ("s3:", "object stores", "not supported")),
        ({"crawl": {}}, ("nothing is asked for", "crawl.count", "crawl.models", "crawl.manifests")),
        ({"crawl": {"manifests": ["gone.yaml"]}}, ("gone.yaml", "no such file")),
    ],
)
def test_wrong_key_or_value(refused: Refused, tmp_path: Path, changes: dict[str, Any], says: tuple[str, ...]) -> None:
    refused("crawl", _config(tmp_path, **changes), says=says)
    assert not (tmp_path / "run" / "catalog.parquet").exists()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("execute.workers", ("--set execute.workers", "must be KEY=VALUE")),
        ("execute.wrokers=2", ("--set execute.wrokers=2", "unknown key", "did you mean workers?")),
        ("execute.workers=0", ("--set execute.workers=0", "execute.workers = 0", "at least 1")),
        ("name.x=1", ("--set name.x=1", "plain value")),
        ("crawl.models=[a", ("--set crawl.models=[a", "not closed")),
    ],
)
def test_bad_setting(refused: Refused, tmp_path: Path, setting: str, says: tuple[str, ...]) -> None:
    refused("run", _config(tmp_path), "--set", setting, says=says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["crawl", "--count", "-3", "--out", "x"], ("--count", "'-3'", "greater than or equal to 0", "crawl --help")),
        (["sample", "--executor", "slurm"], ("--executor", "'slurm'", "'inline', 'ray'")),
        (["sample", "--worker", "3"], ("--worker", "--workers")),
        (["run"], ("CONFIG.yaml", "commforge run --help")),
        (["dataset", "inf", "x"], ("'inf'", "Did you mean 'info'?")),
        (["crawl"], ("give a CONFIG.yaml or --out",)),
        (["crawl", "--out", "s3://bucket/run", "--count", "1"], ("object stores", "not supported")),
        (["crawl", "--out", "x", "--count", "0"], ("nothing is asked for", "--count", "--model")),
        (["crawl", "--out", "x", "--model", "stable"], ("--model stable: ", 'crawl.models.0 = "stable"', "owner/name")),
        (["crawl", "--out", "x", "--model", "a/b, c/d]"], ("--model a/b, c/d]: ", "owner/name")),
        (["crawl", "--out", "x", "--count", "1", "--endpoint", "h # x"], ('hub.endpoint = "h # x"',)),
        (["sample"], ("CONFIG.yaml or --dataset",)),
        (["sample", "--dataset", "s3://bucket/d"], ("object stores", "not supported")),
        (["sample", "--dataset", "d", "--prompts", "nope.parquet"], ("--prompts nope.parquet", "no such file")),
        (["sample", "--dataset", "d", "--prompts", "."], ("--prompts .", "folder")),
        (["sample", "--dataset", "d", "--retry", "exploded"], ("--retry exploded", "no such status", "crashed")),
        (["sample", "--dataset", "d", "--retry", "flagged"], ("--retry flagged", "not tried again", "crashed")),
    ],
)
def test_wrong_options(refused: Refused, arguments: list[str], says: tuple[str, ...]) -> None:
    refused(*arguments, says=says)


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        ({"architecture": "vgg"}, ("detectors: tiny", "architecture 'vgg' is unknown", "tiny-vit-64")),
        ({"train": {"iteration": 5}}, ("detectors: tiny", "iteration", "iterations")),
        ({"train": {"iterations": -5}}, ("detectors: tiny", "iterations = -5")),
    ],
)
def test_wrong_detector_is_told_before_anything_runs(
    refused: Refused, tmp_path: Path, detector: dict[str, Any], says: tuple[str, ...]
) -> None:
    detectors = [{"name": "tiny", "architecture": "tiny-vit-64"} | detector]
    refused("run", _config(tmp_path, detectors=detectors), says=says)
    assert not (tmp_path / "run").exists()


# Where it writes


@pytest.mark.parametrize("command", ["run", "crawl", "caption", "sample"])
def test_output_that_cannot_be_written(refused: Refused, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        refused(command, _config(tmp_path, output=str(output)), says=("output", str(output)))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path], int]]:
    """Hold the locks of a run and its crawl in another process, and return its id."""
    processes: list[subprocess.Popen[str]] = []

    def hold(root: Path) -> int:
        code = (
            "import sys\nfrom pathlib import Path\nfrom crawlers.crawling.folder_lock import alone_in\n"
            "from shards.run_lock import RunLock\nroot = Path(sys.argv[1])\n"
            "with RunLock(root / 'dataset'), alone_in(root):\n    print('held', flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process.pid

    yield hold
    for process in processes:
        process.communicate()


def test_two_runs_into_one_output(refused: Refused, run: Path, holder: Callable[[Path], int]) -> None:
    before = _tree(run)
    says = (f"process {holder(run)} on {socket.gethostname()}", str(run / "dataset"), "wait for it")
    for command in (["run"], ["caption"], ["sample"], ["sample", "--set", "sample.images_per_generator=9"]):
        refused(command[0], run / "run.yaml", *command[1:], says=says)
    refused("dataset", "gc", run / "dataset", "--now", says=says)
    refused("crawl", run / "run.yaml", says=(str(run), "another crawl is writing here", "wait for it"))
    assert _tree(run) == before
    status = commforge("status", run)
    assert status.returncode == 0
    assert "small: running" in status.stdout


def test_identity_key_changed(refused: Refused, run: Path) -> None:
    before = _tree(run)
    changes = ("--set", "sample.batch_size=3", "--set", "sample.dtype=float16", "--set", "execute.workers=7")
    message = refused(
        "sample",
        run / "run.yaml",
        *changes,
        says=(
            str(run / "dataset" / "dataset.json"),
            "sample.batch_size: 2 -> 3",
            'sample.dtype: "float32" -> "float16"',
            "another dataset folder",
        ),
    )
    assert "workers" not in message
    assert _tree(run) == before


@pytest.mark.parametrize(
    "setting",
    ["execute.workers=7", "execute.executor=ray", "execute.attempts=9", "hub.download_timeout=5", "crawl.count=0"],
)
def test_extent_and_runtime_keys_may_change(
    run: Path, setting: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is missing, so the stage only looks, and says so with exit code 0; what was committed stays."""
    monkeypatch.setattr(sys, "argv", ["commforge", "sample", str(run / "run.yaml"), "--set", setting])
    before = _tree(run / "dataset")
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0, capsys.readouterr().err
    assert _tree(run / "dataset") == before
    key, value = setting.split("=")
    section, name = key.split(".")
    assert str(yaml.safe_load((run / "run.yaml").read_text())[section][name]).removesuffix(".0") == value


def test_dataset_without_a_commit_takes_other_settings(
    refused: Refused, tmp_path: Path, toy_world: ToyWorld, made: Path
) -> None:
    """The first try went wrong before any image was stored; another identity then needs no other folder."""
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = str(tmp_path / "no photos")
    write_yaml(tmp_path / "config.yaml", config)
    refused("caption", tmp_path / "config.yaml", says=("photos", str(tmp_path / "no photos"), "no such folder"))
    assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}
    settings = ("--set", "sample.batch_size=3")
    refused("caption", tmp_path / "config.yaml", *settings, says=("no such folder",))
    assert Dataset.open(tmp_path / "run" / "dataset").identity["sample.batch_size"] == 3


def test_refused_config_does_not_become_the_runs(refused: Refused, run: Path) -> None:
    before = _tree(run)
    named = ("--set", f"splits.test_generators=[{PIXELS}]")
    refused("sample", run / "run.yaml", *named, says=("splits.test_generators", "gridworks--toy-ddpm-64", "'test'"))
    assert _tree(run) == before


# The hub


def test_dead_endpoint(refused: Refused, tmp_path: Path, dead_endpoint: str) -> None:
    hub = {"endpoint": dead_endpoint, "cache": str(tmp_path / "cache")}
    for command in ("crawl", "caption"):
        started = time.monotonic()
        refused(command, _config(tmp_path, hub=hub), says=(dead_endpoint, "the hub does not answer", "refused"))
        assert time.monotonic() - started < 30
    assert not (tmp_path / "run" / "catalog.parquet").exists()
    assert not (tmp_path / "run" / "dataset" / "dataset.json").exists()


def test_repo_that_is_not_there(refused: Refused, tmp_path: Path, toy_world: ToyWorld) -> None:
    config = small_config(toy_world, tmp_path / "run", sample={"checker": {"repo_id": "toy/nope"}})
    says = ("toy/nope", "no such repo", toy_world.endpoint)
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=says)
    assert not (tmp_path / "run" / "dataset" / "dataset.json").exists()


def test_hub_serve(refused: Refused, tmp_path: Path, toy_world: ToyWorld) -> None:
    refused("hub", "serve", tmp_path / "nope", says=(str(tmp_path / "nope"), "no such folder"))
    (tmp_path / "empty").mkdir()
    refused("hub", "serve", tmp_path / "empty", says=(str(tmp_path / "empty"), "no repo", "models/<owner>/<name>"))
    port = toy_world.endpoint.rsplit(":", 1)[1]
    refused("hub", "serve", toy_world.root / "hub", "--port", port, says=(f"127.0.0.1:{port}", "another program"))
    refused("hub", "serve", toy_world.root / "hub", "--port", "99999", says=("--port", "'99999'", "65535"))


# What it reads


@pytest.mark.parametrize("command", ["status", "report"])
def test_not_a_run(refused: Refused, made: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nope", tmp_path / "file"):
        refused(command, path, says=(str(path),))
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("verb", ["info", "index", "verify", "audit", "gc", "regenerate"])
def test_not_a_dataset(refused: Refused, made: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("x")
    before = _tree(made)
    image = ["0" * 32] if verb == "regenerate" else []
    for path in (made, tmp_path / "nope", tmp_path / "file"):
        refused("dataset", verb, path, *image, says=(str(path), "no dataset here", "dataset.json"))
    refused("dataset", verb, "s3://bucket/dataset", *image, says=("object stores", "not supported"))
    assert _tree(made) == before


def test_damaged_dataset(refused: Refused, run: Path) -> None:
    (run / "dataset" / "dataset.json").write_text('{"schema')
    says = (str(run / "dataset" / "dataset.json"), "damaged")
    for command in (["sample", run / "run.yaml"], ["status", run], ["dataset", "info", run / "dataset"]):
        refused(*command, says=says)
    assert (run / "dataset" / "dataset.json").read_text() == '{"schema'


def test_damaged_prompts(refused: Refused, run: Path, tmp_path: Path) -> None:
    more = ("--set", "sample.images_per_generator=9")
    (run / "prompts.parquet").write_bytes(b"PAR1 torn")
    before = _tree(run)
    for command in (["sample", run / "run.yaml", *more], ["status", run]):
        refused(*command, says=(str(run / "prompts.parquet"), "cannot be read as Parquet"))
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "mine.parquet")
    refused(
        "sample",
        run / "run.yaml",
        "--prompts",
        tmp_path / "mine.parquet",
        says=("mine.parquet", "'prompt_id'", "missing"),
    )
    assert _tree(run) == before


def test_damaged_catalog(refused: Refused, run: Path, tmp_path: Path) -> None:
    (run / "catalog.parquet").write_bytes(b"PAR1 torn")
    before = _tree(run)
    commands = (["crawl", run / "run.yaml"], ["sample", run / "run.yaml"], ["status", run], ["generator", "list", run])
    for command in commands:
        refused(*command, says=(str(run / "catalog.parquet"),))
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "mine.parquet")
    refused(
        "sample",
        run / "run.yaml",
        "--catalog",
        tmp_path / "mine.parquet",
        says=("mine.parquet", "not a catalog", "rank"),
    )
    assert _tree(run) == before


def test_no_catalog_yet(refused: Refused, run: Path) -> None:
    (run / "catalog.parquet").unlink()
    refused("sample", run / "run.yaml", says=(str(run / "catalog.parquet"), "no such catalog", "commforge crawl"))


def test_no_prompts_for_a_model_of_text(refused: Refused, run: Path) -> None:
    (run / "prompts.parquet").unlink()
    before = _tree(run)
    more = ("--set", "sample.images_per_generator=4")
    refused("sample", run / "run.yaml", *more, says=(TEXT, "'train'", "prompt", "splits.test_fraction"))
    assert _tree(run) == before


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (None, ("captions.csv", "no such file")),
        ("", ("captions.csv", "empty", "file, caption")),
        ("fiel,caption\n", ("captions.csv:1", "'fiel'", "allowed: file, caption")),
        ("file,caption\nnope.jpg,a cat\n", ("captions.csv:2", "'nope.jpg'", "is not below")),
        ("file,caption\n{photo},a cat, a dog\n", ("captions.csv:2", "3 fields", "quotes")),
        ("file,caption\n../{photo},a cat\n", ("captions.csv:2", "inside it")),
    ],
)
def test_broken_captions(
    refused: Refused, toy_world: ToyWorld, tmp_path: Path, captions: str | None, says: tuple[str, ...]
) -> None:
    photo = min(path for path in (toy_world.root / "photos").iterdir() if path.suffix != ".csv")
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos")
    if captions is not None:
        (tmp_path / "photos" / "captions.csv").write_text(captions.format(photo=photo.name))
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = "photos"  # beside the config
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=says)
    assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}
    assert not (tmp_path / "run" / "prompts.parquet").exists()


@pytest.mark.parametrize(("path", "words"), [("nope", "no such folder"), ("config.yaml", "this is a file")])
def test_reals_that_are_no_folder(refused: Refused, toy_world: ToyWorld, tmp_path: Path, path: str, words: str) -> None:
    config = small_config(toy_world, tmp_path / "run")
    config["caption"]["reals"][0]["path"] = path
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=("'photos'", str(tmp_path / path), words))


def test_unknown_generator(refused: Refused, run: Path) -> None:
    before = _tree(run)
    named = ("--set", "splits.test_generators=[no/such]")
    refused("sample", run / "run.yaml", *named, says=("splits.test_generators", "no/such", PIXELS, TEXT))
    refused("status", run / "nope", says=("nope",))
    refused("generator", "show", "no/such", run, says=("no/such", PIXELS, TEXT))
    assert _tree(run) == before


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="this machine has the device")
def test_device_that_is_not_there(refused: Refused, run: Path, toy_world: ToyWorld) -> None:
    """Before any model loads: no unit is written off for it."""
    before = _tree(run / "dataset")
    more = ("--set", "sample.images_per_generator=4", "--set", "execute.device=cuda")
    says = ("execute.device = cuda", "not available on this machine", "available: cpu")
    for executor in ("inline", "ray"):
        refused("sample", run / "run.yaml", *more, "--executor", executor, says=says, after_notices=True)
    assert _tree(run / "dataset") == before
    again = ("dataset", "regenerate", run / "dataset", _image(run, 1), "--endpoint", toy_world.endpoint)
    refused(*again, "--device", "cuda", says=("--device = cuda", "not available", "available: cpu"))


def test_image_that_cannot_be_made_again(
    refused: Refused, made: Path, tmp_path: Path, toy_world: ToyWorld, dead_endpoint: str
) -> None:
    dataset, image, real = made / "dataset", _image(made, 1), _image(made, 0)
    before = _tree(made)
    refused("dataset", "regenerate", dataset, "f" * 32, says=(str(dataset), "f" * 32))
    refused("dataset", "regenerate", dataset, real, says=(real, "real image of photos"))
    refused("dataset", "regenerate", dataset, image, "--device", "tpu", says=("--device", "'tpu'", "'cuda'"))
    there = ("--endpoint", dead_endpoint, "--cache", tmp_path / "cache", "--device", "cpu")
    refused("dataset", "regenerate", dataset, image, *there, says=(image, dead_endpoint, "refused"))
    here = ("--endpoint", toy_world.endpoint, "--cache", toy_world.root / "cache", "--device", "cpu")
    out = made / "run.yaml" / "again.png"
    refused("dataset", "regenerate", dataset, image, *here, "--out", out, says=("--out", str(out), "Not a directory"))
    assert _tree(made) == before


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
    before = _tree(tmp_path)
    outputs = (tmp_path / "work", tmp_path / "work" / "thesis.txt", tmp_path / "work" / "thesis.txt" / "demo")
    for output in outputs:
        refused("demo", "--output", output, says=(str(output),), after_notices=True)
    assert _tree(tmp_path) == before


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
