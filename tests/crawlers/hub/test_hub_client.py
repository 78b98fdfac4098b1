"""Asking a hub: what is asked again, for how long, what is an answer, and what never reaches a message."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted_hub import scripted_hub

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import (
    FileGoneError,
    HubBusyError,
    HubError,
    HubRefusedError,
    HubUnreachableError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
    check_endpoint,
    redact,
    wait_asked_for,
)
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError

QUICK = RetryPolicy(attempts=4, first_wait=0.01)
TOKEN = "hf_SuperSecretToken"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def requests_about(hub: HubServer, path: str) -> list[int]:
    return [record.status for record in hub.requests() if record.path.split("?")[0] == path]


def test_rate_limits_are_waited_out_as_long_as_the_hub_asks(hub_folder: Any) -> None:
    hub_folder.sd("a/limited", behaviour={"rate_limit": {"requests": 2, "retry_after": 1}})
    with HubServer(hub_folder.root) as hub:
        start = time.monotonic()
        info = HubClient(hub.endpoint, policy=QUICK).model_info("a/limited")
        assert 2.0 <= time.monotonic() - start < 8.0
        assert info.id == "a/limited"
        assert requests_about(hub, "/api/models/a/limited") == [429, 429, 200]


def test_a_hub_that_asks_for_too_long_a_wait_has_refused(hub_folder: Any) -> None:
    hub_folder.sd("a/limited", behaviour={"rate_limit": {"requests": 1, "retry_after": 3600}})
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(HubBusyError) as caught:
            HubClient(hub.endpoint, policy=QUICK).model_info("a/limited")
        assert caught.value.retry_after == 3600
        assert requests_about(hub, "/api/models/a/limited") == [429]


def test_broken_and_cut_answers_are_asked_for_again(hub_folder: Any) -> None:
    hub_folder.sd("a/broken", behaviour={"broken_first": 2})
    hub_folder.sd("a/cut", behaviour={"cut_after_bytes": 20})
    with HubServer(hub_folder.root) as hub:
        client = HubClient(hub.endpoint, policy=QUICK)
        for repo_id in ("a/broken", "a/cut"):
            index = client.read_json(repo_id, "main", "model_index.json")
            assert index["_class_name"] == "StableDiffusionPipeline"
        assert requests_about(hub, "/a/broken/resolve/main/model_index.json") == [503, 503, 200]
        assert len(requests_about(hub, "/a/cut/resolve/main/model_index.json")) == 2


def test_retries_are_bounded(hub_folder: Any) -> None:
    hub_folder.sd("a/broken", behaviour={"broken_first": 100})
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(HubBusyError, match="503"):
            HubClient(hub.endpoint, policy=QUICK).read_json("a/broken", "main", "model_index.json")
        assert requests_about(hub, "/a/broken/resolve/main/model_index.json") == [503] * 4


@pytest.mark.parametrize(
    ("ask", "error", "status"),
    [
        (lambda client: client.model_info("a/nobody"), RepoGoneError, 404),
        (lambda client: client.model_info("a/deleted"), RepoGoneError, 404),
        (lambda client: client.model_info("a/fine", revision="0" * 40), RevisionGoneError, 404),
        (lambda client: client.read_json("a/fine", "main", "nothing.json"), FileGoneError, 404),
        (lambda client: client.read_json("a/gated", "main", "model_index.json"), RepoGatedError, 403),
    ],
)
def test_refusals_are_answers_and_not_asked_again(
    hub_folder: Any, ask: Callable[[HubClient], object], error: type[HubError], status: int
) -> None:
    hub_folder.sd("a/fine")
    hub_folder.sd("a/deleted", behaviour={"missing": True})
    hub_folder.sd("a/gated", gated="auto", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(error) as caught:
            ask(HubClient(hub.endpoint, token=TOKEN, policy=QUICK))
        assert [record.status for record in hub.requests()] == [status]
        assert TOKEN not in str(caught.value)
        assert str(status) in caught.value.detail


def test_the_token_opens_a_gated_repo(hub_folder: Any) -> None:
    hub_folder.sd("a/gated", gated="manual", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(RepoGatedError):
            HubClient(hub.endpoint).read_json("a/gated", "main", "model_index.json")
        assert HubClient(hub.endpoint, "hf_right").read_json("a/gated", "main", "model_index.json")


def test_no_token_of_the_environment_is_sent(hub_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    hub_folder.sd("a/gated", gated="auto", gated_token="hf_right")
    with HubServer(hub_folder.root) as hub, pytest.raises(RepoGatedError):
        HubClient(hub.endpoint).read_json("a/gated", "main", "model_index.json")


def test_the_token_does_not_follow_a_redirect_to_another_host() -> None:
    """Large files are redirected to the hub's storage, which is another's machine."""
    with scripted_hub(lambda path, number: (200, b"{}", {})) as storage:
        moved = {"Location": f"{storage.endpoint.replace('127.0.0.1', 'localhost')}/blob?signature=x"}
        with scripted_hub(lambda path, number: (302, b"", moved)) as hub:
            assert HubClient(hub.endpoint, TOKEN, QUICK).read_json("a/b", "main", "x.json") == {}
            assert hub.headers[0]["authorization"] == f"Bearer {TOKEN}"
        assert storage.paths() == ["/blob?signature=x"]
        assert not any(TOKEN in value for value in storage.headers[0].values())


def test_a_base_that_no_hub_could_have_is_not_asked_for() -> None:
    """Cards name anything as their base: it shall not become another address."""
    with scripted_hub(lambda path, number: (200, {}, {})) as hub:
        for repo_id in ("../../etc", "a b/c", "a/b?x=1", "a/b/c", ""):
            with pytest.raises(HubRefusedError, match="not a repo id"):
                HubClient(hub.endpoint, policy=QUICK).model_info(repo_id)
        assert hub.asked == []


def test_a_description_that_is_none() -> None:
    for answer in (["a", "list"], {"no": "id"}, "text", None):
        with scripted_hub(lambda path, number, answer=answer: (200, answer, {})) as hub, pytest.raises(HubRefusedError):
            HubClient(hub.endpoint, policy=QUICK).model_info("a/b")


def test_a_trickle_ends_at_the_deadline(hub_folder: Any) -> None:
    hub_folder.sd("a/slow", behaviour={"bytes_per_second": 50})
    with HubServer(hub_folder.root) as hub:
        client = HubClient(hub.endpoint, policy=RetryPolicy(attempts=1), request_seconds=1.0)
        start = time.monotonic()
        with pytest.raises(HubBusyError, match="not finished within 1 s"):
            client.read_json("a/slow", "main", "model_index.json")
        assert time.monotonic() - start < 5


def test_nobody_there(free_port: int) -> None:
    start = time.monotonic()
    with pytest.raises(HubUnreachableError):
        HubClient(f"http://127.0.0.1:{free_port}", policy=QUICK).model_info("a/b")
    assert time.monotonic() - start < 5


def test_listing_follows_pages_and_can_be_taken_up_at_any_of_them(hub_folder: Any) -> None:
    for number in range(7):
        hub_folder.sd(f"a/model-{number}", downloads=number)
    hub_folder.sd("a/other", downloads=99, library_name="transformers", tags=["diffusers-like"])
    expected = [f"a/model-{number}" for number in reversed(range(7))]
    with HubServer(hub_folder.root, HubOptions(page_size=3)) as hub:
        client = HubClient(hub.endpoint, policy=QUICK)
        pages = list(client.listing_pages())
        assert [[entry["id"] for entry in entries] for entries, _ in pages] == [
            expected[:3],
            expected[3:6],
            expected[6:],
        ]
        again = list(client.listing_pages(pages[0][1]))
        assert [entry["id"] for entries, _ in again for entry in entries] == expected[3:]
        # A mirror may name the hub it mirrors: the request, and the token in it, stay with our endpoint.
        elsewhere = str(pages[0][1]).replace(hub.endpoint, "https://hub.invalid")
        again = list(client.listing_pages(elsewhere))
        assert [entry["id"] for entries, _ in again for entry in entries] == expected[3:]


def test_a_tree_has_sizes_and_hashes(hub_folder: Any, sd_files: dict[str, Any], sha256: Any) -> None:
    hub_folder.repo("a/sd", sd_files)
    with HubServer(hub_folder.root, HubOptions(page_size=4)) as hub:
        tree = {file.path: file for file in HubClient(hub.endpoint).tree("a/sd", "main")}
    assert set(tree) == set(sd_files)
    weights = sd_files["unet/diffusion_pytorch_model.safetensors"]
    unet = tree["unet/diffusion_pytorch_model.safetensors"]
    assert (unet.size, unet.sha256, unet.blob_id) == (len(weights), sha256(weights), None)
    assert tree["model_index.json"].sha256 is None


def test_a_file_that_is_not_json(hub_folder: Any) -> None:
    hub_folder.repo("a/odd", {"model_index.json": b"{oops", "unet/config.json": b"\xff\xfe"})
    with HubServer(hub_folder.root) as hub:
        client = HubClient(hub.endpoint)
        for path in ("model_index.json", "unet/config.json"):
            with pytest.raises(ValueError):
                client.read_json("a/odd", "main", path)


def test_an_address_that_is_no_hub(hub_folder: Any) -> None:
    hub_folder.sd("a/one")
    with HubServer(hub_folder.root) as hub:
        with pytest.raises(HubError):
            list(HubClient(f"{hub.endpoint}/not/here", policy=QUICK).listing_pages())
        with pytest.raises(HubRefusedError, match="not a list"):
            list(HubClient(hub.endpoint, policy=QUICK).listing_pages(f"{hub.endpoint}/api/models/a/one"))


@pytest.mark.parametrize("endpoint", ["", "huggingface.co", "ftp://hub", "http://", "http://h:x", "file:///tmp"])
def test_what_is_no_address(endpoint: str) -> None:
    with pytest.raises(InputError, match="endpoint"):
        check_endpoint(endpoint)


def test_messages_hold_no_secret() -> None:
    text = (
        f"GET https://user:pa55@hub.example/x?X-Amz-Signature=abc failed with Bearer {TOKEN} and hf_another "
        "authorization: Basic"
    )
    clean = redact(text, TOKEN)
    for secret in ("pa55", "abc", TOKEN, "hf_another", "Basic"):
        assert secret not in clean
    assert "https://hub.example/x" in clean
    assert "odd-token" not in redact("got odd-token back", "odd-token")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "7"}, 55.0),
        ({"RateLimit": '"api";r=3;t=55', "Retry-After": "7"}, 7.0),
        ({"RateLimit": '"api";r=3;t=55'}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_how_long_a_hub_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked_for(headers) == seconds


def test_waits_grow_are_capped_and_spread() -> None:
    policy = RetryPolicy(first_wait=1.0, longest_wait=5.0)
    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)):
        waits = {policy.wait(attempt, None) for _ in range(50)}
        assert longest / 2 <= min(waits) and max(waits) <= longest
        assert len(waits) > 10
    assert all(3.0 < policy.wait(1, 3.0) < 4.0 for _ in range(50))


def test_our_own_bugs_are_not_retried() -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise KeyError("ours")

    with pytest.raises(KeyError):
        QUICK.call(broken)
    assert len(calls) == 1
