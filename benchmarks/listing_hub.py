"""A hub that lists any number of models and holds none: pages are made up as they are asked for.

Real HTTP on a port of this machine, in a process of its own; the listing goes on by `Link` headers as the public hub's
does. Model `n` of `total` has `total - n` downloads, the task "text-to-image" for the first of every `share` models
and "text-to-video" for the others, and the tags of a real entry.
"""

import json
import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
TAGS = ["diffusers", "safetensors", "art", "stable-diffusion", "license:creativeml-openrail-m", "region:us"]
"""Of every entry, with the tag of its pipeline and its base's beside them."""


@contextmanager
def listing_hub(total: int, share: int) -> Iterator[str]:
    """Serve a listing of `total` models, 1 in `share` of them made for text-to-image; yields the endpoint."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(total, share, there), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        server.terminate()
        server.join()


def _serve(total: int, share: int, pipe: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"total": total, "share": share}))
    pipe.send(server.server_port)
    server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    total = 0
    share = 1
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/api/models":
            query = parse_qs(address.query)
            start = int(query.get("cursor", ["0"])[0])
            end = min(start + min(int(query.get("limit", [str(PAGE)])[0]), PAGE), self.total)
            headers = {}
            if end < self.total:
                where = f"http://{self.headers['Host']}/api/models?limit={PAGE}&cursor={end}"
                headers["Link"] = f'<{where}>; rel="next"'
            self._answer(200, [self._entry(number) for number in range(start, end)], headers)
        elif match := re.fullmatch(r"/api/models/([^/]+/model-\d+)", address.path):
            # A repo without files: looked at with one request.
            downloads = self.total - int(match[1].rsplit("-", 1)[1])
            info = {"id": match[1], "sha": "0" * 40, "siblings": [], "tags": ["diffusers"], "downloads": downloads}
            self._answer(200, info | {"pipeline_tag": "text-to-image", "createdAt": "2024-01-01T00:00:00.000Z"})
        else:
            self._answer(404, {"error": "Not found"})

    def _entry(self, number: int) -> dict[str, Any]:
        repo_id = f"uploader-{number % 40_009:05d}/model-{number:07d}"
        return {
            "_id": f"{number:024x}",
            "id": repo_id,
            "modelId": repo_id,
            "downloads": self.total - number,
            "likes": number % 97,
            "private": False,
            "createdAt": f"202{number % 6}-0{number % 9 + 1}-11T08:09:10.000Z",
            "library_name": "diffusers",
            "pipeline_tag": "text-to-image" if number % self.share == 0 else "text-to-video",
            "tags": [*TAGS, "diffusers:StableDiffusionPipeline", f"base_model:adapter:bases/base-{number % 1013}"],
        }

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
