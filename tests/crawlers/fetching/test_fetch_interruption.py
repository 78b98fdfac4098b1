"""Downloads that are cut, slow, refused for a while or killed: outlasted, ended on time, gone on with."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fetching import PIPELINE_FILES, UNET, failure, files_in, hub_revision, order, partials, snapshot, wait_until

from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.fetch import fetch_repo, pin_revision
from crawlers.hub_server.server import HubServer
from shards.statuses import Reason, UnitFailure

SLOW = {"bytes_per_second": 45_000}
LARGE = random.Random(0).randbytes(300_000)


def ranges(hub: HubServer, since: int) -> list[str | None]:
    """Return which ranges of the UNet were asked for."""
    return [r.range for r in hub.requests(since) if r.method == "GET" and r.path.endswith(UNET)]


def test_faults_that_pass_are_outlasted(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/limited", behaviour={"rate_limit": {"requests": 2, "retry_after": 0}})
    hub_folder.sd("a/broken", behaviour={"broken_first": 1})
    with HubServer(hub_folder.root) as hub:
        for repo_id in ("a/limited", "a/broken"):
            ordered = DownloadOrder(repo_id=repo_id, revision=hub_revision(hub, repo_id))
            assert failure(ordered, hub.endpoint, tmp_path / "cache") == {}, repo_id
            assert files_in(snapshot(tmp_path / "cache", ordered)) == PIPELINE_FILES


def test_what_is_cut_off_is_gone_on_with(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/cut", unet=LARGE, behaviour={"cut_after_bytes": 200_000})
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/cut")
        assert failure(ordered, hub.endpoint, tmp_path / "cache") == {}
        assert (snapshot(tmp_path / "cache", ordered) / UNET).read_bytes() == LARGE
        assert ranges(hub, 0) == [None, "bytes=200000-"]


def test_the_deadline_ends_a_trickle_and_the_next_attempt_goes_on(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=LARGE, behaviour=SLOW)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/slow")
        start = time.monotonic()
        with pytest.raises(UnitFailure, match="not downloaded within 6 s") as caught:
            fetch_repo("a/slow", ordered.revision, endpoint=hub.endpoint, cache_dir=cache, timeout_seconds=6)
        assert caught.value.reason is Reason.download_timeout
        assert 6 <= time.monotonic() - start < 60
        [left] = partials(cache)
        have = left.stat().st_size
        assert LARGE.startswith(left.read_bytes()) and have > 0
        since = len(hub.requests())
        assert failure(ordered, hub.endpoint, cache) == {}
        assert ranges(hub, since) == [f"bytes={have}-"]
        assert (snapshot(cache, ordered) / UNET).read_bytes() == LARGE
        assert partials(cache) == {}


ORPHAN_SCRIPT = """
import sys
from pathlib import Path
from crawlers.fetching.fetch import fetch_repo
fetch_repo("a/slow", sys.argv[2], endpoint=sys.argv[1], cache_dir=Path(sys.argv[3]))
"""


def test_a_download_ends_with_the_process_that_wants_it(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("a/slow", unet=LARGE, behaviour=SLOW)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        revision = pin_revision("a/slow", hub.endpoint)
        parent = subprocess.Popen([sys.executable, "-c", ORPHAN_SCRIPT, hub.endpoint, revision, str(cache)])
        try:
            wait_until(lambda: sum(partials(cache).values()) > 0)
        finally:
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
        # Its child notices within half a second; from then on nothing grows, and nothing is locked.
        time.sleep(1.5)
        before = sum(partials(cache).values())
        time.sleep(0.5)
        assert sum(partials(cache).values()) == before
        assert failure(DownloadOrder(repo_id="a/slow", revision=revision), hub.endpoint, cache) == {}


def test_a_wrong_start_is_found_out_and_fetched_again(hub_folder: Any, tmp_path: Path) -> None:
    """What is left of an earlier download is only believed when the hash of the whole is right."""
    hub_folder.sd("a/sd", unet=LARGE)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/sd")
        assert failure(ordered, hub.endpoint, cache) == {}
        blob = (snapshot(cache, ordered) / UNET).resolve()
        for start, asked in (
            (b"x" * 1000, ["bytes=1000-", None]),  # other bytes
            (LARGE + b"x", [None]),  # more than there are
            (LARGE, []),  # all, but never verified
        ):
            blob.unlink()
            blob.with_name(f"{blob.name}.commforge.incomplete").write_bytes(start)
            since = len(hub.requests())
            assert failure(ordered, hub.endpoint, cache) == {}
            assert ranges(hub, since) == asked
            assert blob.read_bytes() == LARGE and partials(cache) == {}


def test_partial_files_that_nobody_writes_are_swept(hub_folder: Any, tmp_path: Path) -> None:
    """The hub client's are never gone on with; whether one is being written, its lock says."""
    from filelock import FileLock

    hub_folder.sd("a/sd")
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root) as hub:
        ordered = order(hub, "a/sd")
        blobs = cache / "models--a--sd" / "blobs"
        blobs.mkdir(parents=True)
        dead, living = blobs / f"{'1' * 64}.0a1b2c3d.incomplete", blobs / f"{'2' * 64}.0a1b2c3d.incomplete"
        other = blobs / f"{'3' * 64}.commforge.incomplete"  # of a revision that nobody wants now
        for path in (dead, living, other):
            path.write_bytes(b"partial")
        locks = cache / ".locks" / "models--a--sd"
        locks.mkdir(parents=True)
        with FileLock(locks / f"{'2' * 64}.lock"):
            assert failure(ordered, hub.endpoint, cache) == {}
        assert partials(cache).keys() == {living}
