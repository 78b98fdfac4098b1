"""Parts of files: exactly the bytes that were asked for, from a hub that knows ranges and from one that does not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import FileGoneError
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer

DATA = bytes(range(256)) * 2000
QUICK = RetryPolicy(attempts=2, first_wait=0.01)
WINDOWS = [(0, 8), (8, 100), (1000, 300_000), (len(DATA) - 5, 5), (len(DATA) - 5, 50), (0, len(DATA))]


class _NoRanges(BaseHTTPRequestHandler):
    """Sends the whole file whatever is asked for, and counts what went out."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA) * 50))
        self.end_headers()
        for _ in range(50):
            try:
                self.wfile.write(DATA)
            except OSError:  # the reader has enough
                return
            self.server.sent += len(DATA)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def deaf_hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoRanges)
    server.sent = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_range_is_what_is_between(hub_folder: Any) -> None:
    hub_folder.repo("a/b", {"deep/file.safetensors": DATA})
    with HubServer(hub_folder.root) as hub:
        client = HubClient(hub.endpoint, policy=QUICK)
        for start, length in WINDOWS:
            found = client.read_range("a/b", "main", "deep/file.safetensors", start, length)
            assert found == DATA[start : start + length], (start, length)
        with pytest.raises(FileGoneError):
            client.read_range("a/b", "main", "no.safetensors", 0, 8)


def test_a_hub_without_ranges_is_read_no_further_than_wanted(deaf_hub: ThreadingHTTPServer) -> None:
    client = HubClient(f"http://127.0.0.1:{deaf_hub.server_port}", policy=QUICK)
    whole = DATA * 50
    for start, length in WINDOWS:
        assert client.read_range("a/b", "main", "file", start, length) == whole[start : start + length]
    before = deaf_hub.sent  # type: ignore[attr-defined]
    client.read_range("a/b", "main", "file", 0, 8)
    assert deaf_hub.sent - before < len(whole) / 2  # type: ignore[attr-defined]
