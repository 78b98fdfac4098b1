"""Ask again, within bounds: exponential waits with jitter, or exactly as long as the hub says."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from crawlers.hub.hub_errors import HubError, HubUnreachableError, classify

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to ask.

    Attributes:
        attempts: how often in all; 1 never asks again.
        connections: how often when nobody is there at all: a wrong address is not to be waited for.
        first_wait: seconds before the second attempt; doubled from then on.
        longest_wait: cap of a wait of our own choosing, seconds.
        longest_asked_wait: a hub that asks for more than this many seconds has refused.
    """

    attempts: int = 6
    connections: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_asked_wait: float = 900.0

    def call(
        self,
        ask: Callable[[], Answer],
        token: str | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        refused: Callable[[float], object] = lambda seconds: None,
    ) -> Answer:
        """Return what `ask` returns, asking again after transient errors only.

        Args:
            sleep: waits that many seconds.
            refused: told the seconds that the hub asks to wait, unless they are more than anyone waits.

        Raises:
            HubError: the typed error of the last attempt, or the first that no retry can help.
        """
        # Here, not above: the hub client and its HTTP library are slow to import and `--help` must not wait.
        import httpx2

        attempt = 1
        while True:
            try:
                return ask()
            except (HubError, OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
                typed = classify(error, token)
                if typed is None:
                    raise
                if typed.retry_after is not None and not self._refused(typed):
                    refused(typed.retry_after)
                if not typed.transient or attempt >= self._limit(typed) or self._refused(typed):
                    raise typed from error
            sleep(self.wait(attempt, typed.retry_after))
            attempt += 1

    def _limit(self, error: HubError) -> int:
        return min(self.attempts, self.connections) if isinstance(error, HubUnreachableError) else self.attempts

    def _refused(self, error: HubError) -> bool:
        return error.retry_after is not None and error.retry_after > self.longest_asked_wait

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before attempt `attempt` + 1: never less than `asked`, and spread so that clients do not march."""
        if asked is not None:
            return asked + random.uniform(0.05, 0.5)
        return min(self.longest_wait, self.first_wait * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
