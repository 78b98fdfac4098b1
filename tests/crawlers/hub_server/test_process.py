"""The life of a hub process: ready when entered, gone when left, gone when its caller is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from crawlers.hub_server.server import HubServer, serve
from manifests.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models" / "owner" / "name").mkdir(parents=True)
    (tmp_path / "models" / "owner" / "name" / "big.bin").write_bytes(b"x" * (8 << 20))
    return tmp_path


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody reaped is dead all the same.
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True


def wait_until_gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < deadline, "the hub outlived its caller"
        time.sleep(0.05)


def test_answers_when_entered_and_has_ended_when_left(root: Path) -> None:
    with HubServer(root) as server:
        pid, endpoint = server.pid, server.endpoint
        assert json.load(urllib.request.urlopen(f"{endpoint}/api/models/owner/name"))["id"] == "owner/name"
        assert server.requests()[0].path == "/api/models/owner/name"
    assert not alive(pid)
    with pytest.raises(OSError):
        urllib.request.urlopen(endpoint)


def test_ends_promptly_while_a_body_is_being_sent(root: Path) -> None:
    # 8 MiB that take 140 minutes.
    (root / "models" / "owner" / "name" / ".hub.yaml").write_text("behaviour: {bytes_per_second: 1000}")
    with HubServer(root) as server:
        body = urllib.request.urlopen(f"{server.endpoint}/owner/name/resolve/main/big.bin")
        assert body.read(1)
        os.kill(server.pid, signal.SIGTERM)
        wait_until_gone(server.pid, 60)


def test_ends_when_an_exception_leaves_the_block(root: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), HubServer(root) as server:
        pid = server.pid
        raise RuntimeError("mine")
    assert not alive(pid)


def test_ends_when_its_caller_is_killed(root: Path) -> None:
    code = (
        "import sys, time\nfrom crawlers.hub_server.server import HubServer\n"
        "with HubServer(sys.argv[1]) as server:\n    print(server.pid, flush=True)\n    time.sleep(60)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    assert alive(pid)
    caller.kill()
    caller.communicate()
    wait_until_gone(pid, 20)


def test_busy_port(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1:{port}: another program uses this port"):
            serve(root, port=port)
        with pytest.raises(InputError, match="another program uses this port"), HubServer(root, port=port):
            pass


def test_folder_that_is_no_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no repo"), HubServer(tmp_path):
        pass
    with pytest.raises(InputError, match="no such folder"):
        serve(tmp_path / "nowhere", port=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_on_a_signal(root: Path, number: signal.Signals) -> None:
    code = (
        "import sys\nfrom crawlers.hub_server.server import serve\n"
        "serve(sys.argv[1], port=0, ready=lambda endpoint: print(endpoint, flush=True))\nprint('closed')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    endpoint = process.stdout.readline().strip()
    assert json.load(urllib.request.urlopen(f"{endpoint}/api/models"))[0]["id"] == "owner/name"
    with pytest.raises(urllib.error.HTTPError):  # the log of requests is not public
        urllib.request.urlopen(f"{endpoint}/-/requests")
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "closed\n", "")


def test_importing_the_server_stays_cheap() -> None:
    code = "import sys, crawlers.hub_server.server; print({'aiohttp', 'torch', 'huggingface_hub'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_working_folder_cannot_shadow_the_hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("crawlers", "json", "aiohttp"):
        (work / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(work)
    with HubServer(os.path.relpath(root)) as server:
        assert server.requests() == []
