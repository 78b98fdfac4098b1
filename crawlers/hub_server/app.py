"""The routes of the hub, over a :class:`~crawlers.hub_server.folder.HubFolder`."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from crawlers.hub_server import describe, errors, file_body, listing
from crawlers.hub_server.errors import HubError
from crawlers.hub_server.fault_control import FAULTS_PATH, FaultControl
from crawlers.hub_server.folder import REPO_TYPES, HubFolder, Repo, RepoType
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.pacing import Link
from crawlers.hub_server.request_log import RequestLog, RequestRecord
from crawlers.hub_server.visitors import Visitors, bearer_token

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_RECORD = web.RequestKey("record", RequestRecord)
_PATHS_INFO = re.compile(r"^/api/(models|datasets)/[^/]+/[^/]+/paths-info/[^/]+$")
_LOG_PATH = "/-/requests"
_EXPANDED_PAGE = 50
_FORM_BYTES = 8 << 20


def build_app(folder: HubFolder, options: HubOptions | None = None) -> web.Application:
    """Return the hub as an aiohttp application; nothing in it writes to the folder."""
    return _Hub(folder, options or HubOptions()).application()


class _Hub:
    def __init__(self, folder: HubFolder, options: HubOptions) -> None:
        self._options = options
        self._visitors = Visitors(folder)
        self._log = RequestLog()
        self._link = Link(options.bandwidth) if options.bandwidth else None

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._gate], client_max_size=_FORM_BYTES)
        if self._options.request_log:
            app.router.add_get(_LOG_PATH, self._requests)
        if self._options.fault_token is not None:
            FaultControl(self._visitors.board, self._options.fault_token).add_to(app)
        app.router.add_get("/api/whoami-v2", self._whoami)
        for kind in REPO_TYPES:
            api, files = f"/api/{kind}", "" if kind == "models" else f"/{kind}"
            repo = f"{api}/{{owner}}/{{name}}"
            for path, answer in {
                api: self._list,
                repo: self._info,
                f"{repo}/revision/{{revision}}": self._info,
                f"{repo}/tree/{{revision}}": self._tree,
                f"{repo}/tree/{{revision}}/{{path:.*}}": self._tree,
                f"{repo}/refs": self._refs,
                f"{repo}/commits/{{revision}}": self._commits,
                f"{repo}/auth-check": self._auth_check,
                f"{files}/{{owner}}/{{name}}/resolve/{{revision}}/{{path:.+}}": self._file,
            }.items():
                app.router.add_get(path, _for(kind, answer))
            app.router.add_post(f"{repo}/paths-info/{{revision}}", _for(kind, self._paths_info))
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log every request, keep the latency, refuse what writes, and turn errors into answers."""
        if request.path == _LOG_PATH or (request.path == FAULTS_PATH and self._options.fault_token is not None):
            return await handler(request)  # no client's business, so neither logged nor disturbed
        record = self._log.begin(request.method, request.raw_path, request.headers.get("Range"))
        request[_RECORD] = record
        if self._options.latency:
            await asyncio.sleep(self._options.latency)
        try:
            if request.method not in ("GET", "HEAD") and not (
                request.method == "POST" and _PATHS_INFO.match(request.rel_url.raw_path)
            ):
                raise HubError(405, "This hub is read-only", Allow="GET, HEAD")
            if self._visitors.board.out:
                raise HubError(503, "Service Unavailable")
            response = await handler(request)
        except HubError as refusal:
            response = refusal.response()
        except web.HTTPException as error:
            response = HubError(error.status, error.reason or "Error").response()
        record.status = response.status
        return response

    async def _requests(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            raise web.HTTPBadRequest(reason="since must be a whole number")
        return _json({"total": self._log.total, "requests": self._log.since(int(since))})

    async def _whoami(self, request: web.Request) -> web.Response:
        if bearer_token(request) is None:
            raise HubError(401, "Invalid username or password.")
        token = {"displayName": "token", "role": "read"}
        user = {"type": "user", "id": "0" * 24, "name": "reader", "fullname": "Reader", "isPro": False, "orgs": []}
        return _json(user | {"auth": {"type": "access_token", "accessToken": token}})

    async def _list(self, request: web.Request, kind: RepoType) -> web.Response:
        query = request.query
        expand = listing.values(query, "expand")
        if unknown := sorted(set(expand) - describe.EXPANDABLE[kind]):
            raise HubError(400, f"expand: unknown {', '.join(unknown)[:200]}")
        repos = listing.selected(self._visitors.visible(kind, bearer_token(request)), query)
        size = min(listing.number(query, "limit", self._options.page_size), self._options.page_size)
        full, card, config = (listing.flag(query, name) for name in ("full", "cardData", "config"))
        return _page(
            request, repos, lambda repo: repo.id, size, lambda repo: describe.listed(repo, full, card, config, expand)
        )

    async def _enter(self, request: web.Request, kind: RepoType) -> tuple[Repo, str | None]:
        token = bearer_token(request)
        match = request.match_info
        repo = await self._visitors.enter(kind, f"{match['owner']}/{match['name']}", token)
        return repo, token

    async def _enter_revision(self, request: web.Request, kind: RepoType) -> Repo:
        repo, _ = await self._enter(request, kind)
        _check_revision(request, repo)
        return repo

    async def _info(self, request: web.Request, kind: RepoType) -> web.Response:
        repo = await self._enter_revision(request, kind)
        expand = listing.values(request.query, "expand")
        if unknown := sorted(set(expand) - describe.EXPANDABLE[kind]):
            raise HubError(400, f"expand: unknown {', '.join(unknown)[:200]}")
        if expand:
            return _json(describe.expanded(repo, expand))
        return _json(describe.info(repo, listing.flag(request.query, "blobs")))

    async def _tree(self, request: web.Request, kind: RepoType) -> web.Response:
        repo = await self._enter_revision(request, kind)
        top = request.match_info.get("path", "").strip("/")
        if top not in repo.folders:
            raise errors.entry_not_found(repo.sha)
        recursive, expand = (listing.flag(request.query, name) for name in ("recursive", "expand"))
        prefix = f"{top}/" if top else ""
        paths = sorted(
            path
            for path in [*repo.folders, *repo.files]
            if path and path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
        )
        size = min(self._options.page_size, _EXPANDED_PAGE) if expand else self._options.page_size
        return _page(request, paths, str, size, lambda path: _entry(repo, path, expand))

    async def _paths_info(self, request: web.Request, kind: RepoType) -> web.Response:
        repo = await self._enter_revision(request, kind)
        if request.content_type == "application/json":
            try:
                body = await request.json()
                paths, expand = [str(path) for path in body["paths"]], bool(body.get("expand"))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise HubError(400, "expected {paths: [...], expand: bool}") from error
        else:
            form = await request.post()
            paths = [value for value in form.getall("paths", []) if isinstance(value, str)]
            expand = str(form.get("expand", "")).lower() in ("true", "1")
        known = [path.strip("/") for path in paths]
        return _json(
            [_entry(repo, path, expand) for path in known if path in repo.files or (path and path in repo.folders)]
        )

    async def _refs(self, request: web.Request, kind: RepoType) -> web.Response:
        repo, _ = await self._enter(request, kind)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.sha}
        return _json({"branches": [main], "converts": [], "tags": [], "pullRequests": []})

    async def _commits(self, request: web.Request, kind: RepoType) -> web.Response:
        repo = await self._enter_revision(request, kind)
        commit = describe.last_commit(repo) | {"authors": [{"user": repo.author}], "message": ""}
        return _json([commit])

    async def _auth_check(self, request: web.Request, kind: RepoType) -> web.Response:
        repo, token = await self._enter(request, kind)
        self._visitors.may_read(repo, token)
        return _json({})

    async def _file(self, request: web.Request, kind: RepoType) -> web.StreamResponse:
        repo, token = await self._enter(request, kind)
        self._visitors.may_read(repo, token)
        self._visitors.break_first(repo)
        _check_revision(request, repo)
        file = repo.files.get(request.match_info["path"])
        if file is None:
            raise errors.entry_not_found(repo.sha)
        return await file_body.answer(request, repo, file, self._visitors, self._link, request[_RECORD])


def _for(kind: RepoType, answer: Callable[[web.Request, RepoType], Awaitable[web.StreamResponse]]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await answer(request, kind)

    return handler


def _check_revision(request: web.Request, repo: Repo) -> None:
    revision = request.match_info.get("revision", "main")
    if not repo.has_revision(revision):
        raise errors.revision_not_found(revision)


def _entry(repo: Repo, path: str, expand: bool) -> dict[str, Any]:
    if path in repo.files:
        return describe.file_entry(repo, repo.files[path], expand)
    return describe.folder_entry(repo, path, expand)


def _page(
    request: web.Request,
    entries: list[Any],
    name: Callable[[Any], str],
    size: int,
    describe_entry: Callable[[Any], dict[str, Any]],
) -> web.Response:
    """One page as JSON, with the ``Link`` of the next one at the address that the client used for this one."""
    found, cursor = listing.page(entries, name, request.query, size)
    response = _json([describe_entry(entry) for entry in found])
    if cursor is not None:
        url = request.url.update_query({"cursor": cursor})
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


def _json(data: Any) -> web.Response:
    body = json.dumps(data, ensure_ascii=False, default=str).encode()
    return web.Response(body=body, content_type="application/json", charset="utf-8")
