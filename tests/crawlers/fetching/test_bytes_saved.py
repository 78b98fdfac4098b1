"""Bytes count as saved when a model's download needs them and another model had brought them, and at no other time."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fetching import TEXT, UNET, VAE, order

from crawlers.fetching.disk_budget import DiskBudget, NoRoomError
from crawlers.fetching.download import Downloads, Moved
from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub_server.server import HubServer
from manifests.generator import BasePipeline, GeneratorSpec

LORA = {name: f"weights of {name}".encode() for name in ("one.safetensors", "two.safetensors")}
CONFIG = b'{"r": 4}'


@pytest.fixture
def hub(hub_folder: Any) -> Iterator[HubServer]:
    """Two models that differ by their UNets, and a repo with two adapters that share a config."""
    hub_folder.sd("a/first")
    hub_folder.sd("a/second")
    hub_folder.repo("a/lora", LORA | {"adapter_config.json": CONFIG})
    with HubServer(hub_folder.root) as server:
        yield server


def bring(hub: HubServer, cache: Path, *orders: DownloadOrder, **more: Any) -> Moved:
    """Download in this process, as a worker that has just been started."""
    patience = more.pop("patience", 0.0)
    moved, pins = Downloads(hub.endpoint, cache, None, **more).run(orders, patience=patience)
    pins.out()
    return moved


def size(cache: Path, ordered: DownloadOrder, leave_out: str = "") -> int:
    snapshot = cache / f"models--{ordered.repo_id.replace('/', '--')}" / "snapshots" / ordered.revision
    paths = [path for path in snapshot.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in paths if path != snapshot / leave_out)


def test_what_two_models_share_counts_once_however_often_they_are_asked_for(hub: HubServer, tmp_path: Path) -> None:
    first, second = order(hub, "a/first"), order(hub, "a/second")
    assert bring(hub, tmp_path, first).saved == 0
    moved = bring(hub, tmp_path, second)
    assert moved.saved == size(tmp_path, second, UNET) > 0
    assert moved.fetched == size(tmp_path, second) - moved.saved
    for _ in range(2):  # a worker that was restarted or recycled, or another worker
        assert bring(hub, tmp_path, first) == bring(hub, tmp_path, second) == Moved(0, 0)


def test_a_base_and_a_config_count_for_each_adapter_that_finds_them(hub: HubServer, tmp_path: Path) -> None:
    base = order(hub, "a/first")
    one, two = (order(hub, "a/lora", weight_name=name, also=("adapter_config.json",)) for name in LORA)
    assert bring(hub, tmp_path, one, base).saved == 0, "it brought its base itself"
    moved = bring(hub, tmp_path, two, base)
    assert moved == Moved(len(LORA["two.safetensors"]), size(tmp_path, base) + len(CONFIG))
    assert bring(hub, tmp_path, two, base) == bring(hub, tmp_path, one, base) == Moved(0, 0)


def test_an_adapter_that_must_fetch_an_evicted_base_again_saved_nothing(hub: HubServer, tmp_path: Path) -> None:
    base, one = order(hub, "a/first"), order(hub, "a/lora", weight_name="one.safetensors")
    bring(hub, tmp_path, one, base)
    whole = size(tmp_path, base)
    shutil.rmtree(tmp_path / "models--a--first")
    assert bring(hub, tmp_path, one, base) == Moved(whole, 0)


@pytest.mark.parametrize("finished", [False, True], ids=["killed", "damaged"])
def test_what_an_earlier_try_of_the_same_model_left_is_its_own(hub: HubServer, tmp_path: Path, finished: bool) -> None:
    first = order(hub, "a/first")
    bring(hub, tmp_path, first)
    repo = tmp_path / "models--a--first"
    unet = (repo / "snapshots" / first.revision / UNET).resolve()
    fetched = unet.stat().st_size
    unet.unlink()
    if not finished:
        for receipt in (repo / "commforge").glob("*.json"):
            receipt.unlink()
    assert bring(hub, tmp_path, first) == Moved(fetched, 0)


def test_waiting_for_room_forgets_nothing(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was linked before the room was asked for lies in the model's own repo when it is asked for again."""
    first, second = order(hub, "a/first"), order(hub, "a/second")
    bring(hub, tmp_path, first)
    reserve, refused = DiskBudget.reserve, []

    def refuse_once(self: DiskBudget, *arguments: Any) -> Any:
        if not refused:
            refused.append(True)
            raise NoRoomError("others are at work", ever=True, others=0)
        return reserve(self, *arguments)

    monkeypatch.setattr(DiskBudget, "reserve", refuse_once)
    moved = bring(hub, tmp_path, second, disk_budget=10**9, patience=30.0)
    assert refused and moved.saved == size(tmp_path, second, UNET)


def test_workers_that_share_a_cache_count_it_once_between_them(hub: HubServer, tmp_path: Path) -> None:
    base = BasePipeline(repo_id="a/first", revision=order(hub, "a/first").revision)
    adapters = [
        GeneratorSpec(
            name=name,
            kind="text-to-image",
            packaging="lora",
            repo_id="a/lora",
            revision=order(hub, "a/lora").revision,
            base=base,
            weight_name=name,
        )
        for name in LORA
    ]
    cache = tmp_path / "cache"
    saved = []
    for _ in range(2):
        with ModelCache(endpoint=hub.endpoint, cache_dir=cache, token=None, timeout_seconds=60) as worker:
            for adapter in adapters:
                worker.fetch(adapter).release()
            saved.append(worker.take_traffic().saved)
    assert saved == [size(cache, order(hub, "a/first")) + len(CONFIG), 0]


def test_shared_parts_are_those_of_the_toy_repos(hub: HubServer, tmp_path: Path) -> None:
    """Else the numbers above would prove little."""
    first, second = order(hub, "a/first"), order(hub, "a/second")
    bring(hub, tmp_path, first, second)
    folders = [tmp_path / f"models--a--{name}" for name in ("first", "second")]
    blobs = [{path.name for path in (folder / "blobs").iterdir()} for folder in folders]
    assert len(blobs[0] & blobs[1]) == len(blobs[0]) - 1 >= len((TEXT, VAE))
