"""A hub that stops to answer stops the run: exit code 3, no model is blamed, and the same command goes on."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_runs import ToyWorld, small_config, write_yaml

from crawlers.hub.hub_client import HubClient
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.faults import Fault
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from pipeline import hub_outage
from pipeline.cli import main
from pipeline.hub_outage import HubOutages, check_hub_answers
from pipeline.interruption import HubOutage
from pipeline.stages import crawl as crawl_stage
from samplers.device_health import device_answers
from shards.dataset import Dataset
from shards.statuses import Reason, UnitFailure

PIXELS = "gridworks/toy-ddpm-64"
CHECKER = "toy/safety-checker"
ExitCode = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> ExitCode:
    """Run a command in this process; its exit code and what it said."""

    def command(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["commforge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        return int(leaving.value.code or 0), capsys.readouterr().err

    return command


@pytest.fixture
def hub_folder(toy_world: ToyWorld, tmp_path: Path) -> Path:
    """One small model and the checker, for a hub that a test may stop."""
    for repo in (PIXELS, CHECKER):
        shutil.copytree(toy_world.root / "hub" / "models" / repo, tmp_path / "hub" / "models" / repo)
    return tmp_path / "hub"


@pytest.mark.parametrize("checker", [None, {"repo_id": CHECKER}], ids=["the model", "the checker"])
def test_a_hub_that_is_gone_while_sampling(
    checker: dict[str, Any] | None, hub_folder: Path, toy_world: ToyWorld, tmp_path: Path, run: ExitCode
) -> None:
    with HubServer(hub_folder) as hub:
        config = small_config(
            ToyWorld(toy_world.root, hub.endpoint),
            tmp_path / "run",
            crawl={"models": [PIXELS]},
            caption={"reals": [], "captioner": None},
            sample={"checker": checker},
            hub={"cache": str(tmp_path / "cache"), "patience": 0},
        )
        path = write_yaml(tmp_path / "config.yaml", config)
        assert run("crawl", path)[0] == 0
        if checker is not None:  # its revision is pinned while the hub is there
            assert run("caption", path)[0] == 0
    code, said = run("sample", path)
    assert code == 3, said
    message = said.splitlines()[-1]
    assert message.startswith("stopped: ") and "Traceback" not in said and "error: " not in said
    assert hub.endpoint in message and "the hub does not answer" in message
    assert message.endswith("the same command goes on from here")
    assert (CHECKER in message) == (checker is not None)
    assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}, "a unit was given up for the hub's outage"
    with HubServer(hub_folder, port=int(hub.endpoint.rsplit(":", 1)[1])):
        code, said = run("sample", path)
    assert code == 0, said
    commits = Dataset.open(tmp_path / "run" / "dataset").commits().values()
    assert sum(commit.counts["ok"] for commit in commits) == 6


def test_a_checker_that_comes_too_slowly_once_does_not_end_the_run(
    hub_folder: Path, toy_world: ToyWorld, tmp_path: Path, run: ExitCode
) -> None:
    """As after an outage that was over before anybody asked: the hub answers, and the file did not come."""
    with HubServer(hub_folder, HubOptions(fault_token="slow")) as hub:
        config = small_config(
            ToyWorld(toy_world.root, hub.endpoint),
            tmp_path / "run",
            crawl={"models": [PIXELS]},
            caption={"reals": [], "captioner": None},
            sample={"checker": {"repo_id": CHECKER}},
            hub={"cache": str(tmp_path / "cache"), "patience": 0, "download_timeout": 4},
        )
        path = write_yaml(tmp_path / "config.yaml", config)
        assert run("crawl", path)[0] == 0 == run("caption", path)[0]
        slow = hub.arm(Fault(kind="slow", repo=CHECKER, bytes_per_second=200))
        code, said = run("sample", path)
        assert hub.shown()[slow] == 1
    assert code == 0, said
    commits = Dataset.open(tmp_path / "run" / "dataset").commits().values()
    assert sum(commit.counts["ok"] for commit in commits) == 6


def test_a_hub_that_is_gone_while_crawling(
    toy_world: ToyWorld, tmp_path: Path, run: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code as for sampling; but a hub that never answered may have a wrong address."""
    names = [f"owner/model-{number}" for number in range(4)]
    for name in names:
        folder = tmp_path / "hub" / "models" / name
        shutil.copytree(toy_world.root / "hub" / "models" / PIXELS, folder)
        (folder / ".hub.yaml").write_text(yaml.safe_dump({"behaviour": {"delay_seconds": 0.1}}))
    crawl_hub = crawl_stage.crawl_hub
    monkeypatch.setattr(crawl_stage, "crawl_hub", partial(crawl_hub, policy=RetryPolicy(attempts=2, first_wait=0.01)))
    command = ["crawl", "--out", tmp_path / "run", *(part for name in names for part in ("--model", name))]
    with HubServer(tmp_path / "hub") as hub:
        endpoint = hub.endpoint
    code, said = run(*command, "--endpoint", endpoint)
    assert code == 2 and "error: " in said and "the hub does not answer" in said

    hub = HubServer(tmp_path / "hub", port=int(endpoint.rsplit(":", 1)[1])).__enter__()

    def dying(*arguments: Any, progress: Callable[[str], object], **options: Any) -> Any:
        def kill(text: str) -> None:
            if text.startswith("crawl: looked at 1 of"):
                os.kill(hub.pid, signal.SIGKILL)

        request = arguments[0].model_copy(update={"connections": 1})
        policy = RetryPolicy(attempts=2, first_wait=0.01)
        return crawl_hub(request, *arguments[1:], progress=kill, policy=policy, **options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(crawl_stage, "crawl_hub", dying)
            code, said = run(*command, "--endpoint", endpoint)
    finally:
        hub.__exit__(None, None, None)
    assert code == 3, said
    assert "stopped: " in said and "the same command goes on from there" in said
    code, said = run(*command, "--endpoint", endpoint)
    assert code == 3 and "stopped after" in said, "it is still away, and its address is as right as before"
    with HubServer(tmp_path / "hub", port=int(endpoint.rsplit(":", 1)[1])):
        code, said = run(*command, "--endpoint", endpoint)
    assert code == 0, said


class _Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    """The address of a hub that is there, and answers nobody."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_an_outage_is(hub_folder: Path, busy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = RetryPolicy(attempts=2, first_wait=0.01)
    monkeypatch.setattr(hub_outage, "HubClient", partial(HubClient, policy=quick))
    with HubServer(hub_folder, HubOptions(fault_token="test")) as hub:
        check_hub_answers(hub.endpoint, None, PIXELS)
        check_hub_answers(hub.endpoint, None, "owner/gone")
        hub.arm(Fault(kind="broken", repo=PIXELS, times=2))
        check_hub_answers(hub.endpoint, None, PIXELS)  # it is busy with this one repo only
    with pytest.raises(HubOutage, match=rf"^endpoint = '{hub.endpoint}': the hub does not answer"):
        check_hub_answers(hub.endpoint, None, PIXELS)
    with pytest.raises(HubOutage, match=rf"^for this: endpoint = '{busy}'.*503"):
        check_hub_answers(busy, None, PIXELS, "for this")
    assert issubclass(HubOutage, InputError), "whoever ends a run for a mistake ends it for this too"


def test_a_hub_that_comes_back_is_waited_for(
    hub_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub_outage, "HubClient", partial(HubClient, policy=RetryPolicy(attempts=2, first_wait=0.01)))
    monkeypatch.setattr(hub_outage, "_ASK_AGAIN", 0.1)
    with HubServer(hub_folder) as hub:
        endpoint = hub.endpoint
        assert HubOutages(endpoint, None, 60).excuse("owner/gone", 1.0) is False
    with pytest.raises(HubOutage, match="does not answer"):
        HubOutages(endpoint, None, 0.3).excuse(PIXELS, 1.0)
    capsys.readouterr()
    back = HubServer(hub_folder, port=int(endpoint.rsplit(":", 1)[1]))
    timer = threading.Timer(1.0, back.__enter__)
    timer.start()
    try:
        outages = HubOutages(endpoint, None, 120)
        assert outages.excuse(PIXELS, 1.0) is True
        assert outages.excuse(PIXELS, 60.0) is True, "it began before the outage was over"
        time.sleep(0.2)
        assert outages.excuse(PIXELS, 0.1) is False
    finally:
        timer.join()
        back.__exit__(None, None, None)
    said = capsys.readouterr().err
    assert said.count("waiting 120 s for it (hub.patience)") == 1 and said.count("the hub answers again") == 1


def test_a_device_that_is_lost_to_the_only_process_stops_the_run_and_condemns_no_model(
    hub_folder: Path, toy_world: ToyWorld, tmp_path: Path, run: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an illegal access on a GPU: what is loaded next fails, whatever it is."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise UnitFailure(Reason.invalid_pipeline, "CUDA error: an illegal memory access was encountered")

    with HubServer(hub_folder) as hub:
        config = small_config(
            ToyWorld(toy_world.root, hub.endpoint),
            tmp_path / "run",
            crawl={"models": [PIXELS]},
            caption={"reals": [], "captioner": None},
            sample={"checker": None},
            hub={"cache": str(tmp_path / "cache")},
        )
        path = write_yaml(tmp_path / "config.yaml", config)
        assert run("crawl", path)[0] == 0
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.loaded_generator.load_sampler", fail)
            patch.setattr("pipeline.worker.device_answers", lambda device: False)
            code, said = run("sample", path)
        assert code == 3 and "stopped: execute.device: cpu answers no more in this process" in said
        assert Dataset.open(tmp_path / "run" / "dataset").commits() == {}
        assert run("sample", path)[0] == 0


def test_a_device_answers_or_it_does_not() -> None:
    assert device_answers("cpu")
    assert not device_answers("cuda:7"), "there is none here"
