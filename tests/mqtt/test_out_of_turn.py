"""Acknowledgements that may take long: they wait for nobody, and nobody waits for them."""

from __future__ import annotations

from headwater.mqtt.acknowledgements import AcknowledgementQueue, WaitingAcknowledgements
from headwater.mqtt.publishing import OutOfTurn
from headwater.services.promise import Promise


def puback(number: int) -> bytes:
    return b"\x40\x02" + number.to_bytes(2, "big")


class Line:
    """A queue, and what went out of it."""

    def __init__(self) -> None:
        self.queue = AcknowledgementQueue()
        self.sent: list[bytes] = []

    def settle(self, kept: WaitingAcknowledgements, error: Exception | None) -> None:
        assert error is None
        self.sent += self.queue.take_kept(kept)


def test_they_go_out_whenever_they_are_kept() -> None:
    line, slow, quick, other_slow = Line(), Promise(), Promise(), Promise()
    line.queue.add(puback(1), OutOfTurn(slow), line.settle)
    assert not line.queue.join(puback(2), None)  # which may go out at once
    line.queue.add(puback(3), quick, line.settle)
    line.queue.add(puback(4), OutOfTurn(other_slow), line.settle)
    assert line.queue.join(puback(5), quick)  # not behind the slow one
    assert line.queue.messages == 4
    other_slow.resolve(None)
    assert (line.sent, line.queue.messages) == ([puback(4)], 3)
    quick.resolve(None)
    assert line.sent == [puback(4), puback(3), puback(5)]
    assert (line.queue.is_empty, line.queue.messages) == (False, 1)
    slow.resolve(None)
    assert line.sent[-1] == puback(1)
    assert (line.queue.is_empty, line.queue.messages) == (True, 0)


def test_two_for_one_promise_are_two() -> None:
    """A message that came again while it waits."""
    line, slow = Line(), Promise()
    for _ in range(2):
        line.queue.add(puback(1), OutOfTurn(slow), line.settle)
    slow.resolve(None)
    assert line.sent == [puback(1), puback(1)]
    assert line.queue.is_empty
