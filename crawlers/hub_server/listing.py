"""The repo listing: filters, order and pages of ``GET /api/models``."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from multidict import MultiMapping

from crawlers.hub_server.errors import HubError
from crawlers.hub_server.folder import Repo

_SORTS: Mapping[str, Callable[[Repo], float]] = {
    "downloads": lambda repo: repo.settings.downloads,
    "likes": lambda repo: repo.settings.likes,
    "createdAt": lambda repo: repo.settings.created_at.timestamp(),
    "lastModified": lambda repo: _modified(repo).timestamp(),
    # Nothing trends here; the order is then by downloads.
    "trendingScore": lambda repo: repo.settings.downloads,
}
_ALIASES = {"created_at": "createdAt", "last_modified": "lastModified", "trending_score": "trendingScore"}
_TRUE, _FALSE = ("true", "1"), ("false", "0", "")


def _modified(repo: Repo) -> datetime:
    return repo.settings.last_modified or repo.settings.created_at


def flag(query: MultiMapping[str], name: str) -> bool:
    """A boolean query parameter; absent is false.

    Raises:
        HubError: 400, another value.
    """
    value = query.get(name, "").lower()
    if value not in (*_TRUE, *_FALSE):
        raise HubError(400, f"{name} must be true or false")
    return value in _TRUE


def values(query: MultiMapping[str], name: str) -> list[str]:
    """All values of a parameter given as ``a=1&a=2``, ``a[]=1`` or ``a=1,2``."""
    found = [*query.getall(name, []), *query.getall(f"{name}[]", [])]
    return [part for value in found for part in value.split(",") if part]


def number(query: MultiMapping[str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise HubError(400, f"{name} must be a whole number above 0")
    return int(text)


def selected(repos: Iterable[Repo], query: MultiMapping[str]) -> list[Repo]:
    """The repos that pass every filter of ``query``, most downloaded first unless ``sort`` says otherwise.

    Ties go by id, so the order is total and pages never overlap.

    Raises:
        HubError: 400, an unknown ``sort`` or ``direction``, or a bad boolean.
    """
    tags, author, pipeline_tag = values(query, "filter"), query.get("author"), query.get("pipeline_tag")
    words = query.get("search", "").lower().split()
    gated = flag(query, "gated") if "gated" in query else None
    found = [
        repo
        for repo in repos
        if set(tags) <= set(repo.tags)
        and (not author or repo.author.lower() == author.lower())
        and (not pipeline_tag or repo.pipeline_tag == pipeline_tag)
        and all(word in repo.id.lower() for word in words)
        and (gated is None or bool(repo.settings.gated) == gated)
    ]
    key, ascending = _order(query)
    return sorted(found, key=lambda repo: (key(repo) if ascending else -key(repo), repo.id))


def _order(query: MultiMapping[str]) -> tuple[Callable[[Repo], float], bool]:
    sort = query.get("sort", "downloads")
    sort = _ALIASES.get(sort, sort)
    if sort not in _SORTS:
        raise HubError(400, f"sort must be one of {', '.join(_SORTS)}")
    direction = query.get("direction", "-1")
    if direction not in ("-1", "1"):
        raise HubError(400, "direction must be -1 or 1")
    return _SORTS[sort], direction == "1"


def page(
    entries: list[Any], name: Callable[[Any], str], query: MultiMapping[str], size: int
) -> tuple[list[Any], str | None]:
    """Cut one page out of ordered ``entries``.

    The cursor names the last entry sent, not a number, so it cannot drift.

    Returns:
        the page, and the cursor of the next one (None on the last).

    Raises:
        HubError: 400, a cursor that this listing did not give.
    """
    start = 0
    if "cursor" in query:
        last = _decode(query["cursor"])
        places = [place for place, entry in enumerate(entries) if name(entry) == last]
        if not places:
            raise HubError(400, "Invalid cursor")
        start = places[0] + 1
    found = entries[start : start + size]
    more = start + size < len(entries)
    return found, _encode(name(found[-1])) if more else None


def _encode(last: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": last}).encode()).decode()


def _decode(cursor: str) -> str:
    try:
        return str(json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))["after"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise HubError(400, "Invalid cursor") from error
