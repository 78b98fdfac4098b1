"""The hub on the wire: nothing outside the repos is reachable, nothing can be written, ranges and headers are right."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlers.hub_server.errors import HubError
from crawlers.hub_server.file_body import asked_range
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer

DATA = bytes(range(100))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    (root.parent / "secret.txt").write_text("SECRET")
    (root / "secret.txt").write_text("SECRET")
    for kind in ("models", "datasets"):
        repo = root / kind / "owner" / "name"
        (repo / "sub").mkdir(parents=True)
        (repo / "w.bin").write_bytes(DATA)
        (repo / "page.html").write_text("<script>alert(1)</script>")
        (repo / "sub" / "x.json").write_text("{}")
        (repo / ".hub.yaml").write_text("gated_token: SECRET\n")
        (repo / ".git").mkdir()
        (repo / ".git" / "config").write_text("SECRET")
    with HubServer(root, HubOptions(page_size=2)) as server:
        yield server


def ask(
    hub: HubServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    answer = response.status, dict(response.headers), response.read()
    connection.close()
    return answer


def raw(hub: HubServer, target: str) -> bytes:
    """Send ``target`` as it stands: no client library to tidy it up."""
    where = urlsplit(hub.endpoint)
    with socket.create_connection((where.hostname, where.port), timeout=10) as wire:
        wire.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while chunk := wire.recv(65536):
            answer += chunk
    return answer


FORBIDDEN = [
    ".hub.yaml",
    ".git/config",
    "sub/../.hub.yaml",
    "../../../secret.txt",
    "../../../../secret.txt",
    "/etc/passwd",
]


@pytest.mark.parametrize("prefix", ["/owner/name/resolve/main/", "/datasets/owner/name/resolve/main/"])
@pytest.mark.parametrize("name", FORBIDDEN)
def test_nothing_but_the_files_of_a_repo_is_reachable(hub: HubServer, prefix: str, name: str) -> None:
    spellings = {
        name,
        name.replace(".", "%2e"),
        name.replace("/", "%2f"),
        name.replace(".", "%2E").replace("/", "%2F"),
        name.replace("..", "%252e%252e"),
        name.replace("/", "\\"),
        name.replace("/", "%5c"),
        name.replace("/", "//"),
        f"{name}%00.json",
        f"w.bin/{name}",
        f"sub/./{name}",
    }
    for spelling in spellings:
        answer = raw(hub, prefix + spelling)
        assert answer.split(b" ")[1] in (b"400", b"404"), spelling
        assert b"SECRET" not in answer and b"root:" not in answer


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt", "/secret.txt", "/models/owner/name/w.bin", "/%2e%2e/secret.txt", "/.hub-hashes.json",
        "/../../etc/passwd", "/api/models/../../secret.txt", "/api/models/owner/..%2f..%2fsecret.txt", "//secret.txt",
        "/owner/name/resolve/../w.bin", "/owner%2fname/resolve/main/w.bin", "/../name/resolve/main/w.bin",
        "/api/models/owner/name/tree/main/..", "/api/models/owner/name/tree/main/%2e%2e%2f%2e%2e", "/api/models/owner",
        "/owner/name", "/api/spaces", "/", "/api", "/-/other",
    ],
)  # fmt: skip
def test_unknown_paths_answer_404(hub: HubServer, target: str) -> None:
    answer = raw(hub, target)
    assert answer.split(b" ")[1] in (b"400", b"404")
    assert b"SECRET" not in answer and b"root:" not in answer


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "..",
                ".",
                "%2e%2e",
                "%2f",
                "owner",
                "name",
                "resolve",
                "main",
                "models",
                "secret.txt",
                ".hub.yaml",
                "%",
                "é",
            ]
        ),
        max_size=9,
    )
)
def test_no_mixture_of_path_parts_leaks_or_crashes(hub: HubServer, parts: list[str]) -> None:
    answer = raw(hub, "/" + "/".join(parts).encode().decode("latin-1"))
    assert answer.split(b" ")[1][:1] in (b"2", b"4"), answer
    assert b"SECRET" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MOVE"])
@pytest.mark.parametrize(
    "path",
    ["/owner/name/resolve/main/w.bin", "/api/models", "/api/repos/create", "/api/models/owner/name/commit/main", "/x"],
)
def test_every_write_answers_405(hub: HubServer, method: str, path: str) -> None:
    status, headers, _ = ask(hub, path, method, b"x")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_headers_of_a_file(hub: HubServer) -> None:
    status, headers, body = ask(hub, "/owner/name/resolve/main/w.bin", "HEAD")
    commit = json.loads(ask(hub, "/api/models/owner/name")[2])["sha"]
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == headers["X-Linked-Size"] == "100"
    assert headers["ETag"] == headers["X-Linked-Etag"]
    assert (headers["X-Repo-Commit"], headers["Accept-Ranges"]) == (commit, "bytes")
    assert not any("xet" in f"{name}: {value}".lower() for name, value in headers.items())
    assert ask(hub, "/owner/name/resolve/main/w.bin", **{"If-None-Match": headers["ETag"]})[0] == 304
    page = ask(hub, "/owner/name/resolve/main/page.html")[1]
    assert page["Content-Type"].startswith("text/plain") and "X-Linked-Size" not in page


@pytest.mark.parametrize(
    ("header", "want"),
    [
        ("bytes=0-9", DATA[:10]), ("bytes=90-", DATA[90:]), ("bytes=-7", DATA[-7:]), ("bytes=-700", DATA),
        ("bytes=50-5000", DATA[50:]), ("bytes=99-99", DATA[99:]),
    ],
)  # fmt: skip
def test_ranges(hub: HubServer, header: str, want: bytes) -> None:
    status, headers, body = ask(hub, "/owner/name/resolve/main/w.bin", Range=header)
    assert (status, body) == (206, want)
    start = DATA.index(want)
    assert headers["Content-Range"] == f"bytes {start}-{start + len(want) - 1}/100"
    assert headers["Content-Length"] == str(len(want))


def test_ranges_that_cannot_be_had_or_are_not_understood(hub: HubServer) -> None:
    for header in ("bytes=100-", "bytes=-0"):
        status, headers, _ = ask(hub, "/owner/name/resolve/main/w.bin", Range=header)
        assert (status, headers["Content-Range"]) == (416, "bytes */100")
    for header in ("bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "nonsense"):
        assert ask(hub, "/owner/name/resolve/main/w.bin", Range=header)[::2] == (200, DATA)
    stale = ask(hub, "/owner/name/resolve/main/w.bin", Range="bytes=5-", **{"If-Range": '"other"'})
    assert stale[::2] == (200, DATA)


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_range_equals_slicing(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    try:
        found = asked_range(f"bytes={first}-{last}", size)
    except HubError as refusal:
        assert refusal.status == 416 and data[first : last + 1] == b"" and first <= last
    else:
        assert (data[slice(*found)] if found else data) == (data[first : last + 1] if first <= last else data)


def test_errors_carry_the_codes_that_clients_read(hub: HubServer) -> None:
    for path, code in {
        "/api/models/owner/nothing": "RepoNotFound",
        "/api/models/owner/name/revision/dev": "RevisionNotFound",
        "/owner/name/resolve/main/nope": "EntryNotFound",
    }.items():
        status, headers, body = ask(hub, path)
        assert (status, headers["X-Error-Code"]) == (404, code)
        assert json.loads(body)["error"] == headers["X-Error-Message"]
    assert ask(hub, "/api/models", Authorization="Basic eDp5")[0] == 401


@pytest.mark.parametrize(
    "query", ["cursor=zzz", "cursor=eyJhIjoxfQ==", "limit=0", "limit=x", "full=maybe", "expand=colour", "direction=2"]
)
def test_bad_queries_answer_400(hub: HubServer, query: str) -> None:
    assert ask(hub, f"/api/models?{query}")[0] == 400


def test_next_page_is_linked_at_the_address_that_was_used(hub: HubServer) -> None:
    status, headers, body = ask(hub, "/api/models/owner/name/tree/main?recursive=true", Host="mirror.example:81")
    assert status == 200
    assert headers["Link"].startswith(
        "<http://mirror.example:81/api/models/owner/name/tree/main?recursive=true&cursor="
    )
    assert headers["Link"].endswith('>; rel="next"')
    path = headers["Link"].split("mirror.example:81")[1].split(">")[0]
    status, rest, more = ask(hub, path)
    assert [entry["path"] for entry in json.loads(body) + json.loads(more)] == [
        "page.html",
        "sub",
        "sub/x.json",
        "w.bin",
    ]
    assert "Link" not in rest


def test_file_that_changes_under_the_hub_is_not_sent_under_the_old_hash(tmp_path: Path) -> None:
    repo = tmp_path / "models" / "owner" / "name"
    repo.mkdir(parents=True)
    (repo / "w.bin").write_bytes(b"old")
    (repo / "gone.bin").write_bytes(b"old")
    with HubServer(tmp_path) as server:
        (repo / "w.bin").write_bytes(b"newer")
        (repo / "gone.bin").unlink()
        for name in ("w.bin", "gone.bin"):
            status, _, body = ask(server, f"/owner/name/resolve/main/{name}")
            assert status == 500 and b"newer" not in body
