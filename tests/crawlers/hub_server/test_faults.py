"""Told faults, as the real client meets them: 429, 503, a corrupt file, slow bodies, a shared link."""

import contextlib
import hashlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import parse_ratelimit_headers

from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer

Serve = Callable[..., HubServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve one repo ``owner/name`` with a behaviour; ended after the test."""
    servers: list[HubServer] = []

    def start(files: dict[str, bytes], behaviour: dict[str, object], **options: float) -> HubServer:
        repo = tmp_path / "hub" / "models" / "owner" / "name"
        repo.mkdir(parents=True)
        for name, data in files.items():
            (repo / name).write_bytes(data)
        (repo / ".hub.yaml").write_text(yaml.safe_dump({"behaviour": behaviour}))
        other = tmp_path / "hub" / "models" / "owner" / "other"
        other.mkdir()
        (other / "small.txt").write_bytes(b"small")
        servers.append(HubServer(tmp_path / "hub", HubOptions.model_validate(options)).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def get(server: HubServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


def test_rate_limit_says_how_long_to_wait_and_then_ends(serve: Serve) -> None:
    server = serve({"a.txt": b"a"}, {"rate_limit": {"requests": 2, "retry_after": 7}})
    api = HfApi(endpoint=server.endpoint, token=False)
    assert len(list(api.list_models())) == 2  # a listing is not a request about the repo
    with pytest.raises(HfHubHTTPError) as refused:
        api.model_info("owner/name")
    response = refused.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    limit = parse_ratelimit_headers(response.headers)
    assert limit is not None and (limit.remaining, limit.reset_in_seconds, limit.limit) == (0, 7, 2)
    api.model_info("owner/other")
    assert get(server, "/owner/name/resolve/main/a.txt")[0].status == 429
    assert api.model_info("owner/name").sha is not None


def test_client_waits_out_a_rate_limit(serve: Serve, tmp_path: Path) -> None:
    server = serve({"a.txt": b"a"}, {"rate_limit": {"requests": 1, "retry_after": 0}})
    path = hf_hub_download("owner/name", "a.txt", endpoint=server.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert Path(path).read_bytes() == b"a"
    assert [request.status for request in server.requests()] == [429, 200, 200]


def test_broken_at_first_then_well(serve: Serve, tmp_path: Path) -> None:
    server = serve({"a.txt": b"a"}, {"broken_first": 2})
    assert HfApi(endpoint=server.endpoint, token=False).model_info("owner/name").sha is not None
    path = hf_hub_download("owner/name", "a.txt", endpoint=server.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert Path(path).read_bytes() == b"a"
    assert [(each.method, each.status) for each in server.requests()[1:]] == [
        ("HEAD", 503), ("HEAD", 503), ("HEAD", 200), ("GET", 200)
    ]  # fmt: skip


def test_corrupt_file_differs_from_what_was_announced(serve: Serve, tmp_path: Path) -> None:
    weights = os.urandom(3_000_001)  # several pieces
    server = serve({"w.safetensors": weights, "good.bin": weights[:-9]}, {"corrupt": ["w.safetensors"]})
    (announced,) = HfApi(endpoint=server.endpoint, token=False).get_paths_info("owner/name", "w.safetensors")
    got = {}
    for name in ("w.safetensors", "good.bin"):
        path = hf_hub_download("owner/name", name, endpoint=server.endpoint, cache_dir=tmp_path / "cache", token=False)
        got[name] = Path(path).read_bytes()
    assert announced.lfs.sha256 == hashlib.sha256(weights).hexdigest()  # type: ignore[union-attr]
    assert got["good.bin"] == weights[:-9]
    assert len(got["w.safetensors"]) == len(weights)
    assert [place for place, (a, b) in enumerate(zip(got["w.safetensors"], weights, strict=True)) if a != b] == [
        3_000_000
    ]
    tail = get(server, "/owner/name/resolve/main/w.safetensors", Range="bytes=-5")[1]
    assert tail == got["w.safetensors"][-5:]


def test_cut_happens_once_in_the_first_longer_body(serve: Serve) -> None:
    server = serve({"short.bin": b"12", "long.bin": b"x" * 5000}, {"cut_after_bytes": 1000})
    assert get(server, "/owner/name/resolve/main/short.bin")[1] == b"12"
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(server, "/owner/name/resolve/main/long.bin")
    assert len(cut.value.partial) == 1000
    assert len(get(server, "/owner/name/resolve/main/long.bin")[1]) == 5000


def test_head_and_other_clients_do_not_wait_for_a_slow_body(serve: Serve) -> None:
    server = serve({"slow.bin": b"x" * 30_000}, {"bytes_per_second": 10_000})
    done: list[float] = []
    start = time.monotonic()

    def slow() -> None:
        assert len(get(server, "/owner/name/resolve/main/slow.bin")[1]) == 30_000
        done.append(time.monotonic() - start)

    thread = threading.Thread(target=slow)
    thread.start()
    while not any(request.sent for request in server.requests()):
        assert not done
    assert get(server, "/owner/name/resolve/main/slow.bin", "HEAD")[0].headers["Content-Length"] == "30000"
    assert get(server, "/owner/other/resolve/main/small.txt")[1] == b"small"
    assert not done
    thread.join()
    assert done[0] > 2.7


def test_bandwidth_is_one_link_for_all_clients(serve: Serve) -> None:
    server = serve({"a.bin": b"x" * 400_000, "b.bin": b"y" * 400_000}, {}, bandwidth=1_000_000)
    start = time.monotonic()
    threads = [
        threading.Thread(target=get, args=(server, f"/owner/name/resolve/main/{name}.bin")) for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.75 < time.monotonic() - start < 8
    assert sorted(request.sent for request in server.requests()) == [400_000, 400_000]


@pytest.mark.parametrize("where", ["server", "repo"])
def test_latency_comes_before_every_answer(serve: Serve, where: str) -> None:
    server = serve(
        {"a.txt": b"a"}, {"delay_seconds": 0.3} if where == "repo" else {}, latency=0.3 if where == "server" else 0
    )
    for path in ("/api/models/owner/name", "/owner/name/resolve/main/a.txt"):
        start = time.monotonic()
        assert get(server, path)[0].status == 200
        assert time.monotonic() - start >= 0.3
    start = time.monotonic()
    get(server, "/owner/other/resolve/main/small.txt")
    assert (time.monotonic() - start >= 0.3) == (where == "server")
