"""One holder at a time, across processes, and the kernel frees the lock of the dead."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import InputError
from shards.run_lock import LockHolder, RunLock, RunLockHeld, lock_holder

HOLD = """
import sys, time
from pathlib import Path
from shards.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    {then}
"""


def _holder(root: Path, then: str = "time.sleep(60)") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(then=then), str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_second_process_is_told_who_holds_it_and_gets_it_when_the_holder_is_killed(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    try:
        with pytest.raises(RunLockHeld, match=f"held by process {holder.pid} on {socket.gethostname()}") as caught:
            RunLock(tmp_path).acquire()
        assert (caught.value.pid, caught.value.host) == (holder.pid, socket.gethostname())
        assert isinstance(caught.value, InputError)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with RunLock(tmp_path):
        pass


def test_a_child_forked_while_it_is_held_does_not_keep_it(tmp_path: Path) -> None:
    fork = "import os\n    if os.fork() == 0: time.sleep(60)\n    else: time.sleep(0.2); os.kill(os.getpid(), 9)"
    holder = _holder(tmp_path, fork.replace("time.sleep(60)", "os.close(1); time.sleep(3); os._exit(0)"))
    holder.communicate()
    assert holder.returncode == -signal.SIGKILL
    with RunLock(tmp_path):  # the child still sleeps
        pass


def test_not_reentrant_and_released_by_the_context(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with lock:
        for other in (lock, RunLock(tmp_path)):
            with pytest.raises(RunLockHeld, match=f"process {os.getpid()}"):
                other.acquire()
    with RunLock(tmp_path) as again:
        again.release()
        again.release()
        with RunLock(tmp_path):
            pass


def test_acquire_then_context_releases(tmp_path: Path) -> None:
    with RunLock(tmp_path).acquire():
        pass
    with RunLock(tmp_path):
        pass


ASK = """
import sys
from pathlib import Path
from shards.run_lock import lock_holder
print("asking", flush=True)
held = 0
for _ in range(20000):
    held += lock_holder(Path(sys.argv[1])) is not None
print(held, flush=True)
"""


def test_asking_who_holds_it(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    assert not list(tmp_path.iterdir()), "asking makes no file"
    with RunLock(tmp_path):
        assert lock_holder(tmp_path) == LockHolder(os.getpid(), socket.gethostname())
    assert lock_holder(tmp_path) is None, "the file stays and names the last holder, who holds it no more"
    holder = _holder(tmp_path)
    try:
        assert lock_holder(tmp_path) == LockHolder(holder.pid, socket.gethostname())
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert lock_holder(tmp_path) is None


def test_askers_are_in_no_starters_way(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        pass
    pipes = {"stdout": subprocess.PIPE, "text": True}
    askers = [subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for asker in askers:
        assert asker.stdout.readline() == "asking\n"
    while any(asker.poll() is None for asker in askers):
        with RunLock(tmp_path):  # never RunLockHeld
            pass
    assert all(int(asker.communicate()[0]) >= 0 and asker.returncode == 0 for asker in askers)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        RunLock(tmp_path / "absent").acquire()


def test_url_is_refused() -> None:
    with pytest.raises(InputError, match="s3:/"):
        RunLock(Path("s3://bucket/data"))
