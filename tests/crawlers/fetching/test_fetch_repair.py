"""What arrives or lies there broken is found by its hash and mended with the fewest bytes."""

import os
from pathlib import Path
from typing import Any

import pytest
from fetching import PIPELINE_FILES, TEXT, UNET, VAE, bodies, failure, files_in, order, snapshot

from crawlers.fetching.fetch import fetch_repo, pin_revision
from crawlers.hub_server.server import HubServer
from manifests.generator import WeightFile
from shards.statuses import Reason, UnitFailure


def test_a_corrupt_blob_is_neither_kept_nor_shared(hub_folder: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}")
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        orders = [order(hub, f"a/model-{number}") for number in (1, 2)]
        assert failure(orders[0], hub.endpoint, cache) == {}
        folder = cache / "models--a--model-1" / "snapshots" / orders[0].revision
        blob = (folder / VAE).resolve()
        good = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(bytes([good[0] ^ 1]) + good[1:])  # one flipped bit, same length
        since = len(hub.requests())
        assert failure(orders[1], hub.endpoint, cache) == {}
        assert {f"a/model-2:{VAE}", f"a/model-2:{UNET}"} == {n for n in bodies(hub, since) if n.endswith("tensors")}
        since = len(hub.requests())
        fetch_repo("a/model-1", orders[0].revision, endpoint=hub.endpoint, cache_dir=cache)
        # Mended from the neighbour, which was fetched in the meantime: no body crosses the network.
        assert bodies(hub, since) == {}
        assert (folder / VAE).read_bytes() == good


def test_damage_is_mended_by_fetching_the_damaged_file_alone(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/sd")
        assert failure(ordered, hub.endpoint, cache) == {}
        folder = cache / "models--a--sd" / "snapshots" / ordered.revision
        good = {name: (folder / name).read_bytes() for name in (UNET, "unet/config.json", TEXT)}
        truncated, flipped, deleted = good
        (folder / truncated).resolve().write_bytes(good[truncated][:-1])
        (folder / flipped).resolve().write_bytes(b"X" + good[flipped][1:])
        (folder / deleted).resolve().unlink()
        since = len(hub.requests())
        assert failure(ordered, hub.endpoint, cache) == {}
        assert set(bodies(hub, since)) == {f"a/sd:{name}" for name in good}
        assert {name: (folder / name).read_bytes() for name in good} == good


def test_verified_blobs_are_not_read_again(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/sd")
        assert failure(ordered, hub.endpoint, tmp_path / "cache") == {}
    unet = tmp_path / "cache/models--a--sd/snapshots" / ordered.revision / UNET
    state = unet.stat()
    unet.resolve().write_bytes(b"?" * state.st_size)
    os.utime(unet, ns=(state.st_atime_ns, state.st_mtime_ns))
    # Unchanged inode, size and time stand for the hash: had it been read, there would be no hub to mend it from.
    assert fetch_repo("a/sd", ordered.revision, cache_dir=tmp_path / "cache").is_dir()
    os.utime(unet)
    with pytest.raises(UnitFailure) as caught:
        fetch_repo("a/sd", ordered.revision, endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "cache")
    assert caught.value.reason is Reason.download_failed


def test_announced_and_sent_bytes_that_differ(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/corrupt", behaviour={"corrupt": [UNET]})
    with HubServer(hub_folder.root) as hub:
        revision = pin_revision("a/corrupt", hub.endpoint)
        with pytest.raises(UnitFailure) as caught:
            fetch_repo("a/corrupt", revision, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
        assert caught.value.reason is Reason.checksum_mismatch
        assert UNET in caught.value.detail
        assert sum(f":{UNET}" in name for name in bodies(hub)) == 1
        tries = [r for r in hub.requests() if r.method == "GET" and r.path.endswith(UNET)]
        assert len(tries) == 2  # fetched again once, then given up
    assert not (tmp_path / "cache/models--a--corrupt/snapshots" / revision / UNET).exists()


def test_the_catalogs_hash_is_the_one_that_counts(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    with HubServer(hub_folder.root) as hub:
        size = (hub_folder.root / "models/a/sd" / UNET).stat().st_size
        wrong = WeightFile(path=UNET, size=size, sha256="0" * 64)
        answer = failure(order(hub, "a/sd", files=(wrong,)), hub.endpoint, tmp_path / "cache")
    assert answer["reason"] == Reason.checksum_mismatch


def test_large_files_through_the_hub_client(hub_folder: Any, tmp_path: Path) -> None:
    """As on the public hub, where they come over Xet: the client fetches, and we verify and try once more."""
    hub_folder.sd("a/good")
    hub_folder.sd("a/same")
    hub_folder.sd("a/corrupt", behaviour={"corrupt": [UNET]})
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        good, same, corrupt = (order(hub, f"a/{name}") for name in ("good", "same", "corrupt"))
        assert failure(good, hub.endpoint, cache, through_client=True) == {}
        assert files_in(snapshot(cache, good)) == PIPELINE_FILES
        for name in PIPELINE_FILES:
            assert (snapshot(cache, good) / name).read_bytes() == (
                hub_folder.root / "models/a/good" / name
            ).read_bytes()
        since = len(hub.requests())
        assert failure(same, hub.endpoint, cache, through_client=True) == {}
        assert {name for name in bodies(hub, since) if name.endswith("tensors")} == {f"a/same:{UNET}"}
        answer = failure(corrupt, hub.endpoint, cache, through_client=True)
        assert answer["reason"] == Reason.checksum_mismatch and UNET in answer["detail"]
        assert not (snapshot(cache, corrupt) / UNET).exists()
        tries = [r for r in hub.requests() if r.method == "GET" and "a/corrupt" in r.path and r.path.endswith(UNET)]
        assert len(tries) == 2
