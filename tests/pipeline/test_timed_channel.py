"""Messages arrive whole or not at all, and nobody waits longer than was said."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.timed_channel import TimedChannel

LARGE = "x" * 5_000_000
"""More than a socket takes without a reader."""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_messages_of_any_size_arrive_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = map(TimedChannel, ends)
    messages = ["", {"a": (1, None)}, LARGE, b"last"]
    sender = threading.Thread(target=lambda: [here.send(message, 10.0) for message in messages])
    sender.start()
    assert [there.receive(10.0), *(there.receive() for _ in messages[1:])] == messages
    sender.join()
    assert not there.waiting()
    here.send("more")
    assert there.waiting()
    assert there.receive(1.0) == "more"


def test_a_limit_is_for_the_whole_message(ends: tuple[socket.socket, socket.socket]) -> None:
    """Bytes that trickle in are no reason to wait on."""
    over = threading.Event()

    def trickle() -> None:
        ends[0].sendall((1000).to_bytes(8, "big"))
        while not over.wait(0.05):
            ends[0].sendall(b"x")

    trickler = threading.Thread(target=trickle)
    trickler.start()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        TimedChannel(ends[1]).receive(0.4)
    assert 0.4 <= time.monotonic() - started < 5
    over.set()
    trickler.join()


def test_a_message_that_nobody_reads_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        TimedChannel(ends[0]).send(LARGE, 0.3)
    assert 0.3 <= time.monotonic() - started < 5


def test_an_end_that_closes_is_told_to_the_other(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall((1000).to_bytes(8, "big") + b"some of it")
    ends[0].close()
    there = TimedChannel(ends[1])
    assert there.waiting()
    for _ in range(2):
        with pytest.raises(EOFError):
            there.receive(5.0)
    with pytest.raises(ConnectionError):
        there.send("to nobody", 5.0)
    there.close()
    there.close()
