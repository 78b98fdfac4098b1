"""What the hub answers when it says no: status, ``X-Error-Code`` and message, which clients turn into exceptions."""

import json
from typing import Any

from aiohttp import web


class HubError(Exception):
    """Ends a request with an error answer."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message, **headers} | ({"X-Error-Code": code} if code else {})

    def response(self) -> web.Response:
        body: dict[str, Any] = {"error": self.message}
        return web.Response(
            status=self.status,
            headers=self.headers,
            body=json.dumps(body).encode(),
            content_type="application/json",
            charset="utf-8",
        )


def repo_not_found() -> HubError:
    return HubError(404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {_header_safe(revision)}", "RevisionNotFound")


def entry_not_found(commit: str) -> HubError:
    # With the commit, clients remember that the file does not exist at it.
    return HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit})


def gated_repo(repo_id: str, known_user: bool) -> HubError:
    start = f"Access to model {repo_id} is restricted"
    if known_user:
        return HubError(403, f"{start} and you are not in the authorized list.", "GatedRepo")
    return HubError(401, f"{start}. You must have access to it and be authenticated to access it.", "GatedRepo")


def too_many_requests(retry_after: int, limit: int) -> HubError:
    return HubError(
        429,
        "Too many requests",
        **{
            "Retry-After": str(retry_after),
            "RateLimit": f'"api";r=0;t={retry_after}',
            "RateLimit-Policy": f'"fixed window";"api";q={limit};w=300',
        },
    )


def _header_safe(text: str) -> str:
    """``text`` without what would break a header line, and not longer than a revision may be."""
    return text.encode("ascii", "replace").decode().translate(dict.fromkeys([*range(32), 127], "?"))[:100]
