"""The process that downloads: orders in on stdin, answers out on stdout, one JSON line each.

A process of its own because a download must end at its deadline even while bytes trickle in, which timeouts of single
reads do not see; a process can be ended. It also ends by itself when its parent has. It serves one order after
another, since starting it costs most of a second of a core.

The first line in holds the settings; every further line is an order. An answer is `{"short": true}`, any number of
times before the last, or the last: `{"moved": {...}}` or `{"reason": ..., "detail": ...}`. After a success the repos
stay pinned until the next line comes in.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crawlers.fetching.download import Downloads
from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.download_plan import DISK_FULL, DownloadFailedError
from crawlers.fetching.file_locks import Pins
from crawlers.fetching.xet_cache import sweep_xet
from crawlers.hub.hub_client import DEFAULT_ENDPOINT
from crawlers.hub.hub_errors import (
    DiskFullError,
    FileGoneError,
    HubError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
    classify,
    redact,
)
from shards.statuses import Reason

NICENESS = 5
"""Below the sampling that goes on beside it; a core that nobody wants is all its own."""
_PARENT_CHECK_SECONDS = 0.5

_REASONS: dict[type[HubError], str] = {
    RepoGatedError: Reason.gated_repo,
    RepoGoneError: Reason.repo_not_found,
    RevisionGoneError: Reason.revision_not_found,
    FileGoneError: Reason.missing_file,
    DiskFullError: DISK_FULL,
}


def carry_out(
    downloads: Downloads,
    orders: Sequence[DownloadOrder],
    token: str | None,
    *,
    patience: float = 0.0,
    short: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Any], Pins | None]:
    """Carry out orders that are wanted together. Returns the answer, without any token, and the pins of a success."""
    try:
        moved, pins = downloads.run(orders, patience=patience, short=short)
    except DownloadFailedError as error:
        return {"reason": str(error.reason), "detail": redact(error.detail, token)}, None
    except (HubError, OSError) as error:
        typed = classify(error, token)
        reason = _REASONS.get(type(typed), Reason.download_failed) if typed else Reason.download_failed
        detail = typed.detail if typed else redact(f"{type(error).__name__}: {error}", token)
        return {"reason": str(reason), "detail": detail}, None
    return {"moved": asdict(moved)}, pins


def _fetches_through_client(endpoint: str) -> bool:
    """True where large files come over Xet: on the public hub, if its library is here and not switched off."""
    from huggingface_hub import constants

    return endpoint == DEFAULT_ENDPOINT and not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def _end_now() -> None:
    """Remove the hub client's partial files that this process has open, then end without waiting for any thread.

    Our own stay: the next download of the same file goes on with them.
    """
    with suppress(FileNotFoundError):  # no /proc: a later download sweeps them
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                target = descriptor.readlink()
                if target.suffix == ".incomplete" and not target.name.endswith(".commforge.incomplete"):
                    target.unlink()
    os._exit(143)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    _end_now()


def main() -> None:
    """Read the settings, then carry out one line after another until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too and decides
    signal.signal(signal.SIGTERM, lambda *_: _end_now())
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, args=(settings["parent"],), daemon=True).start()
    os.nice(NICENESS)
    # Nothing but the answers may reach stdout, whatever a library prints.
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    cache_dir = Path(settings["cache_dir"])
    sweep_xet(cache_dir)
    downloads = Downloads(
        settings["endpoint"],
        cache_dir,
        settings["token"],
        disk_budget=settings["disk_budget"],
        through_client=_fetches_through_client(settings["endpoint"]),
    )
    pins: Pins | None = None
    for line in sys.stdin:
        if pins is not None:
            pins.out()
        asked = json.loads(line)
        orders = [DownloadOrder.model_validate(order) for order in asked["orders"]]
        if not orders:
            pins = None
            continue
        answer, pins = carry_out(
            downloads,
            orders,
            settings["token"],
            patience=asked["patience"],
            short=lambda: say({"short": True}),
        )
        say(answer)


if __name__ == "__main__":
    main()
