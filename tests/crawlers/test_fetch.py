"""Fetching from real hub servers: every failure by its reason, bytes once, verified, repaired, on time, offline."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crawlers.catalog import eligible_generators
from crawlers.catalog_builder import crawl
from crawlers.crawl_request import CrawlRequest
from crawlers.download_order import DownloadOrder
from crawlers.download_process import DISK_FULL, carry_out
from crawlers.fetch import fetch_generator, fetch_repo, pin_revision
from crawlers.hub_errors import DiskFullError, classify
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.generator import GeneratorSpec, WeightFile
from shards.statuses import Reason, UnitFailure

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
PIPELINE_FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
    TEXT,
    UNET,
    VAE,
}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def bodies(hub: HubServer, since: int = 0) -> dict[str, int]:
    """Return file (repo and path) to how many bytes of it were sent."""
    sent: dict[str, int] = {}
    for record in hub.requests(since):
        if record.method == "GET" and "/resolve/" in record.path:
            repo, _, rest = record.path.partition("/resolve/")
            name = f"{repo[1:]}:{rest.split('/', 1)[1]}"
            sent[name] = sent.get(name, 0) + record.sent
    return sent


def order(hub: HubServer, repo_id: str, token: str | None = None, **more: Any) -> DownloadOrder:
    return DownloadOrder(repo_id=repo_id, revision=pin_revision(repo_id, hub.endpoint, token), **more)


def reason_of(answer: dict[str, str]) -> str:
    assert answer, "the download succeeded"
    return answer["reason"]


def test_a_pipeline_is_fetched_whole_and_nothing_else_is(hub_folder: Any, tmp_path: Path) -> None:
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
    start = time.monotonic()
    again = fetch_repo("a/sd", revision, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    assert again == folder
    assert time.monotonic() - start < 0.5


def test_generators_of_a_catalog_share_what_they_share(hub_folder: Any, tmp_path: Path) -> None:
    """The text encoder and VAE of both are equal bytes: they cross the network once and lie on the disk once."""
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)
    with HubServer(hub_folder.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "out")
        first, second = eligible_generators(tmp_path / "out")
        folders = [
            fetch_generator(spec, endpoint=hub.endpoint, cache_dir=tmp_path / "cache") for spec in (first, second)
        ]
        assert [files_in(folder) for folder in folders] == [PIPELINE_FILES] * 2
        fetched = {name for name in bodies(hub, 0) if name.endswith(".safetensors")}
        assert fetched == {f"a/model-1:{name}" for name in (TEXT, UNET, VAE)} | {f"a/model-2:{UNET}"}
    for name in (TEXT, VAE):
        assert (folders[0] / name).stat().st_ino == (folders[1] / name).stat().st_ino
    assert (folders[0] / UNET).read_bytes() != (folders[1] / UNET).read_bytes()


def test_a_corrupt_blob_is_neither_kept_nor_shared(hub_folder: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}")
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        orders = [order(hub, f"a/model-{number}") for number in (1, 2)]
        assert carry_out(orders[0], hub.endpoint, cache, None) == {}
        folder = cache / "models--a--model-1" / "snapshots" / orders[0].revision
        blob = (folder / VAE).resolve()
        good = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(bytes([good[0] ^ 1]) + good[1:])  # one flipped bit, same length
        since = len(hub.requests())
        assert carry_out(orders[1], hub.endpoint, cache, None) == {}
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
        assert carry_out(ordered, hub.endpoint, cache, None) == {}
        folder = cache / "models--a--sd" / "snapshots" / ordered.revision
        good = {name: (folder / name).read_bytes() for name in (UNET, "unet/config.json", TEXT)}
        truncated, flipped, deleted = good
        (folder / truncated).resolve().write_bytes(good[truncated][:-1])
        (folder / flipped).resolve().write_bytes(b"X" + good[flipped][1:])
        (folder / deleted).resolve().unlink()
        since = len(hub.requests())
        assert carry_out(ordered, hub.endpoint, cache, None) == {}
        assert set(bodies(hub, since)) == {f"a/sd:{name}" for name in good}
        assert {name: (folder / name).read_bytes() for name in good} == good


def test_verified_blobs_are_not_read_again(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/sd")
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/sd")
        assert carry_out(ordered, hub.endpoint, tmp_path / "cache", None) == {}
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
        answer = carry_out(order(hub, "a/sd", files=(wrong,)), hub.endpoint, tmp_path / "cache", None)
    assert reason_of(answer) == Reason.checksum_mismatch


@pytest.mark.parametrize("token", [None, "hf_wrongtoken"])
def test_gated(hub_folder: Any, tmp_path: Path, token: str | None) -> None:
    hub_folder.sd("a/gated", gated="auto", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/gated")
        answer = carry_out(ordered, hub.endpoint, tmp_path / "cache", token)
        assert reason_of(answer) == Reason.gated_repo
        assert "hf_" not in answer["detail"]
        assert carry_out(ordered, hub.endpoint, tmp_path / "cache", "hf_right") == {}
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
            assert reason_of(carry_out(ordered, hub.endpoint, cache, None)) == reason, ordered


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


def test_faults_that_pass_are_outlasted(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/limited", behaviour={"rate_limit": {"requests": 2, "retry_after": 0}})
    hub_folder.sd("a/broken", behaviour={"broken_first": 1})
    hub_folder.sd("a/cut", unet=b"cut" * 500, behaviour={"cut_after_bytes": 30})
    with HubServer(hub_folder.root) as hub:
        for repo_id in ("a/limited", "a/broken", "a/cut"):
            revision = hub_revision(hub, repo_id)
            ordered = DownloadOrder(repo_id=repo_id, revision=revision)
            assert carry_out(ordered, hub.endpoint, tmp_path / "cache", None) == {}, repo_id
            folder = tmp_path / "cache" / f"models--{repo_id.replace('/', '--')}" / "snapshots" / revision
            assert files_in(folder) == PIPELINE_FILES


def hub_revision(hub: HubServer, repo_id: str) -> str:
    """Return a repo's commit from the listing, which no fault of the repo touches."""
    from huggingface_hub import HfApi

    return next(str(m.sha) for m in HfApi(hub.endpoint).list_models(full=True) if m.id == repo_id)


