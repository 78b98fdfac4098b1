"""Whether a hub can be crawled from here: token, listing, one model, one file, and the limits that it announces.

Everything is asked through the client that a crawl uses, once and in small: four or five requests.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import HubError, HubUnreachableError, RepoGatedError, RepoGoneError, redact
from crawlers.hub.rate_limits import API, RESOLVERS
from crawlers.hub.retrying import RetryPolicy

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

POLICY = RetryPolicy(attempts=3, connections=2, first_wait=0.5, longest_asked_wait=10.0)
"""A person waits for the answer; a hub that asks for more patience says something worth knowing."""
MODELS_TRIED = 10
"""Models of the first page of which one should be open and have files."""
FILE_LIMIT = 2**20
"""Bytes of the file that is fetched, at most."""


@dataclass(frozen=True)
class HubCheck:
    """One thing looked at: `found` says what was found, or what is wrong. Never holds the token."""

    name: str
    ok: bool
    found: str


def check_hub(endpoint: str, token: str | None) -> list[HubCheck]:
    """Look at a hub; what cannot be looked at because an earlier step failed is left out.

    Raises:
        InputError: `endpoint` is no address.
    """
    client = HubClient(endpoint, token, POLICY)
    checks: list[HubCheck] = []
    try:
        listing, ids = _listing(client)
        checks += [listing, _check("hub token", lambda: _token(client))]
        checks += _model_and_file(client, ids) if listing.ok else []
    except HubUnreachableError as error:
        return [*checks, HubCheck("hub", False, f"{redact(client.endpoint, token)} does not answer: {error.detail}")]
    return [*checks, *(_quota(client, bucket) for bucket in (API, RESOLVERS) if client.limits.asked(bucket))]


def _check(name: str, look: Callable[[], str]) -> HubCheck:
    try:
        return HubCheck(name, True, look())
    except HubUnreachableError:
        raise
    except HubError as error:
        waits = f"; it asks to wait {error.retry_after:.0f} s" if error.retry_after else ""
        return HubCheck(name, False, f"{type(error).__name__.removesuffix('Error')}: {error.detail}{waits}")


def _listing(client: HubClient) -> tuple[HubCheck, list[str]]:
    """Ask for the first page, as a crawl does: what was found, and the ids of its first models."""
    started = time.monotonic()
    entries: list[Any] = []

    def look() -> str:
        page, following = next(client.listing_pages())
        entries.extend(page)
        took, more = time.monotonic() - started, "there are more" if following else "these are all"
        return f"{redact(client.endpoint, client.token)} lists {len(page)} diffusers models in {took:.2f} s, {more}"

    check = _check("hub", look)
    return check, [str(entry["id"]) for entry in entries[:MODELS_TRIED] if isinstance(entry, dict) and "id" in entry]


def _token(client: HubClient) -> str:
    if client.token is None:
        return "none: gated models will be left out (set HF_TOKEN)"
    try:
        owner = client.whoami()
    except RepoGoneError:  # 404: a mirror
        return "sent, but this hub has no accounts that could know it"
    kind = _told(owner, "auth", "accessToken", "role")
    advice = {
        "read": "which is all that is needed",
        "write": "more than is needed: one that can only read is safer",
        "fineGrained": "it needs read access to the contents of public gated repos",
    }
    return f"of {_told(owner, 'name')}, {kind} access" + (f", {advice[kind]}" if kind in advice else "")


def _told(answer: Any, *keys: str) -> str:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return str(answer) if answer else "unknown"


def _model_and_file(client: HubClient, ids: list[str]) -> list[HubCheck]:
    """Describe the first listed model that is open, and fetch its smallest file."""
    if not ids:
        return [HubCheck("hub model", False, "the listing is empty: this hub has no diffusers models")]
    refused = []
    for repo_id in ids:
        started = time.monotonic()
        try:
            info = client.model_info(repo_id)
        except (RepoGatedError, RepoGoneError) as error:
            refused.append(f"{repo_id} ({error.detail})")
            continue
        except HubUnreachableError:
            raise
        except HubError as error:
            return [HubCheck("hub model", False, f"{repo_id}: {error.detail}")]
        if info.gated or not _small_files(info):
            refused.append(f"{repo_id} ({'gated' if info.gated else 'no small file'})")
            continue
        took = time.monotonic() - started
        found = f"{repo_id} at {str(info.sha)[:12]}: {len(info.siblings or ())} files described in {took:.2f} s"
        return [HubCheck("hub model", True, found), _check("hub file", partial(_file, client, info))]
    return [HubCheck("hub model", False, f"none of the first {len(ids)} can be read: {'; '.join(refused)}")]


def _small_files(info: "ModelInfo") -> list[Any]:
    small = [file for file in info.siblings or () if file.size and file.size <= FILE_LIMIT]
    return sorted(small, key=lambda file: (file.size, file.rfilename))


def _file(client: HubClient, info: "ModelInfo") -> str:
    file = _small_files(info)[0]
    started = time.monotonic()
    data = client.read_bytes(info.id, str(info.sha), file.rfilename, FILE_LIMIT)
    took = time.monotonic() - started
    if len(data) != file.size:
        raise HubError(f"{file.rfilename}: {len(data)} bytes came, {file.size} were announced")
    return f"{file.rfilename}: {len(data)} bytes in {took:.2f} s, {_verified(file, data)}"


def _verified(file: Any, data: bytes) -> str:
    """Compare with the hash that the hub announced.

    Raises:
        HubError: they differ.
    """
    if file.lfs is not None:
        announced, found = file.lfs.sha256, hashlib.sha256(data).hexdigest()
    elif file.blob_id is not None:
        announced = file.blob_id
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return "no hash announced"
    if announced != found:
        raise HubError(f"{file.rfilename}: its bytes have not the hash that the hub announced")
    return "hash verified"


def _quota(client: HubClient, bucket: str) -> HubCheck:
    quota = client.limits.quota(bucket)
    name = f"hub limit: {bucket}"
    if quota is None:
        return HubCheck(name, True, "none announced")
    whole = f" of {quota.limit} for {quota.window_seconds} s" if quota.limit is not None else ""
    return HubCheck(
        name, quota.remaining > 0, f"{quota.remaining} requests left{whole}, new in {quota.reset_seconds} s"
    )
