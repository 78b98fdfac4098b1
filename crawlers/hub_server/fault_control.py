"""``/-/faults``: tell the running hub to misbehave, and ask which faults met a client. Only for who has the token."""

from hmac import compare_digest

from aiohttp import web
from pydantic import ValidationError

from crawlers.hub_server.errors import HubError
from crawlers.hub_server.faults import Fault, FaultBoard
from crawlers.hub_server.visitors import bearer_token

FAULTS_PATH = "/-/faults"


class FaultControl:
    """GET lists the armed faults, POST arms one and DELETE disarms them all."""

    def __init__(self, board: FaultBoard, token: str) -> None:
        self._board = board
        self._token = token

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(FAULTS_PATH, self._answer)
        app.router.add_post(FAULTS_PATH, self._answer)
        app.router.add_delete(FAULTS_PATH, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            given = bearer_token(request)
            if given is None or not compare_digest(given.encode(), self._token.encode()):
                raise HubError(403, "The faults are not yours to set")
            if request.method == "POST":
                self._board.arm(_fault(await request.text()))
            elif request.method == "DELETE":
                self._board.disarm()
        except HubError as refusal:
            return refusal.response()
        return web.json_response([armed.as_json() for armed in self._board.all()])


def _fault(text: str) -> Fault:
    try:
        return Fault.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the body"
        raise HubError(400, f"{key}: {problem['msg']}") from error