def test_a_trickle_ends_at_the_deadline_without_litter(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=b"slow" * 50_000, behaviour={"bytes_per_second": 3000})
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        revision = pin_revision("a/slow", hub.endpoint)
        partials = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                partials.extend(cache.rglob("*.incomplete"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        with pytest.raises(UnitFailure, match="not downloaded within 8 s") as caught:
            fetch_repo("a/slow", revision, endpoint=hub.endpoint, cache_dir=cache, timeout_seconds=8)
        took = time.monotonic() - start
        done.set()
        watcher.join()
        assert caught.value.reason is Reason.download_timeout
        assert 8 <= took < 13
        assert partials, "bytes were coming in when it ended"
        assert list(cache.rglob("*.incomplete")) == []
        assert any(":unet/config.json" in name for name in bodies(hub))


ORPHAN_SCRIPT = """
import sys
from pathlib import Path
from crawlers.fetch import fetch_repo
fetch_repo("a/slow", sys.argv[2], endpoint=sys.argv[1], cache_dir=Path(sys.argv[3]))
"""


def test_a_download_ends_with_the_process_that_wants_it(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=b"slow" * 50_000, behaviour={"bytes_per_second": 3000})
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        revision = pin_revision("a/slow", hub.endpoint)
        parent = subprocess.Popen([sys.executable, "-c", ORPHAN_SCRIPT, hub.endpoint, revision, str(cache)])
        try:
            wait_until(lambda: any(cache.rglob("*.incomplete")))
        finally:
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
        wait_until(lambda: not list(cache.rglob("*.incomplete")))


def wait_until(true: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_downloads_of_equal_weights_at_the_same_time_fetch_them_once(hub_folder: Any, tmp_path: Path) -> None:
    shared = b"the same unet" * 4000
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}", unet=shared)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root, HubOptions(bandwidth=60_000)) as hub:
        orders = [order(hub, f"a/model-{number}") for number in (1, 2)]
        code = (
            "import sys; from pathlib import Path\n"
            "from crawlers.download_order import DownloadOrder\n"
            "from crawlers.download_process import carry_out\n"
            "order = DownloadOrder.model_validate_json(sys.argv[1])\n"
            "sys.exit(bool(carry_out(order, sys.argv[2], Path(sys.argv[3]), None)))"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code, o.model_dump_json(), hub.endpoint, str(cache)])
            for o in orders
        ]
        assert [process.wait(60) for process in processes] == [0, 0]
        fetched = [name.split(":")[1] for name in bodies(hub) if name.endswith(".safetensors")]
    assert sorted(fetched) == sorted([TEXT, UNET, VAE])


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
            assert carry_out(ordered, hub.endpoint, cache, None) == {}
            folder = cache / "models--a--captioner" / "snapshots" / ordered.revision
            assert files_in(folder) - {"README.md"} == expected | more
            assert not (folder / "pytorch_model.bin").exists()


def test_odd_names_are_taken_literally(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.repo("a/odd", {"model.safetensors": b"w", "a[1]*?.json": b"{}", "a1.jsonx": b"no", "a/b é.txt": b"x"})
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/odd")
        assert carry_out(ordered, hub.endpoint, tmp_path, None) == {}
    folder = tmp_path / "models--a--odd" / "snapshots" / ordered.revision
    assert files_in(folder) == {"model.safetensors", "a[1]*?.json", "a/b é.txt"}


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
