"""A cache that never outgrows its budget: what counts, what goes, what stays, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crawlers.fetching.cache_contents import CacheContents
from crawlers.fetching.disk_budget import DiskBudget, NoRoomError
from crawlers.fetching.file_locks import Pins, try_lock
from crawlers.fetching.hub_cache import RepoCache
from crawlers.fetching.reservations import Claim, Reservations

LIMIT = 1000


class Cache:
    """A cache folder with repos of blobs that have no content to speak of."""

    def __init__(self, root: Path, limit: int = LIMIT) -> None:
        self.root = root
        root.mkdir()
        self.budget = DiskBudget(root, limit, CacheContents(root))
        self.clock = 0

    def repo(self, name: str, *, ours: bool = True, **blobs: int) -> Path:
        """Add blobs to a repo; it counts as the one used last."""
        cache = RepoCache(self.root, name)
        if ours:
            cache.begin()
        cache.blobs.mkdir(parents=True, exist_ok=True)
        for blob, size in blobs.items():
            (cache.blobs / blob.replace("__", ".")).write_bytes(b"x" * size)
        self.clock += 1
        if ours:
            os.utime(cache.folder / "commforge" / "used", (self.clock, self.clock))
        return cache.folder

    def reserve(self, size: int, repo: str = "a/new") -> object:
        folder = RepoCache(self.root, repo).folder.name
        return self.budget.reserve(Claim({(folder, "blob"): size}), [folder])

    @property
    def repos(self) -> set[str]:
        return {path.name.removeprefix("models--a--") for path in self.root.glob("models--*")}

    @property
    def bytes(self) -> int:
        """All bytes below the root, each inode once."""
        files = [path.lstat() for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in files}.values())


def test_a_reservation_that_ends_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends one holds no lock: it may be gone between the look at its lock and the look at its claim."""
    reservations = Reservations(tmp_path)
    ending = reservations.grant(Claim({("repo", "a"): 1}))
    kept = reservations.grant(Claim({("repo", "b"): 2}))
    looked: list[Path] = []

    def end_after(path: Path) -> object:
        file = try_lock(path)
        if not looked:
            ending.end()
        looked.append(path)
        return file

    monkeypatch.setattr("crawlers.fetching.reservations.try_lock", end_after)
    assert reservations.living() == [Claim({("repo", "b"): 2})]
    assert len(looked) == 2
    kept.end()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_the_least_recently_used_goes_and_only_when_it_must(cache: Cache) -> None:
    for name in ("a/first", "a/second", "a/third"):
        cache.repo(name, weights=300)
    RepoCache(cache.root, "a/first").touch()
    cache.reserve(100).end()
    assert cache.repos == {"first", "second", "third"}
    cache.reserve(101).end()
    assert cache.repos == {"first", "third"}, "the second: the first was used since"
    assert cache.bytes == 600


def test_what_is_pinned_stays(cache: Cache) -> None:
    cache.repo("a/old", weights=500)
    cache.repo("a/new", weights=400)
    pins = Pins(cache.root, ["models--a--old"])
    cache.reserve(500, "a/x").end()
    assert cache.repos == {"old"}
    with pytest.raises(NoRoomError, match=r"501 bytes are to be fetched.* the models in use leave 500") as caught:
        cache.reserve(501, "a/x")
    assert caught.value.ever
    assert cache.repos == {"old"}
    pins.out()
    cache.reserve(501, "a/x").end()
    assert cache.repos == set()


def test_nothing_is_removed_in_vain(cache: Cache) -> None:
    cache.repo("a/old", weights=300)
    cache.repo("a/used", weights=600)
    pins = Pins(cache.root, ["models--a--used"])
    with pytest.raises(NoRoomError):
        cache.reserve(500)
    assert cache.repos == {"old", "used"}
    pins.out()


def test_shared_blobs_count_once(cache: Cache) -> None:
    first = cache.repo("a/first", shared=400, own=100)
    second = cache.repo("a/second", own=100)
    (second / "blobs" / "shared").hardlink_to(first / "blobs" / "shared")
    cache.reserve(400).end()
    assert cache.repos == {"first", "second"}, "600 of 1000 bytes are taken, not 1000"
    cache.reserve(500).end()
    assert cache.repos == {"second"}, "only the first's own 100 are freed"
    assert cache.bytes == 500


def test_what_other_tools_brought_counts_and_stays(cache: Cache) -> None:
    cache.repo("a/theirs", ours=False, weights=300)
    data = cache.root / "datasets--b--photos" / "blobs"
    data.mkdir(parents=True)
    (data / "photos").write_bytes(b"x" * 200)
    cache.repo("a/ours", weights=300)
    cache.reserve(500).end()
    assert cache.repos == {"theirs"}
    with pytest.raises(
        NoRoomError, match="it leaves 500; 500 bytes in the cache were brought by other tools"
    ) as caught:
        cache.reserve(501)
    assert not caught.value.ever and caught.value.others == 500
    assert (data / "photos").exists()


