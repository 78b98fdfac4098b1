"""Commands that must be refused, and a finished run to make mistakes with.

All commands run in this process through `pipeline.cli.main`, which is what the installed command calls.
"""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mistakes import PIXELS, TEXT, Refused
from toy_runs import ToyWorld, copy_run, small_config, write_yaml

from pipeline.cli import main


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


@pytest.fixture(scope="package")
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
