"""What can go wrong between us and a hub, as types: each says by itself whether asking again can help.

The hub client's exceptions are told apart here and nowhere else, by class and status code, never by the words of a
message. Messages of these errors never hold a token, a password in a URL or the query of a signed URL.
"""

import errno
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from manifests.errors import InputError


class HubError(Exception):
    """The hub did not give what was asked for. `transient` errors may pass; the others are answers."""

    transient = False

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class RepoGoneError(HubError):
    """The repo does not exist, or not for us (the hub answers 404 or an untyped 401)."""


class RepoGatedError(HubError):
    """The repo exists and its files need access that we do not have (401 or 403)."""


class RevisionGoneError(HubError):
    """The repo exists without this revision."""


class FileGoneError(HubError):
    """The repo and revision exist without this file."""


class HubRefusedError(HubError):
    """Another definite refusal: a disabled repo, a bad request, an answer that is not JSON."""


class HubBusyError(HubError):
    """429, 5xx, or a connection that was cut or fell silent. `retry_after` is what the hub asked for, in seconds."""

    transient = True


class HubUnreachableError(HubError):
    """No connection at all: wrong address, no network, or the hub is down."""

    transient = True


class ClientClosedError(HubError):
    """Nobody waits for the answer any more: the client was closed while the request waited for its turn."""


class DiskFullError(HubError):
    """The disk that holds the cache is full, or a quota is reached."""


_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY_OF_URL = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")
_BEARER = re.compile(r"(?i)\b(bearer|authorization[:=])\s+\S+")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9_]{3,}")


def redact(text: str, token: str | None = None) -> str:
    """Return `text` without the token, anything that looks like one, URL passwords and URL queries."""
    if token:
        text = text.replace(token, "<token>")
    text = _CREDENTIALS_IN_URL.sub("", text)
    text = _QUERY_OF_URL.sub(r"\1", text)
    text = _BEARER.sub(r"\1 <token>", text)
    return _HUB_TOKEN.sub("<token>", text)


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint without a trailing slash.

    Raises:
        InputError: not an http(s) address of a host.
    """
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"endpoint = {redact(endpoint)!r}: must be an address such as https://huggingface.co")
    return endpoint.rstrip("/")


def classify(error: BaseException, token: str | None = None) -> HubError | None:
    """Return `error`, or the hub error that it was raised from, as a typed error; None if it is not the hub's.

    The hub client wraps what happened in its own "not found locally" errors, so causes are followed.
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, HubError):
            return cause
        if typed := _classify_one(cause, token):
            return typed
        cause = cause.__cause__ or cause.__context__
    return None


def _classify_one(error: BaseException, token: str | None) -> HubError | None:
    # Here, not above: the hub client takes a third of a second to import and `--help` must not wait for it.
    import httpx2
    from huggingface_hub import errors

    detail = redact(_told_by(error), token)
    for types, typed in (
        ((errors.GatedRepoError,), RepoGatedError),  # a subclass of the next, so it comes first
        ((errors.RepositoryNotFoundError,), RepoGoneError),
        ((errors.RevisionNotFoundError,), RevisionGoneError),
        ((errors.RemoteEntryNotFoundError,), FileGoneError),
        ((errors.DisabledRepoError, errors.OfflineModeIsEnabled, errors.HFValidationError), HubRefusedError),
    ):
        if isinstance(error, types):
            return typed(detail)
    if isinstance(error, errors.HfHubHTTPError):
        return _classify_status(error.response.status_code, detail, wait_asked_for(error.response.headers))
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return HubUnreachableError(detail)
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return HubRefusedError(detail)
    if isinstance(error, (httpx2.TransportError, httpx2.DecodingError)):
        return HubBusyError(f"{type(error).__name__}: {detail}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(detail)
    if type(error) is OSError and error.errno is None:
        return HubBusyError(detail)  # how the client says that a body had not the announced length
    return None


def _told_by(error: BaseException) -> str:
    """Return what the hub said, without the hub client's advice; else what the error says."""
    from huggingface_hub import errors

    if not isinstance(error, errors.HfHubHTTPError):
        return " ".join(str(error).split()) or type(error).__name__
    said = " ".join((error.server_message or "").split()) or "no message"
    return f"{error.response.status_code} {said} ({error.response.url.path})"


def _classify_status(status: int, detail: str, retry_after: float | None) -> HubError:
    if status in (401, 403):
        return RepoGatedError(detail)
    if status == 404:
        return RepoGoneError(detail)
    if status in (408, 425, 429) or status >= 500:
        return HubBusyError(detail, retry_after=retry_after)
    return HubRefusedError(detail)


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a refusal asks to wait: `RateLimit` (when nothing remains), else `Retry-After`."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = (headers.get("Retry-After") or "").strip()
    if value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
