"""Commands in processes of their own that start at once: forked from one that has imported what they need.

A command that samples spends ten seconds on imports, and the tests start hundreds. What runs is the command's own entry
point, in a process of its own with its own environment, folder, session and exit code, which dies of real signals. What
it does not show is that the installed script starts and finds its imports: the demo, the campaigns and every worker
process are started without it.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED = (
    *("pipeline.cli", "pipeline.worker", "pipeline.stages.crawl", "pipeline.stages.sample", "pipeline.stages.caption"),
    *("pipeline.stages.train", "pipeline.stages.evaluate"),
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
)


class WarmProcess:
    """A running command; the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        cwd: Path | None = None,
        first: str = "",
    ) -> None:
        """Start it; what it says is added to the two files, which may be one. `first` is code that runs before it."""
        for said in (out, err):
            said.touch()
        asked = tuple(arguments), dict(environment), str(out), str(err), str(cwd or Path.cwd()), first
        self._process = warm_context(environment).Process(target=_command, args=asked)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("commforge", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def warm_context(environment: Mapping[str, str]) -> ForkServerContext:
    """The process to fork from; libraries that read the environment when they are imported read the first command's."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    ours = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(ours)
    return context


def _command(arguments: tuple[str, ...], environment: dict[str, str], out: str, err: str, cwd: str, first: str) -> None:
    from pipeline.cli import main

    os.setsid()
    for stream, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["commforge", *arguments]
    exec(first, {})
    try:
        main()
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        atexit._run_exitfuncs()  # a forked process leaves without them
