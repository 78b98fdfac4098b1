"""Who may see which repo, and the faults that a repo was told to show."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from crawlers.hub_server import errors
from crawlers.hub_server.errors import HubError
from crawlers.hub_server.faults import FaultBoard
from crawlers.hub_server.folder import HubFolder, Repo, RepoType
from crawlers.hub_server.pacing import Link


def bearer_token(request: web.Request) -> str | None:
    """The token of ``Authorization: Bearer``; None for an anonymous client.

    Raises:
        HubError: another scheme or an empty token (401, as the hub does).
    """
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise HubError(401, "Invalid credentials in Authorization header")
    return token.strip()


@dataclass
class _Faults:
    """Counters of one repo since the server started."""

    limited: int = 0
    broken: int = 0
    cut: bool = False
    link: Link | None = field(default=None)


class Visitors:
    """Lets requests in to repos, or raises the refusal that the hub would answer.

    Attributes:
        board: faults that were armed while the server runs, beside those that the repos' settings tell.
    """

    def __init__(self, folder: HubFolder) -> None:
        self.board = FaultBoard()
        self._folder = folder
        self._faults: dict[tuple[RepoType, str], _Faults] = {}

    def faults(self, repo: Repo) -> _Faults:
        faults = self._faults.get((repo.kind, repo.id))
        if faults is None:
            rate = repo.settings.behaviour.bytes_per_second
            faults = self._faults[repo.kind, repo.id] = _Faults(link=Link(rate) if rate else None)
        return faults

    def visible(self, kind: RepoType, token: str | None) -> list[Repo]:
        """The repos that a listing shows: deleted ones still, private ones only with their token."""
        repos = self._folder.repos[kind].values()
        return [repo for repo in repos if not repo.settings.private or repo.opened_by(token)]

    async def enter(self, kind: RepoType, repo_id: str, token: str | None) -> Repo:
        """Return the repo, after its delay.

        Raises:
            HubError: 404 unknown, deleted, or private without its token; 429 while it is rate limited; 503 when told.
        """
        repo = self._folder.repos[kind].get(repo_id)
        if repo is None or (repo.settings.private and not repo.opened_by(token)):
            raise errors.repo_not_found()
        behaviour = repo.settings.behaviour
        if behaviour.delay_seconds:
            await asyncio.sleep(behaviour.delay_seconds)
        limit = behaviour.rate_limit
        faults = self.faults(repo)
        if limit is not None and faults.limited < limit.requests:
            faults.limited += 1
            raise errors.too_many_requests(limit.retry_after, limit.requests)
        if (armed := self.board.take("rate_limit", repo_id)) is not None:
            raise errors.too_many_requests(armed.fault.retry_after, armed.fault.times)
        if self.board.go_out(repo_id) or self.board.take("broken", repo_id) is not None:
            raise HubError(503, "Service Unavailable")
        if behaviour.missing:
            raise errors.repo_not_found()
        return repo

    def may_read(self, repo: Repo, token: str | None) -> None:
        """Check that the files of ``repo`` are open to ``token``.

        Raises:
            HubError: 401 (anonymous) or 403 for a gated repo.
        """
        if repo.settings.gated and not repo.opened_by(token):
            raise errors.gated_repo(repo.id, known_user=token is not None)

    def break_first(self, repo: Repo) -> None:
        """Raise 503 for the first file requests of a repo that was told so."""
        faults = self.faults(repo)
        if faults.broken < repo.settings.behaviour.broken_first:
            faults.broken += 1
            raise HubError(503, "Service Unavailable")
