"""Faults that a running hub is told to show: what a client meets, how often, and who may tell it."""

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from crawlers.hub_server.faults import Fault
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer

BODY = bytes(range(256)) * 100
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    for repo in ("one/model", "two/model"):
        (root / "models" / repo).mkdir(parents=True)
        (root / "models" / repo / "weights.safetensors").write_bytes(BODY)
        (root / "models" / repo / "small.json").write_bytes(b"{}")
    return root


@pytest.fixture
def hub(folder: Path) -> Iterator[HubServer]:
    with HubServer(folder, HubOptions(fault_token="secret")) as server:
        yield server


def _get(hub: HubServer, repo: str, name: str = "weights.safetensors") -> tuple[int, bytes, dict[str, str]]:
    try:
        with OPENER.open(f"{hub.endpoint}/{repo}/resolve/main/{name}", timeout=30) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(), dict(refusal.headers)


def test_nothing_goes_wrong_before_it_is_told_to(hub: HubServer) -> None:
    assert _get(hub, "one/model")[:2] == (200, BODY)
    assert hub.shown() == {}


def test_a_rate_limit_and_an_outage_are_shown_as_often_as_told_and_to_the_repo_that_was_named(hub: HubServer) -> None:
    limit = hub.arm(Fault(kind="rate_limit", repo="one/model", times=2, retry_after=7))
    outage = hub.arm(Fault(kind="broken", repo="one/model"))
    assert _get(hub, "two/model")[0] == 200
    status, _, headers = _get(hub, "one/model")
    assert (status, headers["Retry-After"]) == (429, "7")
    assert hub.shown() == {limit: 1, outage: 0}
    assert [_get(hub, "one/model")[0] for _ in range(3)] == [429, 503, 200]
    assert hub.shown() == {limit: 2, outage: 1}


def test_an_outage_begins_with_a_request_and_spares_nobody_until_it_is_over(hub: HubServer) -> None:
    out = hub.arm(Fault(kind="outage", repo="one/model", seconds=1.0))
    assert _get(hub, "two/model")[0] == 200
    assert _get(hub, "one/model")[0] == 503
    began = time.monotonic()
    assert _get(hub, "two/model")[0] == 503
    with pytest.raises(urllib.error.HTTPError, match="503"):
        OPENER.open(f"{hub.endpoint}/api/models", timeout=30)
    assert hub.shown() == {out: 1}
    while _get(hub, "two/model")[0] == 503:
        assert time.monotonic() - began < 30
        time.sleep(0.1)
    assert time.monotonic() - began > 0.5
    assert _get(hub, "one/model")[:2] == (200, BODY), "it comes once"


def test_a_cut_waits_for_a_body_that_is_long_enough(hub: HubServer) -> None:
    cut = hub.arm(Fault(kind="cut", after_bytes=1000))
    assert _get(hub, "one/model", "small.json")[1] == b"{}"
    with pytest.raises(Exception, match=r"IncompleteRead\(1000 bytes") as broken:
        _get(hub, "one/model")
    assert type(broken.value).__name__ == "IncompleteRead"
    assert hub.shown() == {cut: 1}
    assert _get(hub, "one/model")[1] == BODY


def test_a_corrupt_body_has_the_announced_length_and_hash_and_other_bytes_once(hub: HubServer) -> None:
    hub.arm(Fault(kind="corrupt", repo="two/model"))
    assert _get(hub, "one/model")[1] == BODY
    _, body, headers = _get(hub, "two/model")
    assert len(body) == len(BODY) and body[:-1] == BODY[:-1] and body[-1] != BODY[-1]
    assert headers["X-Linked-Etag"].strip('"') == hashlib.sha256(BODY).hexdigest()
    assert _get(hub, "two/model")[1] == BODY


def test_a_slow_body_comes_whole(hub: HubServer) -> None:
    slow = hub.arm(Fault(kind="slow", bytes_per_second=200_000))
    assert _get(hub, "one/model")[1] == BODY
    assert hub.shown() == {slow: 1}


def test_a_fault_spares_as_many_requests_as_it_is_told(hub: HubServer) -> None:
    hub.arm(Fault(kind="broken", repo="one/model", after=2, times=2))
    assert _get(hub, "two/model")[0] == 200
    assert [_get(hub, "one/model")[0] for _ in range(5)] == [200, 200, 503, 503, 200]


def test_disarmed_faults_are_not_shown_and_stay_counted(hub: HubServer) -> None:
    broken = hub.arm(Fault(kind="broken", times=5))
    assert _get(hub, "one/model")[0] == 503
    hub.disarm()
    assert _get(hub, "one/model")[0] == 200
    assert hub.shown() == {broken: 1}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_without_the_token_the_faults_are_neither_told_nor_set(
    hub: HubServer, method: str, headers: dict[str, str]
) -> None:
    body = Fault(kind="broken").model_dump_json().encode() if method == "POST" else None
    request = urllib.request.Request(f"{hub.endpoint}/-/faults", body, headers, method=method)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        OPENER.open(request, timeout=30)
    assert hub.shown() == {}


def test_a_fault_that_makes_no_sense_is_refused_by_key(hub: HubServer) -> None:
    body = json.dumps({"kind": "broken", "times": 0}).encode()
    headers = {"Authorization": "Bearer secret"}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        OPENER.open(urllib.request.Request(f"{hub.endpoint}/-/faults", body, headers), timeout=30)
    assert refusal.value.code == 400
    assert refusal.value.headers["X-Error-Message"].startswith("times: ")
    with pytest.raises(ValidationError):
        Fault.model_validate({"kind": "unheard_of"})


def test_a_server_without_a_token_has_no_such_address(folder: Path) -> None:
    with HubServer(folder) as plain:
        body = Fault(kind="broken").model_dump_json().encode()
        for method, sent in (("GET", None), ("POST", body), ("DELETE", None)):
            request = urllib.request.Request(f"{plain.endpoint}/-/faults", sent, method=method)
            with pytest.raises(urllib.error.HTTPError) as refusal:
                OPENER.open(request, timeout=30)
            assert refusal.value.code == (404 if method == "GET" else 405)
        assert _get(plain, "one/model")[:2] == (200, BODY)
