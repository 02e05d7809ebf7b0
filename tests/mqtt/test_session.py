"""A session: what it owes its client, from one connection to the next, within its limits."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headwater.errors import StorageError
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import OUTGOING_BYTES, Outgoing, OutgoingState
from headwater.mqtt.packets import PacketType
from headwater.mqtt.publishing import Pending
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.session import Session
from headwater.mqtt.topic_tree import Grant, SharedGroup
from headwater.services.promise import Promise

PUBACK, PUBREC, PUBCOMP = PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBCOMP


class Sent(NamedTuple):
    packet_id: int
    payload: bytes
    qos: int = 1
    dup: bool = False


class Released(NamedTuple):
    packet_id: int


class Wire:
    """A link that keeps what was sent."""

    def __init__(self, window: int = 10) -> None:
        self.window = window
        self.is_congested = False
        self.sent: list[Sent | Released] = []
        self.qos0: list[tuple[bytes, bool, tuple[int, ...]]] = []
        self.refused = b""
        """A payload that this client can never get."""

    def send_qos0(self, message: Message, retain: bool, subscription_ids: tuple[int, ...]) -> str | None:
        if self.is_congested:
            return "max_write_buffer_bytes"
        self.qos0.append((message.payload, retain, subscription_ids))
        return None

    def send_outgoing(self, outgoing: Outgoing, *, dup: bool) -> str | None:
        if self.refused and outgoing.message.payload == self.refused:
            return "maximum_packet_size"
        self.sent.append(Sent(outgoing.packet_id, outgoing.message.payload, outgoing.qos, dup))
        return None

    def send_pubrel(self, packet_id: int) -> None:
        self.sent.append(Released(packet_id))

    def take(self) -> list[Sent | Released]:
        sent, self.sent = self.sent, []
        return sent


class Record:
    """What would be on disk, as a table; `written` is promised by the test."""

    def __init__(self) -> None:
        self.messages: dict[int, Outgoing] = {}
        self.is_sent: set[int] = set()
        self.is_released: set[int] = set()
        self.received: set[int] = set()
        self.promise: Promise | None = None

    def save_outgoing(self, outgoing: Outgoing) -> None:
        assert outgoing.packet_id not in self.messages
        self.messages[outgoing.packet_id] = outgoing

    def mark_sent(self, packet_id: int) -> None:
        assert packet_id in self.messages
        self.is_sent.add(packet_id)

    def mark_released(self, packet_id: int) -> None:
        assert packet_id in self.is_sent
        self.is_released.add(packet_id)

    def delete_outgoing(self, packet_id: int) -> None:
        del self.messages[packet_id]
        self.is_sent.discard(packet_id)
        self.is_released.discard(packet_id)

    def save_received(self, packet_id: int) -> None:
        self.received.add(packet_id)

    def delete_received(self, packet_id: int) -> None:
        self.received.discard(packet_id)

    def written(self) -> Pending | None:
        return self.promise


def message(payload: bytes, qos: int = 1, topic: str = "t") -> Message:
    return Message(topic, topic.encode(), payload, qos)


def session(budget: QueueBudget | None = None, **limits: int) -> Session:
    return Session("account:1", "client", SessionLimits(**limits), budget or QueueBudget(1 << 30))


def attached(window: int = 10, **limits: int) -> tuple[Session, Wire]:
    opened, wire = session(None, **limits), Wire(window)
    opened.attach(wire)
    return opened, wire


def owe(to: Session, *payloads: bytes, qos: int = 1) -> None:
    for payload in payloads:
        to.send(message(payload, qos), qos, False, ())


# -- while the client is here ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("published", "granted", "sent"), [(0, 2, 0), (2, 0, 0), (1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_3_8_4_8_the_lower_qos_counts(published: int, granted: int, sent: int) -> None:
    """[MQTT-3.8.4-8]"""
    to, wire = attached()
    to.deliver(message(b"x", published), Grant(granted))
    assert [packet.qos for packet in wire.sent if isinstance(packet, Sent)] == ([sent] if sent else [])
    assert len(wire.qos0) == (sent == 0)


def test_3_3_1_12_retain_is_passed_on_to_those_who_asked() -> None:
    """[MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
    to, wire = attached()
    retained = Message("t", b"t", b"x", 0, retain=True)
    to.deliver(retained, Grant(0))
    to.deliver(retained, Grant(0, retain_as_published=True, subscription_ids=(3, 4)))
    to.deliver(message(b"y", 0), Grant(0, retain_as_published=True))
    assert wire.qos0 == [(b"x", False, ()), (b"x", True, (3, 4)), (b"y", False, ())]


def test_qos_1_is_sent_up_to_the_window() -> None:
    """[MQTT-2.2.1-3] [MQTT-3.3.4-9]; unused identifiers, and no more in flight than allowed."""
    to, wire = attached(window=2)
    owe(to, b"0", b"1", b"2", b"3", b"4")
    assert wire.take() == [Sent(1, b"0"), Sent(2, b"1")]
    assert to.acknowledged(PUBACK, 1)
    assert wire.take() == [Sent(3, b"2")]
    assert not to.acknowledged(PUBACK, 1), "an identifier that is not in flight makes no room"
    assert not to.acknowledged(PUBACK, 4), "nor does one that was not sent yet"
    assert wire.take() == []
    assert to.acknowledged(PUBACK, 2)
    assert to.acknowledged(PUBACK, 3)
    assert wire.take() == [Sent(4, b"3"), Sent(5, b"4")]
    assert (to.in_flight, to.queued) == (2, 0)


def test_4_3_3_qos_2_has_two_steps() -> None:
    """Section 4.3.3; the window is full until PUBCOMP."""
    to, wire = attached(window=1)
    owe(to, b"0", b"1", qos=2)
    assert wire.take() == [Sent(1, b"0", 2)]
    assert not to.acknowledged(PUBACK, 1), "PUBACK is for QoS 1"
    assert not to.acknowledged(PUBCOMP, 1), "not before PUBREC"
    assert to.acknowledged(PUBREC, 1)
    assert wire.take() == [Released(1)]
    assert to.acknowledged(PUBREC, 1), "it came again"
    assert wire.take() == [Released(1)]
    assert to.acknowledged(PUBCOMP, 1)
    assert wire.take() == [Sent(2, b"1", 2)]


def test_4_3_3_a_pubrec_that_refuses_ends_it() -> None:
    """Section 4.3.3 of 5.0: a reason code of 0x80 or more."""
    to, wire = attached(window=1)
    owe(to, b"0", b"1", qos=2)
    assert to.acknowledged(PUBREC, 1, is_failure=True)
    assert wire.take() == [Sent(1, b"0", 2), Sent(2, b"1", 2)]


@pytest.mark.parametrize("kind", [PUBREC, PUBCOMP])
def test_the_steps_of_qos_2_are_nothing_for_qos_1(kind: PacketType) -> None:
    to, _ = attached()
    owe(to, b"0")
    assert not to.acknowledged(kind, 1)
    assert to.in_flight == 1


def test_a_congested_client_gets_nothing_of_qos_0_and_it_is_counted() -> None:
    to, wire = attached()
    drops: list[tuple[str, bytes]] = []
    to.on_drop = lambda _, limit, dropped: drops.append((limit, dropped.payload))
    wire.is_congested = True
    owe(to, b"0", qos=0)
    assert to.dropped == {"max_write_buffer_bytes": 1}
    assert drops == [("max_write_buffer_bytes", b"0")]


def test_a_congested_client_keeps_its_qos_1() -> None:
    to, wire = attached()
    wire.is_congested = True
    owe(to, b"0", b"1")
    assert wire.take() == []
    assert not to.is_ready
    wire.is_congested = False
    to.pump()
    assert wire.take() == [Sent(1, b"0"), Sent(2, b"1")]
    assert to.is_ready


def test_a_message_that_the_client_can_never_get_is_no_obstacle() -> None:
    """[MQTT-3.1.2-25]: too large for it, or its time is over."""
    to, wire = attached(window=1)
    wire.refused = b"too large"
    owe(to, b"too large", b"1")
    assert wire.take() == [Sent(2, b"1")]
    assert to.dropped == {"maximum_packet_size": 1}
    assert to.in_flight == 1


# -- limits ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_oldest() -> None:
    to, wire = attached(window=1, max_queued_messages=2)
    owe(to, *(b"%d" % number for number in range(6)))
    assert to.dropped == {"max_queued_messages": 3}
    assert wire.take() == [Sent(1, b"0")]
    to.acknowledged(PUBACK, 1)
    to.acknowledged(PUBACK, 5)
    assert wire.take() == [Sent(5, b"4"), Sent(6, b"5")]


def test_without_a_queue_only_the_window_counts() -> None:
    to, wire = attached(window=2, max_queued_messages=0)
    owe(to, b"0", b"1", b"2", b"3")
    assert wire.take() == [Sent(1, b"0"), Sent(2, b"1")]
    assert to.dropped == {"max_queued_messages": 2}
    to.acknowledged(PUBACK, 1)
    owe(to, b"4")
    assert [packet.payload for packet in wire.take() if isinstance(packet, Sent)] == [b"4"]


def test_the_queue_is_bounded_in_bytes_too() -> None:
    """Large messages for a client that never acknowledges; the newest always stays."""
    to, wire = attached(window=1, max_queued_bytes=1_000)
    owe(to, *(bytes((number,)) * 399 for number in range(20)))
    assert to.dropped == {"max_queued_bytes": 17}
    owe(to, b"L" * 5_000)
    assert to.dropped == {"max_queued_bytes": 19}
    wire.take()
    to.acknowledged(PUBACK, 1)
    [last] = wire.take()
    assert isinstance(last, Sent)
    assert last.payload == b"L" * 5_000
    assert to.queued_bytes == 0


def test_all_sessions_together_have_a_budget() -> None:
    """Whoever is owed one more when it is spent loses its oldest."""
    budget = QueueBudget(10 * (OUTGOING_BYTES + 101))
    sessions = [session(budget) for _ in range(4)]
    for _ in range(5):
        for to in sessions:
            owe(to, b"x" * 100)
    assert budget.messages == 10
    assert budget.bytes <= budget.max_bytes
    assert sum((to.dropped or {}).get("max_queued_bytes_total", 0) for to in sessions) == 10
    for to in sessions:
        to.clear()
    assert (budget.bytes, budget.messages) == (0, 0)


def test_nobody_loses_messages_because_others_have_too_many() -> None:
    """When all is spent, those drop who hold an equal share or more, whoever is owed the next one."""
    size = OUTGOING_BYTES + 101
    whole = QueueBudget(100 * size)
    accounts = [QueueBudget(60 * size, "max_queued_bytes_per_account", whole) for _ in range(20)]
    sessions = [session(account) for account in accounts]
    for to in sessions:  # one after the other: each finds the whole spent by those before
        owe(to, *[b"x" * 100] * 70)
        assert whole.bytes <= whole.max_bytes
    assert sessions[0].dropped is not None
    assert sessions[0].dropped["max_queued_bytes_per_account"] == 10
    assert max(to.queued for to in sessions) - min(to.queued for to in sessions) <= 1
    sensor = session(QueueBudget(60 * size, "max_queued_bytes_per_account", whole))
    owe(sensor, *[b"x" * 100] * 4)
    assert (sensor.queued, sensor.dropped, whole.bytes <= whole.max_bytes) == (4, None, True)
    for to in (*sessions, sensor):
        to.clear()
    assert (whole.bytes, whole.messages) == (0, 0)
    greedy = session(accounts[0])
    owe(greedy, *[b"x" * 100] * 10)
    assert greedy.dropped is None


def test_sessions_of_one_account_share_what_it_has() -> None:
    size = OUTGOING_BYTES + 101
    account = QueueBudget(30 * size, "max_queued_bytes_per_account")
    hoarder, others = session(account), [session(account) for _ in range(9)]
    owe(hoarder, *[b"x" * 100] * 30)
    for to in others:
        owe(to, b"x" * 100, b"x" * 100)
        assert to.dropped is None
    assert (hoarder.queued, hoarder.dropped) == (12, {"max_queued_bytes_per_account": 18})


def test_what_is_on_its_way_cannot_be_dropped() -> None:
    """A client that takes everything and acknowledges nothing holds its window; what waits elsewhere makes room."""
    size = OUTGOING_BYTES + 101
    account = QueueBudget(10 * size, "max_queued_bytes_per_account")
    taking = session(account)
    taking.attach(Wire(9))
    waiting = session(account)
    owe(taking, *[b"x" * 100] * 9)
    owe(waiting, *[b"x" * 100] * 3)
    assert (taking.in_flight, waiting.queued, waiting.dropped) == (9, 1, {"max_queued_bytes_per_account": 2})
    waiting.clear()
    assert account.bytes == 9 * size


def test_2_2_1_identifiers_go_round_and_skip_those_in_use() -> None:
    """[MQTT-2.2.1-4]: never zero, never one that is not acknowledged yet."""
    to, wire = attached(window=2)
    owe(to, b"held")
    wire.take()
    seen = []
    for _ in range(65_540):
        owe(to, b"x")
        [sent] = wire.take()
        seen.append(sent.packet_id)
        to.acknowledged(PUBACK, sent.packet_id)
    assert seen == [*range(2, 65_536), *range(2, 8)]


def test_more_messages_than_identifiers() -> None:
    to = session(max_queued_messages=65_535)
    for _ in range(65_535):
        owe(to, b"")
    owe(to, b"one too many")
    assert to.dropped == {"packet_identifiers": 1}
    to.clear()


# -- away and back --------------------------------------------------------------------------------------------------


def test_nobody_is_owed_qos_0_while_away() -> None:
    to = session()
    owe(to, b"x", qos=0)
    wire = Wire()
    to.attach(wire)
    assert (wire.qos0, wire.sent, to.dropped) == ([], [], None)


def test_4_4_0_1_what_was_in_flight_is_sent_again_in_order() -> None:
    """[MQTT-4.4.0-1] [MQTT-4.6.0-1]: with its identifiers, then what has waited. PUBREL for what it has."""
    to, wire = attached(window=4)
    owe(to, b"0", b"1")
    owe(to, b"2", b"3", qos=2)
    owe(to, b"4")
    to.acknowledged(PUBACK, 1)
    to.acknowledged(PUBREC, 3)
    to.link = None
    owe(to, b"5")
    again = Wire(window=10)
    to.attach(again)
    assert again.take() == [
        Released(3),
        Sent(2, b"1", dup=True),
        Sent(4, b"3", 2, dup=True),
        Sent(5, b"4", dup=True),
        Sent(6, b"5"),
    ]
    assert wire.window == 4


def test_3_3_4_9_a_smaller_window_after_coming_back() -> None:
    """[MQTT-3.3.4-9]: Receive Maximum is the connection's, not the session's."""
    to, _ = attached(window=5)
    owe(to, b"0", b"1", b"2", b"3", b"4", b"5")
    to.link = None
    wire = Wire(window=2)
    to.attach(wire)
    assert wire.take() == [Sent(1, b"0", dup=True), Sent(2, b"1", dup=True)]
    for packet_id in range(1, 6):
        assert to.acknowledged(PUBACK, packet_id)
    assert wire.take() == [Sent(3, b"2", dup=True), Sent(4, b"3", dup=True), Sent(5, b"4", dup=True), Sent(6, b"5")]


def test_an_acknowledgement_of_before_that_arrives_before_its_message_is_sent_again() -> None:
    to, _ = attached(window=3)
    owe(to, b"0", b"1", b"2")
    to.link = None
    wire = Wire(window=1)
    to.attach(wire)
    assert to.acknowledged(PUBACK, 3)
    assert to.in_flight == 2
    assert to.acknowledged(PUBACK, 1)
    assert to.acknowledged(PUBACK, 2)
    assert to.in_flight == 0
    assert wire.take() == [Sent(1, b"0", dup=True), Sent(2, b"1", dup=True)]


def test_members_of_a_group_give_back_what_was_not_sent() -> None:
    to, wire = attached(window=1)
    group: SharedGroup[Session] = SharedGroup()
    for payload in (b"0", b"1", b"2"):
        to.deliver(message(payload), Grant(1), group)
    owe(to, b"own")
    taken = to.take_unsent(lambda outgoing: outgoing.group is group)
    assert [outgoing.message.payload for outgoing in taken] == [b"1", b"2"]
    assert to.queued == 1
    to.acknowledged(PUBACK, 1)
    assert wire.take() == [Sent(1, b"0"), Sent(4, b"own")]


def test_what_was_granted_and_is_not_any_more_is_not_owed() -> None:
    """What is under way to a client that is here cannot be called back; when it is away, it will not be sent again."""

    def is_secret(of: Message) -> bool:
        return of.topic == "secret"

    def owe_both(to: Session) -> None:
        for topic in ("secret", "open", "secret"):
            to.send(message(topic.encode(), topic=topic), 1, False, ())

    here, wire = attached(window=2)
    owe_both(here)
    here.revoke(is_secret)
    assert (here.in_flight, here.queued) == (2, 0)
    assert here.acknowledged(PUBACK, 1)
    wire.take()
    away, _ = attached(window=2)
    owe_both(away)
    away.link = None
    away.revoke(is_secret)
    again = Wire()
    away.attach(again)
    assert again.take() == [Sent(2, b"open", dup=True)]


# -- on disk --------------------------------------------------------------------------------------------------------


def test_a_lasting_session_writes_down_every_step() -> None:
    to, _ = attached(window=2)
    record = to.record = Record()
    owe(to, b"0")
    owe(to, b"1", b"2", qos=2)
    assert (set(record.messages), record.is_sent, record.is_released) == ({1, 2, 3}, {1, 2}, set())
    to.acknowledged(PUBREC, 2)
    assert record.is_released == {2}
    to.acknowledged(PUBACK, 1)
    to.acknowledged(PUBCOMP, 2)
    assert (set(record.messages), record.is_sent) == ({3}, {3})


def test_qos_2_is_seen_only_when_it_is_on_disk() -> None:
    """Seen and then lost in a crash, it would come again under another identifier. Order is kept meanwhile."""
    to, wire = attached()
    record = to.record = Record()
    record.promise = Promise()
    owe(to, b"0", qos=2)
    owe(to, b"1")
    assert wire.take() == []
    promise, record.promise = record.promise, None
    promise.resolve(None)
    assert wire.take() == [Sent(1, b"0", 2), Sent(2, b"1")]
    record.promise = promise = Promise()
    to.acknowledged(PUBREC, 1)
    assert wire.take() == [], "a PUBREL that is forgotten would be followed by the message again"
    to.acknowledged(PUBREC, 1)
    assert wire.take() == []
    promise.resolve(None)
    assert wire.take() == [Released(1)]


def test_what_the_disk_refuses_is_held_until_it_does_not() -> None:
    to, wire = attached()
    record = to.record = Record()
    first, second = record.promise, _ = Promise(), Promise()
    owe(to, b"0", qos=2)
    record.promise = second
    first.resolve(StorageError("full"))
    assert wire.take() == []
    record.promise = None
    second.resolve(None)
    assert wire.take() == [Sent(1, b"0", 2)]


@pytest.mark.parametrize("end", ["clear", "drop"])
def test_a_promise_for_a_message_that_is_gone_is_nothing(end: str) -> None:
    to, wire = attached(max_queued_messages=0)
    record = to.record = Record()
    promise = record.promise = Promise()
    owe(to, b"0", qos=2)
    if end == "clear":
        to.clear()
    else:
        assert to.dropped == {"max_queued_messages": 1}
    promise.resolve(None)
    assert wire.take() == []


def test_what_was_on_disk_is_owed_as_before() -> None:
    budget = QueueBudget(1 << 30)
    to = session(budget)
    states = [OutgoingState.RELEASED, OutgoingState.SENT, OutgoingState.QUEUED]
    for packet_id, state in enumerate(states, 8):
        to.restore(Outgoing(message(b"%d" % packet_id, 2), packet_id, 2, False, (), None, state))
    assert (budget.messages, to.queued, to.in_flight) == (3, 1, 2)
    wire = Wire()
    to.attach(wire)
    owe(to, b"new")
    assert wire.take() == [Released(8), Sent(9, b"9", 2, True), Sent(10, b"10", 2), Sent(11, b"new")]
    assert budget.messages == 4, "what was sent and not acknowledged still takes its room"
    to.clear()
    assert (budget.messages, budget.bytes) == (0, 0)


# -- anything, in any order -----------------------------------------------------------------------------------------


class SessionBesideClient(RuleBasedStateMachine):
    """A session, a client that acknowledges in its own time and vanishes at will, and the limits between them."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = QueueBudget(40 * OUTGOING_BYTES)
        self.session = Session("account:1", "client", SessionLimits(6, 60), self.budget)
        self.neighbour = Session("account:1", "other", SessionLimits(), self.budget)
        self.session.on_drop = self._dropped
        self.record = self.session.record = Record()
        self.wire: Wire | None = None
        self.number = 0
        self.owed: list[tuple[int, bytes]] = []
        """Every message that was sent to it and not dropped: QoS and payload, in order."""
        self.seen: list[tuple[int, bytes]] = []
        """What the client has taken in: of QoS 2, each message once; of QoS 1, those that were no duplicates."""
        self.unacknowledged: dict[int, Sent] = {}
        """PUBLISH packets that this connection has brought, by identifier."""
        self.received: set[int] = set()
        """The client's QoS 2 identifiers, from PUBLISH to PUBREL: they outlive its connections."""
        self.to_complete: set[int] = set()

    def _dropped(self, _: Session, _limit: str, message: Message) -> None:
        self.owed = [entry for entry in self.owed if entry[1] != message.payload]

    def _listen(self) -> None:
        assert self.wire is not None
        for packet in self.wire.take():
            if isinstance(packet, Released):
                self.received.discard(packet.packet_id)
                self.unacknowledged.pop(packet.packet_id, None)
                self.to_complete.add(packet.packet_id)
                continue
            assert packet.packet_id not in self.unacknowledged, "[MQTT-2.2.1-4]"
            assert packet.packet_id not in self.to_complete
            self.unacknowledged[packet.packet_id] = packet
            entry = (packet.qos, packet.payload)
            if packet.qos == 2 and packet.packet_id in self.received:
                assert packet.dup, "a new message under an identifier that is in use"
                continue
            if packet.qos == 2:
                self.received.add(packet.packet_id)
                assert entry not in self.seen, "[MQTT-4.3.3-7]: twice"
                self.seen.append(entry)
            elif not packet.dup or entry not in self.seen:
                self.seen.append(entry)

    @rule(qos=st.integers(1, 2), size=st.integers(0, 20))
    def owe(self, qos: int, size: int) -> None:
        self.number += 1
        payload = b"%d:" % self.number + b"x" * size
        self.owed.append((qos, payload))
        self.session.send(message(payload, qos), qos, False, ())
        if self.wire is not None:
            self._listen()

    @rule(count=st.integers(1, 5))
    def others_spend(self, count: int) -> None:
        owe(self.neighbour, *[b"x"] * count)

    @rule()
    def others_are_done(self) -> None:
        self.neighbour.clear()

    @rule(window=st.integers(1, 4))
    def connect(self, window: int) -> None:
        """Again, without a goodbye, if it was there."""
        self.unacknowledged, self.to_complete = {}, set()
        self.wire = Wire(window)
        self.session.attach(self.wire)
        self._listen()

    @precondition(lambda self: self.wire is not None)
    @rule()
    def vanish(self) -> None:
        self.wire = self.session.link = None
        self.unacknowledged, self.to_complete = {}, set()

    @precondition(lambda self: self.unacknowledged)
    @rule(data=st.data(), is_failure=st.booleans())
    def acknowledge(self, data: st.DataObject, is_failure: bool) -> None:
        packet = self.unacknowledged[data.draw(st.sampled_from(sorted(self.unacknowledged)))]
        kind = PUBACK if packet.qos == 1 else PUBREC
        is_failure = is_failure and packet.packet_id not in self.received
        if packet.qos == 1:
            del self.unacknowledged[packet.packet_id]
        assert self.session.acknowledged(kind, packet.packet_id, is_failure=is_failure)
        self._listen()

    @precondition(lambda self: self.to_complete)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.to_complete)))
        self.to_complete.remove(packet_id)
        assert self.session.acknowledged(PUBCOMP, packet_id)
        self._listen()

    @precondition(lambda self: self.wire is not None)
    @rule(kind=st.sampled_from([PUBACK, PUBREC, PUBCOMP]), packet_id=st.integers(60_000, 65_535))
    def acknowledge_nothing(self, kind: PacketType, packet_id: int) -> None:
        assert not self.session.acknowledged(kind, packet_id)

    @rule()
    def restart(self) -> None:
        """The server is killed and comes back with what was on disk."""
        assert isinstance(self.record, Record)
        restored = Session("account:1", "client", SessionLimits(6, 60), self.budget)
        outgoing = list(self.record.messages.values())
        states = dict.fromkeys(self.record.messages, OutgoingState.QUEUED)
        states |= dict.fromkeys(self.record.is_sent, OutgoingState.SENT)
        states |= dict.fromkeys(self.record.is_released, OutgoingState.RELEASED)
        old, self.session = self.session, restored
        old.record = None
        old.clear()
        for kept in outgoing:
            state = states[kept.packet_id]
            restored.restore(Outgoing(kept.message, kept.packet_id, kept.qos, False, (), None, state))
        restored.on_drop = self._dropped
        restored.record = self.record
        self.wire = None
        self.unacknowledged, self.to_complete = {}, set()

    @invariant()
    def window_is_kept(self) -> None:
        """[MQTT-3.3.4-9]"""
        if self.wire is not None:
            assert len(self.unacknowledged) <= self.wire.window
        states = [outgoing.state for outgoing in self.session.outgoing]
        assert self.session.in_flight == len(states) - states.count(OutgoingState.QUEUED)

    @invariant()
    def limits_are_kept(self) -> None:
        assert self.session.queued <= 6
        assert self.session.queued <= 1 or self.session.queued_bytes <= 60

    @invariant()
    def the_record_says_the_same(self) -> None:
        assert [o.packet_id for o in self.session.outgoing] == list(self.record.messages)
        sent = {o.packet_id for o in self.session.outgoing if o.state is not OutgoingState.QUEUED}
        assert sent == self.record.is_sent

    @invariant()
    def order_is_kept(self) -> None:
        """[MQTT-4.6.0-6]: what was seen is a run of what was owed, but for what was dropped since."""
        owed = [entry for entry in self.owed if entry in self.seen]
        assert [entry for entry in self.seen if entry in self.owed] == owed

    def teardown(self) -> None:
        """A client that comes back and acknowledges everything gets everything that was not dropped."""
        if self.wire is None:
            self.connect(3)
        while self.unacknowledged or self.to_complete:
            for packet_id in sorted(self.to_complete):
                self.to_complete.remove(packet_id)
                assert self.session.acknowledged(PUBCOMP, packet_id)
                self._listen()
            for packet_id, packet in sorted(self.unacknowledged.items()):
                if packet.qos == 1:
                    del self.unacknowledged[packet_id]
                assert self.session.acknowledged(PUBACK if packet.qos == 1 else PUBREC, packet_id)
                self._listen()
        assert set(self.owed) <= set(self.seen)
        assert list(self.session.outgoing) == []
        self.neighbour.clear()
        assert (self.budget.bytes, self.budget.messages) == (0, 0)


test_session_beside_client = SessionBesideClient.TestCase
test_session_beside_client.settings = settings(max_examples=100, stateful_step_count=40)
