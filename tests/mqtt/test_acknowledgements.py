"""Acknowledgements that wait: in the order of their messages, whatever is stored first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import StorageError
from headwater.mqtt.acknowledgements import AcknowledgementQueue, WaitingAcknowledgements
from headwater.services.promise import Promise


def puback(number: int) -> bytes:
    return b"\x40\x02" + number.to_bytes(2, "big")


class Desk:
    """A queue as a connection uses it."""

    def __init__(self) -> None:
        self.queue = AcknowledgementQueue()
        self.sent: list[bytes] = []
        self.errors: list[Exception] = []

    def answer(self, packet: bytes, promise: Promise | None) -> None:
        if promise is None:
            if not self.queue.join(packet, None):
                self.sent.append(packet)
        elif not self.queue.join(packet, promise):
            self.queue.add(packet, promise, self._settled)

    def _settled(self, settled: WaitingAcknowledgements, error: Exception | None) -> None:
        if error is not None:
            self.errors.append(error)
        else:
            self.sent += self.queue.take_kept(settled)


def test_an_empty_queue_holds_nothing_back() -> None:
    desk = Desk()
    desk.answer(b"1", None)
    assert desk.sent == [b"1"]
    assert desk.queue.is_empty


def test_one_promise_is_asked_once_for_all_its_messages() -> None:
    desk, promise = Desk(), Promise()
    for number in (1, 2, 3):
        desk.answer(puback(number), promise)
    assert len(promise._callbacks) == 1
    assert desk.queue.messages == 3
    promise.resolve(None)
    assert desk.sent == [puback(1), puback(2), puback(3)]
    assert desk.queue.is_empty
    assert desk.queue.messages == 0


def test_only_what_ends_an_exchange_counts_as_a_message() -> None:
    """[MQTT-3.3.4-7]: a PUBREC leaves its message unacknowledged, unless it refuses."""
    desk, promise = Desk(), Promise()
    desk.answer(b"\x50\x02\0\1", promise)
    assert desk.queue.messages == 0
    desk.answer(b"\x50\x03\0\2\x97", None)
    desk.answer(b"\x90\x03\0\1\0", None)
    assert desk.queue.messages == 1
    desk.answer(b"\x70\x02\0\1", promise)
    assert desk.queue.messages == 2
    promise.resolve(None)
    assert desk.queue.messages == 0


def test_a_broken_promise_sends_nothing() -> None:
    desk, promise = Desk(), Promise()
    desk.answer(b"1", promise)
    promise.resolve(StorageError("full"))
    assert desk.sent == []
    assert [str(error) for error in desk.errors] == ["full"]


@given(st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=15), st.permutations(range(4)))
def test_4_6_0_2_any_order_of_promises(plan: list[int | None], order: list[int]) -> None:
    """[MQTT-4.6.0-2]: what is sent is the longest run of kept promises from the first message on."""
    desk, promises = Desk(), [Promise() for _ in range(4)]
    for number, index in enumerate(plan):
        desk.answer(puback(number), None if index is None else promises[index])
    kept: set[int | None] = {None}
    for index in [None, *order]:
        if index is not None:
            promises[index].resolve(None)
            kept.add(index)
        run_length = next((at for at, index in enumerate(plan) if index not in kept), len(plan))
        assert desk.sent == [puback(number) for number in range(run_length)]
        assert desk.queue.messages <= len(plan) - run_length
    assert desk.queue.is_empty
    assert desk.queue.messages == 0
