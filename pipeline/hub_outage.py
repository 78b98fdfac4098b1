"""A hub that stopped to answer: no model's fault, and no mistake of the user's. The run stops, and can go on later.

A hub that never answered is another matter: then the address may be wrong, and that is told as wrong input.
"""

import math
import time
from collections.abc import Callable

from crawlers.hub.hub_client import HubClient, unreachable
from crawlers.hub.hub_errors import HubBusyError, HubError, HubUnreachableError
from pipeline.interruption import HubOutage
from pipeline.progress import say

_ASK_AGAIN = 20.0
"""Seconds."""


def check_hub_answers(endpoint: str, token: str | None, repo_id: str, what: str | None = None) -> None:
    """Tell one repo's trouble from the hub's: without a hub every further model would fail for nothing of its own.

    Args:
        repo_id: a repo that could not be fetched.
        what: it is wanted for, to begin the message with.

    Raises:
        HubOutage: nobody answers at the address, or all that is answered is that the hub is busy.
    """
    client = HubClient(endpoint, token)
    try:
        client.model_info(repo_id, files=False)
    except HubUnreachableError as error:
        raise _outage(endpoint, error, what) from error
    except HubBusyError:
        try:
            client.check_answers()
        except HubUnreachableError as error:
            raise _outage(endpoint, error, what) from error
    except HubError:
        return  # it answers, and what is wrong is this repo's


class HubOutages:
    """Tells failures of a hub that answers nobody from those of a repo, and waits such an outage out.

    Args:
        patience: seconds.
    """

    def __init__(self, endpoint: str, token: str | None, patience: float) -> None:
        self._endpoint, self._token, self._patience = endpoint, token, patience
        self._last_ended = -math.inf

    def excuse(self, repo_id: str, seconds: float) -> bool:
        """Return False if the hub answered while a download failed, so that the trouble is the repo's; else True, once
        the hub answers again. Nothing is committed while this waits; workers end what they hold.

        Args:
            seconds: for which the download was tried. One that began before an outage was over met it too.

        Raises:
            HubOutage: the hub answers nobody for longer than `patience`.
        """
        if time.monotonic() - seconds < self._last_ended:
            return True
        return self._waited(lambda: check_hub_answers(self._endpoint, self._token, repo_id))

    def outlast(self) -> None:
        """Return once the hub answers; at once if it does.

        Raises:
            HubOutage: the hub answers nobody for longer than `patience`.
        """
        self._waited(self._check_listing)

    def _check_listing(self) -> None:
        try:
            HubClient(self._endpoint, self._token).check_answers()
        except HubUnreachableError as error:
            raise _outage(self._endpoint, error, None) from error

    def _waited(self, check: Callable[[], None]) -> bool:
        deadline = time.monotonic() + self._patience
        waited = False
        while True:
            try:
                check()
            except HubOutage as outage:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                if not waited:
                    say(f"{outage}; waiting {self._patience:g} s for it (hub.patience)")
                    waited = True
                time.sleep(min(_ASK_AGAIN, left))
                continue
            if waited:
                say("the hub answers again")
                self._last_ended = time.monotonic()
            return waited


def _outage(endpoint: str, error: HubError, what: str | None) -> HubOutage:
    prefix = f"{what}: " if what else ""
    return HubOutage(f"{prefix}{unreachable(endpoint, error)}; the same command goes on from here")
