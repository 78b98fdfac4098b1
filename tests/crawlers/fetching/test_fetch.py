"""Fetching from real hub servers: what is taken, every failure by its reason, and what needs no hub."""

import errno
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fetching import PIPELINE_FILES, bodies, failure, files_in, hub_revision, order

from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.download_plan import DISK_FULL
from crawlers.fetching.fetch import fetch_generator, fetch_repo, pin_revision
from crawlers.hub.hub_errors import DiskFullError, classify
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, WeightFile
from shards.statuses import Reason, UnitFailure


def test_a_pipeline_is_fetched_whole_and_nothing_else_is(
    hub_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = {
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
        "sd.safetensors": b"again, in one file",
        "pipeline.py": b"import os",
        "unet/model.onnx": b"onnx",
        "image.png": b"png",
    }
    repo = hub_folder.sd("a/sd", files=extras)
    with HubServer(hub_folder.root) as hub:
        revision = pin_revision("a/sd", hub.endpoint)
        folder = fetch_repo("a/sd", revision, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
        assert files_in(folder) == PIPELINE_FILES
        for name in PIPELINE_FILES:
            assert (folder / name).read_bytes() == (repo / name).read_bytes()
        assert {name.split(":")[1] for name in bodies(hub)} == PIPELINE_FILES
    # The second time there is no hub, and there need not be one: no process is started, no request made.
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    again = fetch_repo("a/sd", revision, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    assert again == folder


def test_a_single_model_and_further_files(hub_folder: Any, tmp_path: Path) -> None:
    files = {
        "config.json": {"a": 1},
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"pickle",
        "preprocessor_config.json": {},
        "spiece.model": b"sp",
        "vocab.txt": b"a",
        "modeling.py": b"code",
        "notes.md": b"notes",
    }
    hub_folder.repo("a/captioner", files)
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "spiece.model", "vocab.txt"}
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        for also, more in (((), set()), (("*",), {"notes.md"}), (("*.py",), {"modeling.py", "notes.md"})):
            ordered = order(hub, "a/captioner", also=also)
            assert failure(ordered, hub.endpoint, cache) == {}
            folder = cache / "models--a--captioner" / "snapshots" / ordered.revision
            assert files_in(folder) - {"README.md"} == expected | more
            assert not (folder / "pytorch_model.bin").exists()


def test_odd_names_are_taken_literally(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.repo("a/odd", {"model.safetensors": b"w", "a[1]*?.json": b"{}", "a1.jsonx": b"no", "a/b é.txt": b"x"})
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/odd")
        assert failure(ordered, hub.endpoint, tmp_path) == {}
    folder = tmp_path / "models--a--odd" / "snapshots" / ordered.revision
    assert files_in(folder) == {"model.safetensors", "a[1]*?.json", "a/b é.txt"}


@pytest.mark.parametrize("token", [None, "hf_wrongtoken"])
def test_gated(hub_folder: Any, tmp_path: Path, token: str | None) -> None:
    hub_folder.sd("a/gated", gated="auto", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/gated")
        answer = failure(ordered, hub.endpoint, tmp_path / "cache", token)
        assert answer["reason"] == Reason.gated_repo
        assert "hf_" not in answer["detail"]
        assert failure(ordered, hub.endpoint, tmp_path / "cache", "hf_right") == {}
    stored = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not any(b"hf_right" in content for content in stored)


def test_gone_repo_revision_and_file(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    hub_folder.sd("a/deleted", behaviour={"missing": True})
    hub_folder.sd("a/pickled", drop=("unet",), files={"unet/diffusion_pytorch_model.bin": b"pickle"})
    hub_folder.sd("a/bad-index", files={"model_index.json": b"{oops"})
    hub_folder.repo("a/nothing", {"config.json": {}})
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        for ordered, reason in (
            (DownloadOrder(repo_id="a/deleted", revision="1" * 40), Reason.repo_not_found),
            (DownloadOrder(repo_id="a/never-was", revision="1" * 40), Reason.repo_not_found),
            (DownloadOrder(repo_id="a/sd", revision="1" * 40), Reason.revision_not_found),
            (order(hub, "a/sd", files=(WeightFile(path="unet/x.safetensors", size=1),)), Reason.missing_file),
            (order(hub, "a/pickled"), Reason.missing_file),
            (order(hub, "a/nothing"), Reason.missing_file),
            (order(hub, "a/bad-index"), Reason.bad_config),
        ):
            assert failure(ordered, hub.endpoint, cache)["reason"] == reason, ordered


def test_failures_cross_the_process_boundary(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(UnitFailure, match="a/sd") as caught:
            fetch_repo("a/sd", "1" * 40, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
        assert caught.value.reason is Reason.revision_not_found
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(UnitFailure) as caught:
            fetch_repo("a/sd", "1" * 40, endpoint=dead, cache_dir=tmp_path / "cache")
        assert caught.value.reason is Reason.download_failed


class HugeHub(BaseHTTPRequestHandler):
    """A hub that only lists one file, which no disk can hold."""

    def do_GET(self) -> None:
        lfs = {"oid": "0" * 64, "size": 2**60, "pointerSize": 100}
        entry = {"type": "file", "path": "model.safetensors", "oid": "0" * 40, "size": 2**60, "lfs": lfs}
        body = json.dumps([entry]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def test_a_full_disk_is_the_users_error(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HugeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(InputError, match=rf"{2**60} bytes are to be fetched") as caught:
            fetch_repo(
                "a/huge", "1" * 40, endpoint=f"http://127.0.0.1:{server.server_port}", cache_dir=tmp_path / "cache"
            )
    finally:
        server.shutdown()
        server.server_close()
    assert "a/huge" in str(caught.value) and str(tmp_path / "cache") in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_on_the_way(number: int) -> None:
    wrapped = RuntimeError("in a thread")
    wrapped.__cause__ = OSError(number, os.strerror(number))
    assert isinstance(classify(wrapped), DiskFullError)
    assert DISK_FULL not in set(Reason)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot use"):
        fetch_repo("a/b", "1" * 40, endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "file" / "cache")


@pytest.mark.parametrize("revision", ["main", "", "1" * 39, "G" * 40])
def test_only_commits_are_fetched(tmp_path: Path, revision: str) -> None:
    with pytest.raises(InputError, match="commit of 40 hex digits"):
        fetch_repo("a/b", revision, cache_dir=tmp_path)
    with pytest.raises(InputError, match="commit of 40 hex digits"):
        spec = GeneratorSpec(name="x", kind="text-to-image", repo_id="a/b", revision=revision)
        fetch_generator(spec, cache_dir=tmp_path)


def test_pinning(hub_folder: Any) -> None:
    hub_folder.sd("a/sd")
    hub_folder.sd("a/private", private=True)
    with HubServer(hub_folder.root) as hub:
        sha = pin_revision("a/sd", hub.endpoint)
        assert sha == hub_revision(hub, "a/sd") == pin_revision("a/sd", hub.endpoint, revision="main")
        for repo_id, revision, words in (
            ("a/nobody", None, "no such repo"),
            ("a/private", None, "no such repo"),
            ("a/sd", "v9", "no revision 'v9'"),
        ):
            with pytest.raises(InputError, match=words):
                pin_revision(repo_id, hub.endpoint, revision=revision)
    with pytest.raises(InputError, match="does not answer"):
        pin_revision("a/sd", "http://127.0.0.1:9")
