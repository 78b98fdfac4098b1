"""A link of limited bandwidth, shared by all who send over it."""

import asyncio

_BURST_SECONDS = 0.02


class Link:
    """Paces bytes to ``bytes_per_second`` over all senders together.

    Each piece books the time it takes on the link after the pieces booked before it. A sender that woke late may use
    up to 20 ms of idle time after the fact, so that the coarse clock of ``asyncio.sleep`` costs no bandwidth.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.piece_bytes = max(1, min(1 << 18, int(bytes_per_second * 0.05)))
        """Largest piece worth booking at once: 50 ms of the link, at most 256 KiB."""
        self._free_at = 0.0

    async def book(self, size: int) -> None:
        """Wait until ``size`` bytes have passed over the link."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now - _BURST_SECONDS, self._free_at) + size / self.bytes_per_second
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
