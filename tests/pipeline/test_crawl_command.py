"""`crawl --report`, `crawl --refresh` beside a run, and `doctor --hub`, as a person or a script calls them."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from toy_runs import commforge

from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from pipeline.config import RunConfig
from pipeline.run_folder import RunFolder
from pipeline.stages.crawl import crawl, crawl_alone
from shards.run_lock import RunLock

FILES = {
    "model_index.json": {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    },
    "unet/config.json": {"_class_name": "UNet2DModel", "sample_size": 32},
    "scheduler/scheduler_config.json": {"_class_name": "DDPMScheduler"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Serve three small models, one of them gated, the first two with the same weights."""
    root = tmp_path_factory.mktemp("hub")
    for number, (name, weights) in enumerate({"a/one": b"same", "b/two": b"same", "c/gated": b"other"}.items()):
        folder = root / "models" / name
        for path, content in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(content))
        (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(weights * 25)
        settings = {"downloads": 100 - number, "gated": "auto" if "gated" in name else False}
        (folder / ".hub.yaml").write_text(yaml.safe_dump(settings))
    with HubServer(root) as server:
        yield server


def config(hub: HubServer, output: Path, **keys: object) -> RunConfig:
    return RunConfig.model_validate(
        {"name": "x", "output": str(output), "hub": {"endpoint": hub.endpoint}, "crawl": {"count": 3} | keys}
    )


def test_a_crawl_and_its_report(hub: HubServer, tmp_path: Path) -> None:
    crawled = commforge("crawl", "--endpoint", hub.endpoint, "--count", "3", "--report", "--out", tmp_path)
    assert crawled.returncode == 0, crawled.stderr
    assert f"{tmp_path}/catalog.parquet: 3 models (3 of the listing), 2 eligible" in crawled.stdout
    lines = [" ".join(line.split()) for line in crawled.stdout.splitlines()]
    for line in ("ddpm 2", "unet 2 1 50.0% 2 100 B", "1 100 B", "gated 1 access must be granted on the hub first"):
        assert line in lines, crawled.stdout
    since = len(hub.requests())
    told = commforge("crawl", "--report", "--json", "--out", tmp_path)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["reasons"] == {"ok": 2, "gated": 1}
    assert (report["bytes_naive"], report["bytes_unique"], report["pipelines_sharing"]) == (200, 100, 2)
    assert len(hub.requests()) == since, "a report asks nobody"


def test_the_result_for_programs(hub: HubServer, tmp_path: Path) -> None:
    told = commforge("crawl", "--endpoint", hub.endpoint, "--count", "2", "--json", "--out", tmp_path)
    result = json.loads(told.stdout)
    assert result["path"] == str(tmp_path / "catalog.parquet")
    assert (result["rows"], result["eligible"], result["listed"], result["asked"]) == (2, 2, 2, 2)
    assert result["requests"]["api"] == 3  # a page and two models


def test_nothing_to_report_on(tmp_path: Path) -> None:
    told = commforge("crawl", "--report", "--out", tmp_path)
    assert told.returncode == 2
    assert f"error: there is no catalog.parquet in {tmp_path}; run `commforge crawl` first\n" == told.stderr
    assert list(tmp_path.iterdir()) == []
    asked = commforge("crawl", "--out", tmp_path)
    assert asked.returncode == 2
    assert "nothing is asked for" in asked.stderr


def test_filters_of_the_config_reach_the_crawl(hub: HubServer, tmp_path: Path) -> None:
    result = crawl(config(hub, tmp_path, families=["sd1"]), RunFolder.at(tmp_path))
    assert result.reasons == {"filtered": 2, "gated": 1}
    with pytest.raises(InputError, match="families: sdlx is not known"):
        crawl(config(hub, tmp_path, families=["sdlx"]), RunFolder.at(tmp_path))
    for key, value in {
        "tasks": ["text-to-image"],
        "created_from": "2030-01-01",
        "created_until": "2000-01-01",
        "packagings": ["lora"],
    }.items():
        folder = tmp_path / key
        assert crawl(config(hub, folder, **{key: value}), RunFolder.at(folder)).eligible == 0
    for key in ("max_per_author", "max_per_base"):
        assert crawl(config(hub, tmp_path / key, **{key: 1}), RunFolder.at(tmp_path / key)).eligible == 2


def test_a_config_that_asks_for_nothing_leaves_a_filtered_catalog_alone(hub: HubServer, tmp_path: Path) -> None:
    """Its filters are the widest there are; taken for a wish, they would extend the catalog."""
    folder = RunFolder.at(tmp_path)
    first = crawl(config(hub, tmp_path, families=["sd1"]), folder)
    since = len(hub.requests())
    again = crawl(config(hub, tmp_path, count=0), folder)
    assert (again.snapshot, again.reasons) == (first.snapshot, first.reasons)
    assert len(hub.requests()) == since


def test_a_refresh_does_not_run_beside_a_run(hub: HubServer, tmp_path: Path) -> None:
    """The run's status and report would tell of another catalog than it samples from. Growing disturbs nobody."""
    folder = RunFolder.at(tmp_path)
    first = crawl(config(hub, tmp_path, count=1), folder)
    folder.dataset.mkdir()
    with RunLock(folder.dataset):
        content = folder.catalog.read_bytes()
        with pytest.raises(InputError, match=r"run\.lock: held by process \d+"):
            crawl_alone(config(hub, tmp_path, count=1), refresh=True)
        assert folder.catalog.read_bytes() == content
        crawl_alone(config(hub, tmp_path, count=2))
        grown = folder.catalog.read_bytes()
        assert grown != content
    crawl_alone(config(hub, tmp_path, count=1), refresh=True)
    kept = sorted(path.name for path in tmp_path.glob("catalog-*.parquet"))
    assert len(kept) == 1 and (tmp_path / kept[0]).read_bytes() == grown
    assert kept[0] != f"catalog-{first.snapshot}.parquet"


def test_a_run_does_not_start_during_a_refresh(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.at(tmp_path)
    crawl(config(hub, tmp_path), folder)
    folder.dataset.mkdir()
    seen = []

    def meanwhile(*arguments: object, **options: object) -> object:
        with pytest.raises(InputError, match="held by"):
            RunLock(folder.dataset).acquire()
        seen.append(options["refresh"])
        return crawl(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pipeline.stages.crawl.crawl", meanwhile)
    crawl_alone(config(hub, tmp_path), refresh=True)
    assert seen == [True]
    RunLock(folder.dataset).acquire().release()


def test_doctor_of_a_hub(hub: HubServer) -> None:
    told = commforge("doctor", "--hub", "--endpoint", hub.endpoint)
    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "ok   hub",
        "ok   hub token",
        "ok   hub model",
        "ok   hub file",
        "ok   hub limit",
        "ok   hub limit",
    ]
    assert lines[0].startswith(f"ok   hub: {hub.endpoint} lists 3 diffusers models in")


def test_doctor_of_a_hub_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        told = commforge("doctor", "--hub", "--endpoint", endpoint)
        as_json = commforge("doctor", "--hub", "--endpoint", endpoint, "--json")
    assert told.returncode == as_json.returncode == 1
    assert told.stdout.startswith(f"FAIL hub: {endpoint} does not answer")
    assert [(check["name"], check["ok"]) for check in json.loads(as_json.stdout)] == [("hub", False)]
    wrong = commforge("doctor", "--hub", "--endpoint", "nowhere")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert commforge("doctor", "--endpoint", endpoint).returncode == 2
