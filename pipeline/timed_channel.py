"""Messages between a worker process and its parent, over a socket, with a limit to how long one may take.

A pipe's reader may be stopped, and its writer may stop in the middle of a message: whoever waits without a limit then
waits for ever. Here a limit is for a whole message, not for each of its bytes.
"""

import pickle
import socket
import struct
import time
from multiprocessing.connection import wait
from typing import Any

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 20


class TimedChannel:
    """One end of a connected pair of sockets. Messages are pickled: both ends are processes of ours.

    After a TimeoutError part of a message may be on its way: the channel is good for nothing but closing.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: object, seconds: float | None = None) -> None:
        """Send a message.

        Args:
            seconds: until it has left, which takes a reader once it is larger than the socket's buffer; None for ever.

        Raises:
            TimeoutError: nobody read it in time.
            ConnectionError: the other end is closed.
        """
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._end.settimeout(seconds)
        self._end.sendall(_LENGTH.pack(len(content)) + content)  # its timeout is for all of it together

    def receive(self, seconds: float | None = None) -> Any:
        """Return the next message.

        Args:
            seconds: until all of it is here; None for ever.

        Raises:
            TimeoutError: it did not come in time, or not whole.
            EOFError: the other end was closed, perhaps in the middle of a message.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return pickle.loads(self._read(length, deadline))

    def waiting(self) -> bool:
        """Tell whether there is something to receive, be it the end."""
        return bool(wait([self._end], 0))

    def close(self) -> None:
        """Close this end; a second time does nothing."""
        self._end.close()

    def _read(self, count: int, deadline: float | None) -> bytes:
        content = bytearray()
        while len(content) < count:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._end.settimeout(left)
            try:
                came = self._end.recv(min(count - len(content), _CHUNK))
            except ConnectionError as error:
                raise EOFError from error
            if not came:
                raise EOFError
            content += came
        return bytes(content)
