"""What the Xet library keeps: nothing, and never outside the folder that the disk budget measures."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fetching import order

from crawlers.fetching.cache_contents import CacheContents, total_bytes
from crawlers.fetching.downloader import download_environment
from crawlers.fetching.model_cache import ModelCache
from crawlers.fetching.xet_cache import sweep_xet, xet_folder
from crawlers.hub.hub_client import DEFAULT_ENDPOINT
from crawlers.hub_server.server import HubServer

ASK = """
import sys, time
from huggingface_hub import constants
from huggingface_hub.utils._xet import get_xet_session
from hf_xet import XetConfig, XetFileInfo

config = dict(XetConfig().items())
print(constants.HF_XET_CACHE, config["chunk_cache.size_bytes"], config["shard.cache_size_limit"])
try:
    with get_xet_session().new_file_download_group(
        endpoint="http://127.0.0.1:9", token="t", token_expiry_unix_secs=int(time.time()) + 1000
    ) as group:
        group.start_download_file(XetFileInfo("a" * 64, 100), sys.argv[1])
except (ConnectionError, RuntimeError) as error:
    print("refused" if "127.0.0.1:9" in str(error) else error)
"""


def test_the_library_keeps_nothing_and_works_below_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself, as the hub client uses it, in the environment of a download from the public hub."""
    home, cache = tmp_path / "home", tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_XET_CACHE", str(home / "elsewhere"))
    monkeypatch.setenv("HF_XET_CHUNK_CACHE_SIZE_BYTES", "5000000000")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "1")
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "file")],
        env=download_environment(DEFAULT_ENDPOINT, cache),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert asked.stdout.split() == [str(xet_folder(cache)), "0", "0", "refused"], asked.stdout + asked.stderr
    assert xet_folder(cache).is_dir(), "it was at work there"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path != tmp_path / "file"] == []
    assert not home.exists()


def test_a_users_own_place_for_logs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_XET_LOG_DEST", "/var/log/xet/")
    assert download_environment(DEFAULT_ENDPOINT, tmp_path)["HF_XET_LOG_DEST"] == "/var/log/xet/"


def _kept(cache: Path, count: int) -> Path:
    chunk = xet_folder(cache) / "https___cas" / "chunk-cache" / "aa" / "chunk"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"x" * count)
    return chunk


def test_what_it_kept_all_the_same_is_counted(tmp_path: Path) -> None:
    contents = CacheContents(tmp_path)
    contents.refresh()
    assert contents.parts == {}
    _kept(tmp_path, 70_000)
    contents.refresh()
    assert total_bytes(contents.parts.values()) == 70_000


def test_what_it_kept_is_swept_before_the_next_download(hub_folder: Any, tmp_path: Path) -> None:
    """It would leave no room for the model."""

    hub_folder.sd("a/sd", unet=b"u" * 50_000)
    cache = tmp_path / "cache"
    chunk = _kept(cache, 70_000)
    with (
        HubServer(hub_folder.root) as hub,
        ModelCache(
            endpoint=hub.endpoint, cache_dir=cache, token=None, timeout_seconds=60, disk_budget=100_000
        ) as models,
        models.fetch_orders((order(hub, "a/sd"),)) as held,
    ):
        assert held.folder.is_dir()
    assert not chunk.exists() and chunk.parent.is_dir()


def test_what_cannot_be_removed_fails_no_download_and_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps a file that another process has open; another user's file may not be removed either."""
    busy = _kept(tmp_path, 10)
    folder = busy.parent
    others = [folder.parent / "ab" / "chunk", folder / "zz"]
    others[0].parent.mkdir()
    for path in others:
        path.write_bytes(b"x")
    link = folder.parent / "to-a-folder"
    link.symlink_to(folder, target_is_directory=True)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == busy:
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    sweep_xet(tmp_path)
    assert [path for path in folder.parent.rglob("*") if path.is_symlink() or path.is_file()] == [busy]
