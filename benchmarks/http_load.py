"""An HTTP client that costs little: requests are rendered before the clock starts, answers are recognised by their
length. One process, one `select` loop, any number of kept connections with one request outstanding on each; the same
for every server measured."""

from __future__ import annotations

import re
import selectors
import socket
from collections.abc import Sequence
from itertools import cycle

from comparison import Measured, Stopwatch

_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
ANSWER_TIMEOUT_S = 30.0


class _Caller:
    """One connection: sends its requests in turn, each after the answer to the one before."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answered = 0
        self._requests = cycle(requests)
        self._received = b""

    def ask(self) -> None:
        self.socket.sendall(next(self._requests))

    def is_answered(self) -> bool:
        """Take what has come. Raises RuntimeError for anything but a whole 200."""
        received = self.socket.recv(65_536)
        if not received:
            raise RuntimeError("the server closed a connection")
        self._received = received = self._received + received
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = _LENGTH.search(received, 0, end + 2)
        if length is None or not received.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the server answered {received[:200]!r}")
        if len(received) < end + 4 + int(length[1]):
            return False
        self._received = b""
        self.answered += 1
        return True


def exchange(port: int, requests: Sequence[Sequence[bytes]], seconds: float) -> tuple[Measured, list[int]]:
    """Requests answered a second, and how many on each connection; one connection for each list of requests."""
    callers = [_Caller(port, mine) for mine in requests]
    selector = selectors.DefaultSelector()
    for caller in callers:
        selector.register(caller.socket, selectors.EVENT_READ, caller)
    watch = Stopwatch()
    for caller in callers:
        caller.ask()
    waiting = len(callers)
    measured: Measured | None = None
    while waiting:
        ready = selector.select(ANSWER_TIMEOUT_S)
        if not ready:
            raise RuntimeError(f"no answer within {ANSWER_TIMEOUT_S:g} s")
        is_over = watch.elapsed_s >= seconds
        if is_over and measured is None:
            measured = watch.rate(sum(caller.answered for caller in callers))
        for key, _ in ready:
            caller = key.data
            if caller.is_answered():
                if is_over:
                    waiting -= 1
                else:
                    caller.ask()
    for caller in callers:
        caller.socket.close()
    assert measured is not None
    return measured, [caller.answered for caller in callers]