def test_promises_count_in_full_until_they_end(cache: Cache) -> None:
    promise = cache.reserve(600, "a/coming")
    with pytest.raises(NoRoomError):
        cache.reserve(401)
    # What comes fills the promise; it is not counted twice, whether on its way or there.
    cache.repo("a/coming", blob__0123__incomplete=350)
    cache.reserve(400).end()
    cache.repo("a/coming", blob=600)
    (cache.root / "models--a--coming" / "blobs" / "blob.0123.incomplete").unlink()
    pins = Pins(cache.root, ["models--a--coming"])
    cache.reserve(400).end()
    promise.end()
    cache.reserve(400).end()
    with pytest.raises(NoRoomError):
        cache.reserve(401)
    pins.out()


RESERVE_AND_HANG = """
import sys, time
from pathlib import Path
from crawlers.fetching.cache_contents import CacheContents
from crawlers.fetching.disk_budget import DiskBudget
from crawlers.fetching.file_locks import Pins
from crawlers.fetching.reservations import Claim
root = Path(sys.argv[1])
pins = Pins(root, ["models--a--pinned"])
promise = DiskBudget(root, 1000, CacheContents(root)).reserve(Claim({("models--a--coming", "blob"): 600}), [])
(root / "models--a--coming" / "blobs" / "blob.incomplete").write_bytes(b"x" * 100)
print("ready", flush=True)
time.sleep(60)
"""


def test_promises_and_pins_end_with_their_process(cache: Cache) -> None:
    cache.repo("a/pinned", weights=300)
    cache.repo("a/coming")
    process = subprocess.Popen([sys.executable, "-c", RESERVE_AND_HANG, str(cache.root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(NoRoomError):
            cache.reserve(200)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    cache.reserve(600).end()
    assert cache.repos == {"pinned", "coming"}, "300 and the 100 that had come: nothing had to go"
    cache.reserve(650).end()
    assert cache.repos == {"pinned", "coming"} and cache.bytes == 300, "the orphaned partial file, before any model"
    cache.reserve(1000).end()
    assert "pinned" not in cache.repos


def test_a_partial_file_that_is_being_written_stays(cache: Cache) -> None:
    """By another tool, into a repo that is ours: its lock says so."""
    from filelock import FileLock

    cache.repo("a/ours", weights=300, blob__77__incomplete=300)
    (cache.root / ".locks" / "models--a--ours").mkdir()
    with FileLock(cache.root / ".locks" / "models--a--ours" / "blob.lock"), pytest.raises(NoRoomError):
        cache.reserve(500)
    assert cache.bytes >= 600
    cache.reserve(500).end()
    assert cache.bytes == 300


def test_an_evictor_that_was_killed_is_cleaned_up_after(cache: Cache) -> None:
    """It had moved a repo away and removed half of it."""
    trash = cache.root / ".locks" / "commforge" / "trash" / "models--a--old-1234"
    trash.mkdir(parents=True)
    (trash / "weights").write_bytes(b"x" * 900)
    cache.reserve(1000).end()
    assert cache.bytes == 0


def test_removed_by_hand_is_room_again(cache: Cache) -> None:
    cache.repo("a/one", weights=800)
    pins = Pins(cache.root, ["models--a--one"])
    with pytest.raises(NoRoomError):
        cache.reserve(300)
    (cache.root / "models--a--one" / "blobs" / "weights").unlink()
    cache.reserve(300).end()
    pins.out()


def test_looking_again_at_many_repos_reads_only_what_changed(cache: Cache) -> None:
    """Five hundred repos: the second look costs two `stat` calls for each, and sees every change all the same."""
    for number in range(500):
        cache.repo(f"a/m{number}", one=1, two=1)
    long_ago = time.time() - 60
    for folder in cache.root.glob("models--*/blobs"):
        os.utime(folder, (long_ago, long_ago))
    contents = CacheContents(cache.root)
    contents.refresh()
    before = contents.parts
    (cache.root / "models--a--m7" / "blobs" / "three").write_bytes(b"x" * 5)
    contents.refresh()
    after = contents.parts
    assert {name for name in after if after[name] is not before.get(name) and name.startswith("models")} == {
        "models--a--m7"
    }
    assert contents.holders("three") == ["models--a--m7"] and len(contents.holders("one")) == 500
    assert sum(after["models--a--m7"].inodes.values()) == 7
