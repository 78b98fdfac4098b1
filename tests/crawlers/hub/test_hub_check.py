"""What `doctor --hub` finds at hubs of every kind, with few requests and no word of the token."""

from typing import Any

import pytest
from scripted_hub import scripted_hub

from crawlers.hub.hub_check import HubCheck, check_hub
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError

TOKEN = "hf_SuperSecretToken"


def by_name(checks: list[HubCheck]) -> dict[str, HubCheck]:
    assert len({check.name for check in checks}) == len(checks)
    assert not any(TOKEN in check.found for check in checks)
    return {check.name: check for check in checks}


def test_a_hub_that_can_be_crawled(hub_folder: Any) -> None:
    hub_folder.sd("a/gated", downloads=9, gated="auto")
    hub_folder.sd("a/deleted", downloads=8, behaviour={"missing": True})
    hub_folder.sd("a/open", downloads=7)
    with HubServer(hub_folder.root) as hub:
        checks = by_name(check_hub(hub.endpoint, TOKEN))
        asked = [record.path.split("?")[0] for record in hub.requests()]
    assert list(checks) == ["hub", "hub token", "hub model", "hub file", "hub limit: api", "hub limit: resolvers"]
    assert all(check.ok for check in checks.values())
    assert checks["hub"].found.startswith(f"{hub.endpoint} lists 3 diffusers models in ")
    assert checks["hub token"].found == "of reader, read access, which is all that is needed"
    assert checks["hub model"].found.startswith("a/open at ")
    assert checks["hub file"].found.startswith("tokenizer/vocab.json: 8 bytes in ")
    assert checks["hub file"].found.endswith("hash verified")
    assert checks["hub limit: api"].found == "none announced"
    assert asked[:5] == ["/api/models", "/api/whoami-v2", *(f"/api/models/a/{n}" for n in ("gated", "deleted", "open"))]
    assert len(asked) == 6 and asked[5].startswith("/a/open/resolve/")


def test_without_a_token_nobody_is_asked_whose_it_is(hub_folder: Any) -> None:
    hub_folder.sd("a/open")
    with HubServer(hub_folder.root) as hub:
        checks = by_name(check_hub(hub.endpoint, None))
        assert not any("whoami" in record.path for record in hub.requests())
    assert checks["hub token"] == HubCheck("hub token", True, "none: gated models will be left out (set HF_TOKEN)")


def test_nobody_there() -> None:
    (check,) = check_hub("http://user:secret@127.0.0.1:9", TOKEN)
    assert (check.name, check.ok) == ("hub", False)
    assert check.found.startswith("http://127.0.0.1:9 does not answer") and "secret" not in check.found
    with pytest.raises(InputError, match="endpoint"):
        check_hub("no address", None)


LIMIT = {"RateLimit": '"api";r=420;t=111', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
INFO = {"id": "a/b", "sha": "5" * 40, "siblings": [{"rfilename": "x.json", "size": 2, "blobId": "0" * 40}]}


def answers(**changed: Any) -> Any:
    """A hub of one model whose answers can be changed: listing, whoami, info, file."""
    usual = {
        "listing": (200, [{"id": "a/b", "downloads": 1}], LIMIT),
        "whoami": (200, {"name": "me", "auth": {"accessToken": {"role": "fineGrained"}}}, {}),
        "info": (200, INFO, {}),
        "file": (200, b"{}", {}),
    } | changed

    def reply(path: str, number: int) -> Any:
        for part, words in (("listing", "/api/models?"), ("whoami", "/api/whoami"), ("info", "/api/models/")):
            if path.startswith(words):
                return usual[part]
        return usual["file"]

    return reply


GIT_HASH_OF_BRACES = "9e26dfeeb6e641a33dae4961196235bdb965b21b"


@pytest.mark.parametrize(
    ("changed", "name", "ok", "words"),
    [
        ({}, "hub limit: api", True, "420 requests left of 500 for 300 s, new in 111 s"),
        ({}, "hub token", True, "of me, fineGrained access, it needs read access to the contents"),
        ({"whoami": (401, {"error": "bad"}, {})}, "hub token", False, "401"),
        ({"whoami": (404, {"error": "none"}, {})}, "hub token", True, "this hub has no accounts"),
        ({"whoami": (200, ["odd"], {})}, "hub token", False, "cannot be read"),
        ({"listing": (200, [], {})}, "hub model", False, "the listing is empty"),
        ({"listing": (200, {"no": "list"}, {})}, "hub", False, "is not a list"),
        ({"listing": (404, {"error": "what"}, {})}, "hub", False, "404"),
        ({"listing": (429, {}, {"Retry-After": "290"})}, "hub", False, "it asks to wait 290 s"),
        (
            {"info": (200, {"id": "a/b"}, {})},
            "hub model",
            False,
            "none of the first 1 can be read: a/b (no small file)",
        ),
        ({"info": (500, {}, {})}, "hub model", False, "500"),
        ({"file": (200, b"{}!", {})}, "hub file", False, "3 bytes came, 2 were announced"),
        ({"file": (200, b"[]", {})}, "hub file", False, "have not the hash"),
        ({"file": (403, {"error": "no"}, {})}, "hub file", False, "403"),
        (
            {"info": (200, INFO | {"siblings": [INFO["siblings"][0] | {"blobId": GIT_HASH_OF_BRACES}]}, {})},  # type: ignore[index]
            "hub file",
            True,
            "hash verified",
        ),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], name: str, ok: bool, words: str) -> None:
    with scripted_hub(answers(**changed)) as hub:
        check = by_name(check_hub(hub.endpoint, TOKEN))[name]
    assert check.ok is ok, check
    assert words in check.found
