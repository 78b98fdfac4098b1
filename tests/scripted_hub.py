"""A hub that answers what a test tells it to: for headers and failures that a well-behaved server never shows."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, Mapping[str, str]]
"""Status, body (JSON, unless it is bytes) and headers."""


@dataclass
class ScriptedHub:
    """What was asked, in the order it came: (path with query, moment of the monotonic clock), and its headers,
    their names in lower case."""

    endpoint: str
    asked: list[tuple[str, float]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def scripted_hub(reply: Callable[[str, int], Reply]) -> Iterator[ScriptedHub]:
    """Serve `reply(path with query, number of this request)`, counted from 0."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                number = len(hub.asked)
                hub.asked.append((self.path, time.monotonic()))
                hub.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, content, headers = reply(self.path, number)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = ScriptedHub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
