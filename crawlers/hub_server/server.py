"""Run the hub: :func:`serve` in the foreground, :class:`HubServer` beside the caller in a process of its own."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crawlers.hub_server.faults import Fault
from crawlers.hub_server.folder import HubFolder
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.request_log import RequestRecord
from manifests.errors import InputError

_STOP_SECONDS = 5.0
_PARENT_CHECK_SECONDS = 0.5


def serve(
    root: Path | str,
    host: str = "127.0.0.1",
    port: int = 8080,
    options: HubOptions | None = None,
    *,
    ready: Callable[[str], None] | None = None,
    parent: int | None = None,
) -> None:
    """Serve ``root`` until Ctrl-C or SIGTERM, then close the connections and return.

    Args:
        port: 0 takes a free one.
        ready: called with the endpoint (``http://host:port``) once the hub answers.
        parent: process id; the hub also ends when its parent is no longer this process.

    Raises:
        InputError: the folder is not a hub (see :class:`HubFolder`), or the address cannot be had.
    """
    options = options or HubOptions()
    folder = HubFolder(root, options.hash_cache)
    asyncio.run(_serve(folder, host, port, options, ready, parent))


async def _serve(
    folder: HubFolder,
    host: str,
    port: int,
    options: HubOptions,
    ready: Callable[[str], None] | None,
    parent: int | None,
) -> None:
    # Here, not above: aiohttp takes long to import and `HubServer` does not need it.
    from aiohttp import web

    from crawlers.hub_server.app import build_app

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # Bodies may last for hours; a hub that is told to stop does not wait for them.
    runner = web.AppRunner(build_app(folder, options), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise InputError(f"cannot listen on {host}:{port}: {_why(error)}") from error
        if ready is not None:
            bound = runner.addresses[0]
            ready(f"http://{f'[{host}]' if ':' in host else host}:{bound[1]}")
        await _until(stop, parent)
    finally:
        await runner.cleanup()


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses this port; choose another (0 takes a free one)"
    return error.strerror or str(error)


async def _until(stop: asyncio.Event, parent: int | None) -> None:
    """Wait for the signal, or for the parent's end: an orphan's parent is another process."""
    while parent is None or os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), None if parent is None else _PARENT_CHECK_SECONDS)
        if stop.is_set():
            return


@dataclass(frozen=True)
class _Start:
    """What the child says once: its endpoint, or why there is none."""

    endpoint: str | None = None
    error: str | None = None


class HubServer:
    """A hub in a process of its own, on a free port of 127.0.0.1, for as long as the ``with`` block lasts.

    It answers when the block is entered, has ended when the block is left, and ends by itself when the calling
    process dies, even by SIGKILL. Being another process, it takes no turns from the caller's interpreter lock.

    Attributes:
        endpoint: address for ``HF_ENDPOINT`` or ``HfApi(endpoint=...)``.

    Raises:
        InputError: on entering, as :func:`serve`.
    """

    endpoint: str

    def __init__(self, root: Path | str, options: HubOptions | None = None, port: int = 0) -> None:
        self._root = Path(root)
        self._options = (options or HubOptions()).model_copy(update={"request_log": True})
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # -P and the path: the same package as here, and nothing that lies in the working folder by chance.
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        module = [sys.executable, "-P", "-m", "crawlers.hub_server"]
        # A session of its own: Ctrl-C in a terminal reaches the caller, who ends the hub after its own last request.
        process = subprocess.Popen(
            [*module, str(self._root.absolute()), str(self._port), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(self._options.model_dump_json())
            said = process.stdout.readline()
        except BaseException:
            _end(process)
            raise
        start = _Start(**json.loads(said)) if said else _Start(error=f"the hub ended at once ({process.wait()})")
        if start.endpoint is None:
            _end(process)
            raise InputError(start.error)
        # Drained so that a stray print can never block the hub.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        self._process = process
        self.endpoint = start.endpoint
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def requests(self, since: int = 0) -> list[RequestRecord]:
        """What was asked so far, from request number ``since`` on, oldest first (the newest 200,000 are kept)."""
        answer = self._ask(urllib.request.Request(f"{self.endpoint}/-/requests?since={since}"))
        return [RequestRecord(**record) for record in answer["requests"]]

    def arm(self, fault: Fault) -> int:
        """Make the hub misbehave from now on, and return the fault's number. Needs ``options.fault_token``."""
        return int(self._control("POST", fault.model_dump_json().encode())[-1]["number"])

    def shown(self) -> dict[int, int]:
        """How often each fault that was ever armed has met a client: number -> times."""
        return {armed["number"]: armed["shown"] for armed in self._control("GET")}

    def disarm(self) -> None:
        """Let the hub behave from now on."""
        self._control("DELETE")

    def _control(self, method: str, body: bytes | None = None) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._options.fault_token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.endpoint}/-/faults", body, headers, method=method)
        answer: list[dict[str, Any]] = self._ask(request)
        return answer

    def _ask(self, request: urllib.request.Request) -> Any:
        # Never through a proxy from the environment: the hub is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)

    @property
    def pid(self) -> int:
        """Process id of the hub."""
        if self._process is None:
            raise RuntimeError("the hub is not running")
        return self._process.pid


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
