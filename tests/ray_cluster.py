"""A Ray cluster of one's own on this machine, as an address: drivers come and go, it stays."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def ray_cluster(log: Path, environment: Mapping[str, str], cpus: int = 3) -> Iterator[str]:
    """Start a cluster whose processes, and so all workers, have this environment; end all of it on leaving."""
    ray = Path(sys.executable).with_name("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets need a short path
    command = [str(ray), "start", "--head", "--port=0", f"--num-cpus={cpus}", "--include-dashboard=false", "--block"]
    command += ["--disable-usage-stats", f"--temp-dir={folder}", "--object-store-memory=200000000"]
    with log.open("ab") as words:
        process = subprocess.Popen(
            command,
            stdout=words,
            stderr=words,
            env={**environment, "RAY_AUTH_MODE": "token"},
            start_new_session=True,
        )
    try:
        yield _address(process, folder)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(30)
        for member in family:
            if member.is_running():
                member.kill()
        shutil.rmtree(folder, ignore_errors=True)  # what was killed just now may still be writing its last lines


def _address(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    current = folder / "ray_current_cluster"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the cluster did not start"
        if current.exists() and (address := current.read_text().strip()):
            return address
        time.sleep(0.2)
    raise TimeoutError("no Ray cluster after 60 s")
