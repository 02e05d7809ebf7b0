"""What leaves a connection: bytes for one client's version, aliases, expiry and limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headwater.mqtt import outlet as outlet_module
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.framing import parse_frame_length
from headwater.mqtt.limits import ProtocolLimits, Turn
from headwater.mqtt.message import Message
from headwater.mqtt.outlet import FLUSH_BYTES, RETAINED_PER_TURN
from headwater.mqtt.packets import (
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscription,
)
from headwater.mqtt.properties import render_property_list
from headwater.mqtt.protocol import ServerProtocol
from headwater.mqtt.publishing import PublishTarget
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted
from headwater.mqtt.topic_tree import Grant

LEVELS = pytest.mark.parametrize("level", [4, 5])


class Desk:
    """A client that is connected, seen from its session."""

    def __init__(self, level: int = 5, *, window: int = 10, properties: dict[PropertyId, int] | None = None) -> None:
        self.time_s = 100.0
        self.flushed = b""
        self.signals = 0
        self.level = level
        self.session = Session("account:1", "c", SessionLimits(), QueueBudget(1 << 30))
        self.outlet = ServerProtocol(self, ProtocolLimits(max_in_flight=window), Turn())
        connect = Connect("c", level=ProtocolLevel(level), properties=properties or {})
        self.outlet.receive(render_packet(connect), 0)
        self.outlet.take_output()

    def authenticate(self, connect: Connect) -> None:
        self.outlet.accept(self.session, session_present=False)

    def resolve_publish(self, topic: str) -> PublishTarget:
        raise AssertionError("nothing is published here")

    def subscribe(self, subscription: object, subscription_id: int) -> NotGranted | None:
        raise AssertionError("nothing is subscribed here")

    def subscription_refused(self, topic_filter: str, refused: NotGranted) -> None:
        raise AssertionError("nothing is subscribed here")

    def unsubscribe(self, topic_filter: str) -> int:
        raise AssertionError("nothing is subscribed here")

    def storing_failed(self, error: Exception) -> None:
        raise AssertionError("nothing is stored here")

    def output_ready(self) -> None:
        self.signals += 1

    def flush(self) -> None:
        self.flushed += self.outlet.take_output()

    def now_s(self) -> float:
        return self.time_s

    def packets(self) -> list[Packet]:
        data, self.flushed = self.flushed + self.outlet.take_output(), b""
        self.outlet.has_output_due = False
        found = []
        while data:
            header = parse_frame_length(data, 0, len(data))
            assert header is not None
            found.append(parse_packet(data[0], data[header[0] : sum(header)], self.level))
            data = data[sum(header) :]
        return found


def message(
    payload: bytes = b"x", topic: str = "t", properties: bytes = b"", expires_at_s: float | None = None
) -> Message:
    return Message(topic, topic.encode(), payload, 1, False, properties, expires_at_s)


@LEVELS
def test_every_qos_and_flag(level: int) -> None:
    desk = Desk(level)
    desk.session.send(message(), 0, False, ())
    desk.session.send(message(), 0, True, ())
    desk.session.send(message(), 1, True, ())
    desk.session.send(message(), 2, False, ())
    assert desk.packets() == [
        Publish("t", b"x"),
        Publish("t", b"x", retain=True),
        Publish("t", b"x", 1, 1, retain=True),
        Publish("t", b"x", 2, 2),
    ]
    desk.session.acknowledged(PacketType.PUBREC, 2)
    assert desk.packets() == [Acknowledgement(PacketType.PUBREL, 2)]
    assert desk.outlet.sent_messages == 4


def test_properties_and_identifiers_are_for_mqtt_5() -> None:
    properties = {PropertyId.CONTENT_TYPE: "text/plain"}
    for level in (4, 5):
        desk = Desk(level)
        for qos in (0, 1):
            desk.session.send(message(properties=render_property_list(properties)), qos, False, (3, 9))
        expected = properties | {PropertyId.SUBSCRIPTION_IDENTIFIER: (3, 9)} if level == 5 else {}
        assert [packet.properties for packet in desk.packets() if isinstance(packet, Publish)] == [expected] * 2


@pytest.mark.parametrize("qos", [0, 1])
def test_3_3_2_6_what_is_left_of_its_time_is_said(qos: int) -> None:
    """[MQTT-3.3.2-6]"""
    desk = Desk()
    desk.time_s = 110.0
    desk.session.send(message(expires_at_s=130.0), qos, False, ())
    [packet] = desk.packets()
    assert isinstance(packet, Publish)
    assert packet.properties == {PropertyId.MESSAGE_EXPIRY_INTERVAL: 20}


@LEVELS
def test_3_3_2_5_what_has_expired_while_it_waited_is_not_sent(level: int) -> None:
    """[MQTT-3.3.2-5]; an older client takes no notice of expiry, or gets nothing late either."""
    desk = Desk(level, window=1)
    for payload, expires_at_s in ((b"first", None), (b"late", 105.0), (b"last", None)):
        desk.session.send(message(payload, expires_at_s=expires_at_s), 1, False, ())
    desk.time_s = 200.0
    assert [packet.payload for packet in desk.packets() if isinstance(packet, Publish)] == [b"first"]
    desk.session.acknowledged(PacketType.PUBACK, 1)
    [packet] = desk.packets()
    assert isinstance(packet, Publish)
    if level == 5:
        assert packet.payload == b"last"
        assert desk.session.dropped == {"message_expiry": 1}


@pytest.mark.parametrize("qos", [0, 1])
def test_3_1_2_25_nothing_is_larger_than_the_client_takes(qos: int) -> None:
    """[MQTT-3.1.2-24] [MQTT-3.1.2-25]: as if it had been sent."""
    desk = Desk(properties={PropertyId.MAXIMUM_PACKET_SIZE: 50})
    desk.session.send(message(b"x" * 60), qos, False, ())
    desk.session.send(message(b"y" * 30), qos, False, ())
    assert [packet.payload for packet in desk.packets() if isinstance(packet, Publish)] == [b"y" * 30]
    assert desk.session.dropped == {"maximum_packet_size": 1}


def test_aliases_are_given_to_the_first_topics_and_used_from_then_on() -> None:
    """[MQTT-3.3.2-7] [MQTT-3.1.2-26]"""
    desk = Desk(properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 2})
    for topic in ("a", "b", "c", "a", "b", "c"):
        desk.session.send(message(topic=topic), 0, False, ())
    desk.session.send(message(topic="a"), 1, False, ())
    seen = [(p.topic, p.properties.get(PropertyId.TOPIC_ALIAS)) for p in desk.packets() if isinstance(p, Publish)]
    assert seen == [("a", 1), ("b", 2), ("c", None), ("", 1), ("", 2), ("c", None), ("", 1)]


def test_aliases_are_not_as_many_as_the_client_likes() -> None:
    """Each is kept for as long as the connection."""
    desk = Desk(properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 65_535})
    for number in range(30):
        desk.session.send(message(topic=str(number)), 0, False, ())
    aliases = [p.properties.get(PropertyId.TOPIC_ALIAS) for p in desk.packets() if isinstance(p, Publish)]
    most = ProtocolLimits().topic_alias_maximum
    assert aliases == [*range(1, most + 1), *[None] * (30 - most)]


def test_a_congested_or_finished_client_is_sent_nothing_of_qos_0() -> None:
    desk = Desk()
    desk.outlet.is_congested = True
    desk.session.send(message(), 0, False, ())
    assert desk.session.dropped == {"max_write_buffer_bytes": 1}
    desk.outlet.is_congested = False
    desk.outlet.finish()
    desk.session.send(message(), 0, False, ())
    assert desk.packets() == []
    assert desk.session.dropped == {"max_write_buffer_bytes": 1}


def test_output_is_announced_once_and_much_of_it_is_flushed() -> None:
    desk = Desk()
    desk.signals = 0
    for _ in range(10):
        desk.session.send(message(), 0, False, ())
    assert desk.signals == 1
    assert desk.flushed == b""
    desk.session.send(message(b"x" * (FLUSH_BYTES + 1)), 0, False, ())
    assert len(desk.flushed) > FLUSH_BYTES


def retained(count: int, qos: int = 1) -> Iterator[Message]:
    return iter([Message(f"r/{number}", f"r/{number}".encode(), b"x", qos, True) for number in range(count)])


def test_retained_messages_come_as_fast_as_they_are_taken() -> None:
    """Never more of them wait than the client's window; then the next subscription's turn comes."""
    desk = Desk(window=3)
    desk.outlet.send_retained("r/#", lambda: retained(10), Grant(1))
    desk.outlet.send_retained("r/+", lambda: retained(2, qos=0), Grant(1))
    got: list[str] = []
    for _ in range(50):
        desk.outlet.pump_retained()
        assert desk.session.queued <= 1
        for packet in desk.packets():
            assert isinstance(packet, Publish)
            assert packet.retain
            got.append(packet.topic)
            if packet.packet_id is not None:
                desk.session.acknowledged(PacketType.PUBACK, packet.packet_id)
    assert got == [*(f"r/{number}" for number in range(10)), "r/0", "r/1"]
    assert desk.outlet.waiting_retained == 0


def test_retained_messages_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FLUSH_BYTES", 1 << 30)
    desk = Desk()
    desk.outlet.send_retained("#", lambda: retained(3 * RETAINED_PER_TURN, qos=0), Grant(0))
    counts = []
    for _ in range(4):
        desk.outlet.pump_retained()
        counts.append(len(desk.packets()))
    assert counts == [RETAINED_PER_TURN] * 3 + [0]


def test_retained_messages_wait_while_the_client_does_not_read_and_expired_ones_are_left_out() -> None:
    desk = Desk()
    expired = Message("r/0", b"r/0", b"x", 0, True, b"", 50.0)
    desk.outlet.is_congested = True
    desk.outlet.send_retained("#", lambda: iter([expired, *retained(1)]), Grant(0))
    desk.outlet.pump_retained()
    assert desk.packets() == []
    assert desk.outlet.waiting_retained == 1
    desk.outlet.is_congested = False
    desk.outlet.pump_retained()
    assert len(desk.packets()) == 1
    assert desk.session.dropped is None


def test_retained_messages_stop_with_their_subscription_and_begin_anew_with_a_new_one() -> None:
    desk = Desk()
    desk.outlet.is_congested = True
    desk.outlet.send_retained("gone/#", lambda: retained(5, qos=0), Grant(0))
    desk.outlet.send_retained("again/#", lambda: retained(9, qos=0), Grant(0))
    desk.outlet.send_retained("again/#", lambda: retained(2, qos=0), Grant(0))
    assert desk.outlet.waiting_retained == 2
    desk.outlet.drop_retained("gone/#")
    desk.outlet.drop_retained("never/#")
    desk.outlet.is_congested = False
    desk.outlet.go_on()
    assert len(desk.packets()) == 2


def test_retained_messages_stop_when_the_right_to_them_ends() -> None:
    desk = Desk()
    desk.session.subscriptions = {"kept/#": (Subscription("kept/#", 0), 0)}
    for topic_filter in ("lost/#", "kept/#"):
        desk.outlet.send_retained(topic_filter, lambda: retained(3, qos=0), Grant(0))
    desk.outlet.pump_retained()
    assert len(desk.packets()) == 3
