"""The server's side of a connection, driven by bytes: what it asks of its handler, answers, and refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError, StorageError
from headwater.mqtt.decode import parse_packet, parse_publish
from headwater.mqtt.encode import MAX_REMAINING_LENGTH, render_packet, render_publish, render_remaining_length
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, PacketTooLarge, UnacceptableProtocol
from headwater.mqtt.framing import parse_frame_length
from headwater.mqtt.limits import COPIES_PER_FILTER, ProtocolLimits, Turn
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import Outgoing
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    SUBACK_FAILURE,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Properties,
    PropertyId,
    ProtocolLevel,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from headwater.mqtt.properties import render_property_list
from headwater.mqtt.protocol import MAX_CACHED_TARGETS, ServerProtocol
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted
from headwater.services.promise import Promise

from .strategies import packets, packets5, publishes, publishes5, subscribes, subscribes5, unsubscribes, unsubscribes5

NOW_NS = 1_700_000_000_000_000_000
GENEROUS = ProtocolLimits(max_packet_bytes=1 << 20, max_topic_bytes=65_535, max_topic_levels=65_535)
MESSAGE = Message("t", b"t", b"y", 2)
COPIES = 1_000
"""Of messages that one client may cause in a turn."""


class Handler:
    """Writes down what the connection asks; answers as the test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refused: list[tuple[str, str]] = []
        """Subscriptions: filter and reason."""
        self.protocol: ServerProtocol
        self.session = Session("account:1", "client", SessionLimits(), QueueBudget(1 << 30))
        self.is_session_present = False
        self.reason_code = ReasonCode.SUCCESS
        self.is_slow = False
        """Whether it has to find out who a client is, and says so later."""
        self.pending: Callable[[], Pending | Refused | None] = lambda: None
        self.unreadable_filter = "forbidden"
        self.known_filters = {"known"}
        self.is_output_ready = False
        self.copies = 0

    def authenticate(self, connect: Connect) -> None:
        self.calls.append(("authenticate", connect))
        if not self.is_slow:
            self.answer()

    def answer(self, properties: Properties = NO_PROPERTIES) -> None:
        if self.reason_code is not ReasonCode.SUCCESS:
            self.protocol.refuse(self.reason_code, "because")
        self.protocol.accept(self.session, session_present=self.is_session_present, properties=properties)

    def resolve_publish(self, topic: str) -> PublishTarget:
        def take(
            payload: bytes, flags: int, at_ns: int, properties: PublishProperties | None
        ) -> Pending | Refused | None:
            self.calls.append(("publish", topic, payload, flags, at_ns, properties))
            self.protocol._turn.left -= self.copies
            return self.pending()

        return take

    def subscribe(self, subscription: Subscription, subscription_id: int) -> NotGranted | None:
        self.calls.append(("subscribe", subscription, subscription_id))
        is_refused = subscription.topic_filter == self.unreadable_filter
        return NotGranted("no right to this") if is_refused else None

    def subscription_refused(self, topic_filter: str, refused: NotGranted) -> None:
        self.refused.append((topic_filter, refused.reason))

    def unsubscribe(self, topic_filter: str) -> int:
        self.calls.append(("unsubscribe", topic_filter))
        return ReasonCode.SUCCESS if topic_filter in self.known_filters else ReasonCode.NO_SUBSCRIPTION_EXISTED

    def output_ready(self) -> None:
        self.is_output_ready = True

    def flush(self) -> None:
        raise AssertionError("there is not much output here")

    def now_s(self) -> float:
        return 100.0

    def storing_failed(self, error: Exception) -> None:
        self.calls.append(("failed", str(error)))

    @property
    def payloads(self) -> list[bytes]:
        return [call[2] for call in self.calls if call[0] == "publish"]

    @property
    def properties(self) -> list[PublishProperties | None]:
        return [call[5] for call in self.calls if call[0] == "publish"]


class Peer:
    """A client and its connection, joined by bytes."""

    def __init__(
        self,
        limits: ProtocolLimits = GENEROUS,
        *,
        is_connected: bool = True,
        level: int = 4,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.handler = Handler()
        self.turn = Turn()
        self.level = level
        self.protocol = self.handler.protocol = ServerProtocol(self.handler, limits, self.turn)
        self.session = self.handler.session
        if is_connected:
            connect = Connect("client", level=ProtocolLevel(level), properties=properties)
            assert self.send(connect) == [Connack(False, 0)]
            self.handler.calls.clear()

    def send(self, *sent: Packet | bytes) -> list[Packet]:
        """What is answered at once."""
        self.receive(*sent)
        return self.answers()

    def receive(self, *sent: Packet | bytes) -> bool:
        data = b"".join(p if isinstance(p, bytes) else render_packet(p, self.level) for p in sent)
        self.turn.left = COPIES
        return self.protocol.receive(data, NOW_NS)

    def answers(self) -> list[Packet]:
        return split(self.protocol.take_output(), self.level)

    def refuses(self, *sent: Packet | bytes) -> MqttProtocolError:
        with pytest.raises(MqttProtocolError) as caught:
            self.receive(*sent)
        assert self.protocol.is_finished
        return caught.value

    def says_goodbye(self, *sent: Packet | bytes) -> int:
        """MQTT 5: the reason code of the DISCONNECT that is the answer to a fault."""
        error = self.refuses(*sent)
        *_, last = self.answers()
        assert isinstance(last, Disconnect)
        assert last.reason_code == error.reason_code
        assert last.properties[PropertyId.REASON_STRING] == str(error)
        return last.reason_code


def split(data: bytes, level: int) -> list[Packet]:
    """The packets in a stretch of output."""
    found: list[Packet] = []
    while data:
        header = parse_frame_length(data, 0, len(data))
        assert header is not None
        start, length = header
        found.append(parse_packet(data[0], data[start : start + length], level))
        data = data[start + length :]
    return found


def puback(packet_id: int) -> Acknowledgement:
    return Acknowledgement(PacketType.PUBACK, packet_id)


def pubrec(packet_id: int) -> Acknowledgement:
    return Acknowledgement(PacketType.PUBREC, packet_id)


def pubrel(packet_id: int) -> Acknowledgement:
    return Acknowledgement(PacketType.PUBREL, packet_id)


def pubcomp(packet_id: int) -> Acknowledgement:
    return Acknowledgement(PacketType.PUBCOMP, packet_id)


def queue_promises(peer: Peer, promises: Iterable[Pending | None]) -> None:
    """Let the next messages wait for these."""
    waiting = iter(promises)
    peer.handler.pending = lambda: next(waiting)


# -- CONNECT --------------------------------------------------------------------------------------------------------


def test_3_2_0_1_connect_is_answered_with_connack_first() -> None:
    """[MQTT-3.2.0-1] [MQTT-3.1.4-4]"""
    peer = Peer(is_connected=False)
    connect = Connect("porch", True, 30, "porch", b"secret")
    assert peer.send(connect) == [Connack(session_present=False, reason_code=0)]
    assert peer.handler.calls == [("authenticate", connect)]
    assert (peer.protocol.client_id, peer.protocol.keep_alive_s, peer.protocol.is_connected) == ("porch", 30, True)


def test_packets_right_behind_connect_are_served() -> None:
    """Section 3.1.4: clients need not wait for CONNACK."""
    peer = Peer(is_connected=False)
    assert peer.send(Connect("a"), Publish("t", b"x", 1, 7), Pingreq()) == [Connack(False, 0), puback(7), Pingresp()]


def test_3_1_0_1_the_first_packet_is_connect() -> None:
    """[MQTT-3.1.0-1]; judged by its first byte, without waiting for more."""
    for first_byte in set(range(256)) - {0x10}:
        peer = Peer(is_connected=False)
        peer.refuses(bytes((first_byte,)))
        assert peer.protocol.take_output() == b""


def test_3_1_0_2_a_second_connect_closes() -> None:
    """[MQTT-3.1.0-2]"""
    peer = Peer()
    assert "second CONNECT" in str(peer.refuses(Connect("other")))
    assert peer.handler.calls == []
    assert peer.protocol.take_output() == b""


def test_3_1_2_2_a_level_that_is_not_spoken_gets_a_refusal_that_its_client_can_read() -> None:
    """[MQTT-3.1.2-2]; the highest bit of the level is set by bridges of other brokers."""
    old, new = b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"
    cases = [(b"MQTT", 3, old), (b"MQTT", 0, old), (b"MQIsdp", 4, old), (b"MQTT", 0x84, old), (b"MQIsdp", 0x83, old)]
    for name, level, answer in [*cases, (b"MQTT", 6, new), (b"MQTT", 0x85, new), (b"MQIsdp", 5, new)]:
        peer = Peer(is_connected=False)
        error = peer.refuses(connect_bytes(name, level))
        assert isinstance(error, UnacceptableProtocol)
        assert peer.protocol.take_output() == answer, (name, level)
        assert peer.handler.calls == []


def test_level_3_of_mqtt_3_1_is_spoken() -> None:
    peer = Peer(is_connected=False)
    assert peer.send(Connect("old", level=ProtocolLevel.V31)) == [Connack(False, 0)]


def connect_bytes(name: bytes, level: int) -> bytes:
    body = len(name).to_bytes(2, "big") + name + bytes((level, 2, 0, 60)) + b"\0\1a"
    return b"\x10" + bytes((len(body),)) + body


def test_3_1_2_1_another_protocol_name_is_closed_without_answer() -> None:
    """[MQTT-3.1.2-1] [MQTT-3.1.4-1]"""
    peer = Peer(is_connected=False)
    assert isinstance(peer.refuses(connect_bytes(b"MQTX", 4)), MalformedPacket)
    assert peer.protocol.take_output() == b""


def test_3_1_3_8_an_empty_client_id_needs_a_clean_session() -> None:
    """[MQTT-3.1.3-7] [MQTT-3.1.3-8]"""
    peer = Peer(is_connected=False)
    peer.refuses(Connect("", clean_session=False))
    assert peer.answers() == [Connack(False, ConnectReturnCode.IDENTIFIER_REJECTED)]
    assert peer.handler.calls == []
    assert Peer(is_connected=False).send(Connect("", clean_session=True)) == [Connack(False, 0)]


def test_a_client_id_beyond_the_limit_gets_return_code_2() -> None:
    """[MQTT-3.1.3-9]: the limit counts bytes, not characters."""
    limits = ProtocolLimits(max_client_id_bytes=24)
    assert Peer(limits, is_connected=False).send(Connect("x" * 24)) == [Connack(False, 0)]
    for client_id in ("x" * 25, "é" * 13):
        peer = Peer(limits, is_connected=False)
        peer.refuses(Connect(client_id))
        assert peer.answers() == [Connack(False, ConnectReturnCode.IDENTIFIER_REJECTED)]


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [
        (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode.SERVER_BUSY, 3),
        (ReasonCode.QUOTA_EXCEEDED, 3),
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode.NOT_AUTHORIZED, 5),
        (ReasonCode.BANNED, 5),
        (ReasonCode.TOPIC_NAME_INVALID, 5),
    ],
)
@pytest.mark.parametrize("is_slow", [False, True])
def test_3_2_2_5_a_refused_connect_is_answered_and_ends_it(
    reason_code: ReasonCode, return_code: int, *, is_slow: bool
) -> None:
    """[MQTT-3.2.2-5] [MQTT-3.2.2-7] of 5.0, [MQTT-3.1.4-5]: what follows is not processed."""
    for level in (4, 5):
        peer = Peer(is_connected=False, level=level)
        peer.handler.reason_code, peer.handler.is_slow = reason_code, is_slow
        sent = Connect("a", level=ProtocolLevel(level)), Publish("t", b"x")
        if is_slow:
            peer.receive(*sent)
            assert peer.answers() == []
            with pytest.raises(MqttProtocolError):
                peer.handler.answer()
        else:
            peer.refuses(*sent)
        properties = {PropertyId.REASON_STRING: "because"} if level == 5 else NO_PROPERTIES
        assert peer.answers() == [Connack(False, reason_code if level == 5 else return_code, properties)]
        assert peer.handler.payloads == []
        assert not peer.protocol.is_connected


def test_what_comes_while_a_client_is_being_identified_waits() -> None:
    """Section 3.1.4: nobody has to wait for CONNACK."""
    peer = Peer(is_connected=False)
    peer.handler.is_slow = True
    assert peer.send(Connect("a"), Publish("t", b"x", 1, 1)) == []
    assert peer.protocol.is_stalled
    assert peer.send(Publish("t", b"y", 1, 2), Pingreq()) == []
    assert peer.handler.payloads == []
    peer.handler.answer()
    assert peer.send() == [Connack(False, 0), puback(1), puback(2), Pingresp()]
    assert not peer.protocol.is_stalled
    assert peer.handler.payloads == [b"x", b"y"]


def test_a_connect_is_judged_by_its_header_before_its_body() -> None:
    """Nothing of an announced 256 MB is waited for."""
    peer = Peer(is_connected=False)
    assert isinstance(peer.refuses(b"\x10\xff\xff\xff\x7f"), PacketTooLarge)
    peer = Peer(is_connected=False)
    peer.refuses(b"\x10" + render_remaining_length(GENEROUS.max_connect_bytes + 1))
    assert Peer(is_connected=False).receive(b"\x10" + render_remaining_length(GENEROUS.max_connect_bytes)) is False


# -- framing --------------------------------------------------------------------------------------------------------


def test_2_2_3_a_remaining_length_of_five_bytes_is_refused() -> None:
    """Section 2.2.3"""
    Peer().refuses(b"\x30\xff\xff\xff\xff")
    Peer().refuses(b"\x30\x80\x80\x80\x80\x01")
    Peer(is_connected=False).refuses(b"\x10\xff\xff\xff\xff")


def test_2_2_3_a_remaining_length_longer_than_it_need_be_is_accepted() -> None:
    """3.1.1 does not forbid it."""
    peer = Peer()
    assert peer.send(b"\xc0\x80\x00", b"\xc0\x80\x80\x80\x00") == [Pingresp(), Pingresp()]
    peer.send(b"\x30\x84\x00\x00\x01tx")
    assert peer.handler.payloads == [b"x"]


@given(st.integers(0, MAX_REMAINING_LENGTH), st.binary(max_size=4))
def test_remaining_length_comes_back_from_any_prefix(length: int, behind: bytes) -> None:
    header = b"\x30" + render_remaining_length(length)
    assert parse_frame_length(header + behind, 0, len(header + behind)) == (len(header), length)
    for end in range(1, len(header)):
        assert parse_frame_length(header[:end], 0, end) is None


def test_a_packet_beyond_the_limit_is_refused_on_its_header() -> None:
    """Announced, so judged; the body is not waited for."""
    peer = Peer(ProtocolLimits(max_packet_bytes=1_000))
    assert peer.receive(b"\x30" + render_remaining_length(1_000)) is False
    for first_byte in (0x30, 0x32, 0x82, 0xA2, 0xC0):
        peer = Peer(ProtocolLimits(max_packet_bytes=1_000))
        assert isinstance(peer.refuses(bytes((first_byte,)) + render_remaining_length(1_001)), PacketTooLarge)


@pytest.mark.parametrize("first_byte", [0x40, 0x50, 0x62, 0x70, 0xE0])
def test_a_control_packet_of_kilobytes_is_refused_on_its_header(first_byte: int) -> None:
    error = Peer().refuses(bytes((first_byte,)) + render_remaining_length(GENEROUS.max_control_bytes + 1))
    assert isinstance(error, PacketTooLarge)


@pytest.mark.parametrize(
    ("level", "begun", "code"),
    [
        *((5, begun, 0x82) for begun in (b"\x0a\xc0", b"\x00", b"\x0f\xff\xff")),
        *((5, begun, 0x81) for begun in (b"\x80\xc0", b"\x60", b"\x36\xff", b"\x38", b"\xc1\x80", b"\xe8")),
        *((4, begun, 0x82) for begun in (b"\x0a\xc0", b"\xf0")),
        *((4, begun, 0x81) for begun in (b"\x80\xc0", b"\x8a", b"\x36\xff", b"\x38")),
        (3, b"\x01", 0x82),
    ],
)
def test_2_1_3_1_a_first_byte_is_judged_before_what_follows_it(level: int, begun: bytes, code: int) -> None:
    """[MQTT-2.2.2-2] of 3.1.1; whatever stands whole before it is answered."""
    peer = Peer(level=level)
    error = peer.refuses(Pingreq(), begun)
    assert error.reason_code == code
    assert peer.answers()[0] == Pingresp()


def test_a_first_byte_that_may_go_on_is_waited_for() -> None:
    for level, begun in ((3, b"\x8a"), (4, b"\x32\xff"), (5, b"\xf0"), (5, b"\x3b\x80"), (5, b"\x82\x80")):
        assert Peer(level=level).send(begun) == []


def test_a_large_packet_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    """An unfinished packet is not looked at again until it is whole."""
    peer = Peer()
    wire = render_packet(Publish("t", b"x" * 500_000, 1, 1))
    started_s = time.perf_counter()
    for position in range(len(wire)):
        peer.protocol.receive(wire[position : position + 1], NOW_NS)
    assert time.perf_counter() - started_s < 20, "linear in the bytes"
    assert peer.answers() == [puback(1)]


def test_a_partial_packet_is_no_activity() -> None:
    """[MQTT-3.1.2-24]; only whole packets count as received."""
    peer = Peer()
    wire = render_packet(Publish("t", b"x" * 300))
    for byte in wire[:-1]:
        assert peer.receive(bytes((byte,))) is False
    assert peer.receive(wire[-1:]) is True
    assert peer.receive(render_packet(Pingreq()) + wire[:5]) is True
    assert peer.receive(wire[5:10]) is False


WORKING_PACKETS = st.one_of(
    publishes(),
    subscribes,
    unsubscribes,
    st.just(Pingreq()),
    st.builds(pubrel, st.integers(1, 5)),
    st.builds(puback, st.integers(1, 5)),
)


WORKING_PACKETS5 = st.one_of(
    publishes5(),
    subscribes5,
    unsubscribes5,
    st.just(Pingreq()),
    st.builds(pubrel, st.integers(1, 5)),
    st.builds(puback, st.integers(1, 5)),
)


@settings(max_examples=150)
@given(
    st.lists(WORKING_PACKETS, max_size=8),
    st.one_of(st.just(b""), st.binary(max_size=12), packets.map(render_packet)),
    st.lists(st.integers(1, 40), min_size=1),
)
@example([Publish("t", b"x" * 300, 1, 1), Pingreq()], b"", [1])
def test_any_split_of_the_stream_means_the_same(sent: list[Packet], ending: bytes, sizes: list[int]) -> None:
    """One byte at a time, many packets in one read, anything between; also up to a protocol error."""
    check_splits(4, b"".join(map(render_packet, [Connect("a"), *sent])) + ending, sizes)


@settings(max_examples=100)
@given(
    st.lists(WORKING_PACKETS5, max_size=8),
    st.one_of(st.just(b""), st.binary(max_size=12), packets5.map(lambda packet: render_packet(packet, 5))),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_any_split_of_a_stream_of_mqtt_5_means_the_same(sent: list[Packet], ending: bytes, sizes: list[int]) -> None:
    connect = Connect("a", level=ProtocolLevel.V5)
    check_splits(5, b"".join(render_packet(packet, 5) for packet in [connect, *sent]) + ending, sizes)


def check_splits(level: int, stream: bytes, sizes: list[int]) -> None:
    whole = run(level, [stream])
    assert run(level, [stream[i : i + 1] for i in range(len(stream))]) == whole
    chunks: list[bytes] = []
    position = 0
    while position < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[position : position + size])
        position += size
    assert run(level, chunks) == whole


def run(level: int, chunks: list[bytes]) -> tuple[object, ...]:
    """Everything that can be seen of a connection that is given these."""
    peer, output, error = Peer(is_connected=False, level=level), b"", ""
    for chunk in chunks:
        try:
            peer.receive(chunk)
        except MqttProtocolError as caught:
            error = str(caught)
        output += peer.protocol.take_output()
        if peer.protocol.is_finished:
            break
    protocol = peer.protocol
    return peer.handler.calls, output, error, protocol.is_finished, protocol.is_connected


# -- PUBLISH --------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.integers(0, 15), st.one_of(st.binary(max_size=24), publishes().map(lambda p: render_packet(p)[2:])))
@example(0, b"\x00\x01a")
@example(2, b"\x00\x01a\x00\x00x")
@example(2, b"\x00\x01a\x00")
@example(4, b"\x00\x01a\x00\x00x")
@example(4, b"\x00\x01a\x01")
@example(6, b"\x00\x01a\x00\x01")
@example(8, b"\x00\x01a\x00\x01")
@example(0, b"\x00")
@example(2, b"\x00\x02a")
def test_the_fast_loop_agrees_with_the_parser(flags: int, body: bytes) -> None:
    """The connection's own way through PUBLISH accepts, refuses and reads exactly as `decode.parse_publish` does."""
    first_byte = 0x30 | flags
    peer = Peer()
    wire = bytes((first_byte,)) + render_remaining_length(len(body)) + body
    try:
        expected = parse_publish(first_byte, body)
    except MqttProtocolError:
        peer.refuses(wire)
        assert peer.handler.calls == []
        return
    answers = peer.send(wire)
    assert peer.handler.calls == [("publish", expected.topic, expected.payload, flags, NOW_NS, None)]
    if expected.packet_id is None:
        assert answers == []
    else:
        answer = puback if expected.qos == 1 else pubrec
        assert answers == [answer(expected.packet_id)]


@settings(max_examples=300)
@given(st.integers(0, 15), st.one_of(st.binary(max_size=24), publishes5().map(lambda p: render_packet(p, 5)[2:])))
@example(0, b"\x00\x01a")
@example(0, b"\x00\x01a\x00")
@example(0, b"\x00\x00\x00")
@example(0, b"\x00\x00\x03\x23\x00\x01")
@example(0, b"\x00\x01a\x02\x0b\x01")
@example(2, b"\x00\x01a\x00\x00\x00x")
@example(2, b"\x00\x01a\x00\x01")
@example(4, b"\x00\x01a\x00\x01\x02\x01\x01x")
@example(6, b"\x00\x01a\x00\x01\x00")
@example(8, b"\x00\x01a\x00")
def test_the_way_of_mqtt_5_agrees_with_the_parser(flags: int, body: bytes) -> None:
    """The same for a PUBLISH with properties; only what a connection knows beyond a packet may make a difference:
    which aliases stand for a topic, and that a client has no subscription identifiers."""
    first_byte = 0x30 | flags
    peer = Peer(ProtocolLimits(max_packet_bytes=1 << 20, topic_alias_maximum=65_535), level=5)
    wire = bytes((first_byte,)) + render_remaining_length(len(body)) + body
    try:
        expected = parse_publish(first_byte, body, 5)
        is_refused = PropertyId.SUBSCRIPTION_IDENTIFIER in expected.properties or not expected.topic
    except MqttProtocolError:
        is_refused = True
    if is_refused:
        peer.says_goodbye(wire)
        assert peer.handler.calls == []
        return
    answers = peer.send(wire)
    [(_, topic, payload, _, _, properties)] = peer.handler.calls
    assert (topic, payload) == (expected.topic, expected.payload)
    own = {PropertyId.MESSAGE_EXPIRY_INTERVAL, PropertyId.TOPIC_ALIAS}
    passed_on = render_property_list({i: value for i, value in expected.properties.items() if i not in own})
    assert sorted((properties or PublishProperties()).passed_on) == sorted(passed_on)
    assert (properties or PublishProperties()).expiry_s == expected.properties.get(PropertyId.MESSAGE_EXPIRY_INTERVAL)
    answer = {0: [], 1: [puback(expected.packet_id or 0)], 2: [pubrec(expected.packet_id or 0)]}
    assert answers == answer[expected.qos]


def test_the_fast_loop_does_not_read_into_the_next_packet() -> None:
    peer = Peer()
    assert "no packet identifier" in str(peer.refuses(b"\x32\x03\x00\x01a", Pingreq()))
    assert "beyond its packet" in str(Peer().refuses(b"\x30\x03\x00\x02a", Pingreq()))


@pytest.mark.parametrize("topic", ["a/+", "#", "", "a\0b", "a\nb"])
def test_3_3_2_2_a_publish_topic_holds_no_wildcard(topic: str) -> None:
    """[MQTT-3.3.2-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]"""
    raw = topic.encode()
    Peer().refuses(render_publish(raw, b"x", 0, 0))


def test_topics_beyond_the_limits_are_refused() -> None:
    limits = ProtocolLimits(max_topic_bytes=20, max_topic_levels=3)
    for topic in ("a" * 21, "a/b/c/d", "////", "é" * 11):
        Peer(limits).refuses(Publish(topic, b"x"))
    peer = Peer(limits)
    peer.send(Publish("a" * 20, b"x"), Publish("a/b/c", b"y"))
    assert peer.handler.payloads == [b"x", b"y"]


def test_3_3_1_3_flags_reach_the_target() -> None:
    peer = Peer()
    peer.send(Publish("t", b"", 1, 1, retain=True, dup=True))
    assert peer.handler.calls == [("publish", "t", b"", 0b1011, NOW_NS, None)]


def test_targets_are_remembered_until_rights_change() -> None:
    peer = Peer()
    resolved: list[str] = []
    resolve = peer.handler.resolve_publish

    def resolve_publish(topic: str) -> PublishTarget:
        resolved.append(topic)
        return resolve(topic)

    peer.handler.resolve_publish = resolve_publish  # type: ignore[method-assign]
    peer.send(*[Publish("t", b"x")] * 3)
    assert resolved == ["t"]
    peer.protocol.forget_targets()
    peer.send(Publish("t", b"x"))
    assert resolved == ["t", "t"]
    peer.send(*[Publish(str(number), b"x") for number in range(3 * MAX_CACHED_TARGETS)])
    assert len(peer.protocol._targets) <= MAX_CACHED_TARGETS, "a client that invents topics must not grow us"


# -- acknowledgements -----------------------------------------------------------------------------------------------


def test_4_3_2_2_puback_waits_for_the_promise() -> None:
    """[MQTT-4.3.2-2]: only what is stored is acknowledged."""
    peer, promise = Peer(), Promise()
    queue_promises(peer, [promise] * 3)
    assert peer.send(*(Publish("t", b"x", 1, number) for number in (9, 8, 7))) == []
    assert not peer.handler.is_output_ready
    promise.resolve(None)
    assert peer.handler.is_output_ready
    assert peer.answers() == [puback(9), puback(8), puback(7)]


def test_4_6_0_2_pubacks_keep_the_order_of_their_messages() -> None:
    """[MQTT-4.6.0-2]: what waits for nothing still waits for what came before it."""
    peer, first, second = Peer(), Promise(), Promise()
    queue_promises(peer, [None, first, None, first, second, None, first])
    sent = [Publish("t", b"x", 1, number) for number in range(1, 8)]
    assert peer.send(*sent) == [puback(1)]
    first.resolve(None)
    assert peer.answers() == [puback(2), puback(3), puback(4)]
    second.resolve(None)
    assert peer.answers() == [puback(5), puback(6), puback(7)]


def test_4_6_0_2_promises_that_are_kept_out_of_order_are_answered_in_order() -> None:
    """[MQTT-4.6.0-2]: a message that needs a look-up first is stored after its successors."""
    peer, promises = Peer(), [Promise() for _ in range(3)]
    queue_promises(peer, [*promises, None])
    assert peer.send(*(Publish("t", b"x", 1, number) for number in range(1, 5))) == []
    promises[2].resolve(None)
    promises[1].resolve(None)
    assert peer.answers() == []
    assert not peer.handler.is_output_ready
    promises[0].resolve(None)
    assert peer.answers() == [puback(1), puback(2), puback(3), puback(4)]
    assert peer.send(Pingreq()) == [Pingresp()]


@given(st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=12), st.permutations(range(4)))
def test_4_6_0_2_any_order_of_promises(plan: list[int | None], order: list[int]) -> None:
    """[MQTT-4.6.0-2]: at any time, what is acknowledged is the longest run of kept promises from the first on."""
    peer, promises = Peer(), [Promise() for _ in range(4)]
    queue_promises(peer, [None if index is None else promises[index] for index in plan])
    answers = peer.send(*(Publish("t", b"x", 1, number) for number in range(1, len(plan) + 1)))
    kept: set[int | None] = {None}
    for index in [None, *order]:
        if index is not None:
            promises[index].resolve(None)
            kept.add(index)
        answers += peer.answers()
        run_length = next((at for at, index in enumerate(plan) if index not in kept), len(plan))
        # A later message of a batch that waits between others is in a group of its own, so all of them are told alike.
        assert answers == [puback(number) for number in range(1, run_length + 1)]


def test_a_promise_that_is_kept_already_is_answered_at_once() -> None:
    peer, promise = Peer(), Promise()
    promise.resolve(None)
    queue_promises(peer, [promise, promise])
    assert peer.send(Publish("t", b"x", 1, 1), Publish("t", b"x", 1, 2)) == [puback(1), puback(2)]


def test_other_answers_do_not_wait_or_overtake() -> None:
    """PINGRESP says that the server lives, whatever the disk does; SUBACK keeps its place."""
    peer, promise = Peer(), Promise()
    queue_promises(peer, [promise])
    assert peer.send(Publish("t", b"x", 1, 1), Pingreq()) == [Pingresp()]
    promise.resolve(None)
    assert peer.answers() == [puback(1)]


def test_a_failing_store_closes_without_puback() -> None:
    """[MQTT-4.3.2-2]: 3.1.1 cannot refuse, so the client keeps its message."""
    peer, stored, broken = Peer(), Promise(), Promise()
    queue_promises(peer, [stored, broken, None])
    peer.send(*(Publish("t", b"x", 1, number) for number in (1, 2, 3)))
    stored.resolve(None)
    broken.resolve(StorageError("the disk is full"))
    assert peer.answers() == [puback(1)]
    assert ("failed", "the disk is full") in peer.handler.calls


def test_a_promise_that_is_broken_already_stops_the_session_at_once() -> None:
    peer, broken = Peer(), Promise()
    broken.resolve(StorageError("the disk is full"))
    queue_promises(peer, [broken, None])
    peer.handler.storing_failed = lambda error: peer.protocol.finish()  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        peer.receive(Publish("t", b"x", 1, 1), Publish("t", b"y", 1, 2))
    assert peer.handler.payloads == [b"x"]
    assert peer.answers() == []


def test_a_store_that_refuses_is_told_to_the_caller() -> None:
    peer = Peer()

    def refuse() -> None:
        raise StorageError("the disk cannot keep up")

    peer.handler.pending = refuse
    with pytest.raises(StorageError):
        peer.receive(Publish("t", b"x", 1, 1))
    assert peer.answers() == []


def test_nothing_is_sent_after_the_end() -> None:
    peer, promise, broken = Peer(), Promise(), Promise()
    queue_promises(peer, [promise, broken])
    peer.send(Publish("t", b"x", 1, 1), Publish("t", b"x", 1, 2))
    peer.session.send(MESSAGE, 1, False, ())
    peer.protocol.finish()
    promise.resolve(None)
    broken.resolve(StorageError("late"))
    assert peer.protocol.send_qos0(MESSAGE, False, ()) is None
    assert peer.answers() == []
    assert not any(call[0] == "failed" for call in peer.handler.calls)


# -- QoS 2, the receiver's side --------------------------------------------------------------------------------------


def test_4_3_3_2_qos_2_is_delivered_once() -> None:
    """[MQTT-4.3.3-2]: PUBREC again for the same identifier, delivered again only after PUBREL."""
    peer = Peer()
    message = Publish("t", b"x", 2, 5)
    assert peer.send(message) == [pubrec(5)]
    assert peer.send(Publish("t", b"x", 2, 5, dup=True)) == [pubrec(5)]
    assert peer.handler.payloads == [b"x"]
    assert peer.send(pubrel(5)) == [pubcomp(5)]
    assert peer.send(message) == [pubrec(5)]
    assert peer.handler.payloads == [b"x", b"x"]


def test_4_3_3_2_pubrel_for_an_unknown_identifier_is_completed() -> None:
    """[MQTT-4.3.3-2]: the peer must be able to finish."""
    assert Peer().send(pubrel(77), pubrel(77)) == [pubcomp(77), pubcomp(77)]


def test_4_3_3_2_pubrec_waits_for_the_promise_and_so_does_what_follows() -> None:
    """[MQTT-4.3.3-2] [MQTT-4.6.0-3]"""
    peer, promise = Peer(), Promise()
    queue_promises(peer, [promise])
    assert peer.send(Publish("t", b"x", 2, 5), Publish("t", b"x", 2, 5, dup=True), pubrel(5)) == []
    promise.resolve(None)
    assert peer.answers() == [pubrec(5), pubrec(5), pubcomp(5)]
    assert peer.handler.payloads == [b"x"]


def test_unreleased_qos_2_messages_are_bounded() -> None:
    peer = Peer(ProtocolLimits(max_unreleased=100))
    peer.send(*(Publish("t", b"x", 2, number) for number in range(1, 101)))
    assert peer.send(*[Publish("t", b"x", 2, 1, dup=True)] * 5) == [pubrec(1)] * 5, "the same again is nothing new"
    assert peer.send(pubrel(1), Publish("t", b"x", 2, 999)) == [pubcomp(1), pubrec(999)]
    assert peer.refuses(Publish("t", b"x", 2, 1_000)).reason_code == 0x93


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_client_may_acknowledge_what_is_not_known_here(is_resumed: bool) -> None:
    """Section 4.1: the client's memory may be the older one. A PUBREL might meet the next message of its identifier."""
    for level in (3, 4, 5):
        peer = Peer(is_connected=False, level=level)
        peer.handler.is_session_present = is_resumed
        peer.send(Connect("client", False, level=ProtocolLevel(level)))
        assert peer.send(pubrec(7), pubcomp(8), puback(9), Pingreq()) == [Pingresp()]


# -- other packets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [Connack(False, 0), Suback(1, (0,)), Unsuback(1), Pingresp()])
def test_packets_that_a_client_never_sends(packet: Packet) -> None:
    assert "never sends" in str(Peer().refuses(packet))


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("first_byte", [0x10, 0x20, 0x90, 0xB0, 0xD0])
def test_packets_that_a_client_never_sends_are_refused_by_their_first_byte(first_byte: int, level: int) -> None:
    """Nothing more is waited for, neither a length nor a body."""
    for rest in (b"", b"\x05", b"\xff", b"\xff\x01"):
        error = Peer(level=level).refuses(bytes((first_byte,)) + rest)
        assert "never sends" in str(error) or "second CONNECT" in str(error)
        assert error.reason_code == ReasonCode.PROTOCOL_ERROR
    assert isinstance(Peer(level=level).refuses(bytes((first_byte | 1,))), MalformedPacket), "its flags are wrong first"


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("length", [b"\x01", b"\x7f", b"\x80\x01"])
def test_a_pingreq_with_a_body_is_refused_by_its_header(level: int, length: bytes) -> None:
    assert isinstance(Peer(level=level).refuses(b"\xc0" + length), MalformedPacket)


def test_a_pingreq_of_mqtt_3_1_may_have_dup() -> None:
    """Section 2.1 of 3.1 leaves the flag unused there."""
    assert Peer(level=3).send(b"\xc8\0", Pingreq()) == [Pingresp(), Pingresp()]
    assert isinstance(Peer(level=3).refuses(b"\xc8\1"), MalformedPacket)


def test_3_12_4_1_pingreq_is_answered() -> None:
    """[MQTT-3.12.4-1]"""
    assert Peer().send(Pingreq(), Pingreq()) == [Pingresp(), Pingresp()]


def test_3_14_4_nothing_after_disconnect_is_processed() -> None:
    """[MQTT-3.14.4-1]"""
    peer = Peer()
    assert peer.send(Publish("t", b"x", 1, 1), Disconnect(), Publish("t", b"y", 1, 2), b"\xff\xff") == [puback(1)]
    assert peer.protocol.is_finished
    assert peer.handler.payloads == [b"x"]


def test_3_8_4_subscribe_is_answered_filter_by_filter() -> None:
    """[MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.9.3-1]: one code a filter, in order."""
    peer = Peer()
    wanted = (Subscription("a", 0), Subscription("forbidden", 1), Subscription("b/+", 1), Subscription("#", 2))
    assert peer.send(Subscribe(11, wanted)) == [Suback(11, (0, SUBACK_FAILURE, 1, 2))]
    assert [call[1:] for call in peer.handler.calls] == [(subscription, 0) for subscription in wanted]


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+", "#a", "#/#", "a\0"])
def test_4_7_1_a_bad_filter_closes(topic_filter: str) -> None:
    """[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1]"""
    raw = topic_filter.encode()
    body = b"\0\1" + len(raw).to_bytes(2, "big") + raw + b"\0"
    Peer().refuses(b"\x82" + bytes((len(body),)) + body)


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("topic_filter", ["", "$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/#/t"])
@pytest.mark.parametrize("before", [1, 50, 1_000])
def test_4_13_1_a_filter_that_spoils_the_packet_leaves_nothing_behind(
    level: int, topic_filter: str, before: int
) -> None:
    """[MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT-4.13.1-1]; also among those that are too many."""
    peer = Peer(level=level)
    error = peer.refuses(Subscribe(1, (*[Subscription("a", 0)] * before, Subscription(topic_filter, 0))))
    assert error.reason_code == (0x82 if topic_filter else 0x81)
    assert peer.handler.calls == []


def test_4_7_1_another_bad_filter_is_refused_alone_in_mqtt_5() -> None:
    wanted = tuple(Subscription(topic_filter, 0) for topic_filter in ("a", "a/#/b", "$share/g/a+", "b"))
    reason = {PropertyId.REASON_STRING: "'#' must be the whole last level of a topic filter"}
    assert Peer(level=5).send(Subscribe(1, wanted)) == [Suback(1, (0, 0x8F, 0x8F, 0), reason)]
    peer = Peer(level=4)
    peer.refuses(Subscribe(1, wanted))
    assert peer.handler.calls == []


def test_subscribe_beyond_the_limits() -> None:
    """Too many filters and too long ones fail one by one; too deep ones close."""
    peer = Peer(ProtocolLimits(max_subscribe_filters=2, max_topic_bytes=10, max_topic_levels=3))
    wanted = tuple(Subscription(topic_filter, 0) for topic_filter in ("a", "b" * 11, "c", "d"))
    assert peer.send(Subscribe(1, wanted)) == [Suback(1, (0, SUBACK_FAILURE, SUBACK_FAILURE, SUBACK_FAILURE))]
    peer.refuses(Subscribe(2, (Subscription("+/+/+/+", 0),)))


def test_ten_thousand_filters_in_one_subscribe() -> None:
    peer = Peer()
    answers = peer.send(Subscribe(1, tuple(Subscription("+/a", 0) for _ in range(10_000))))
    assert len(peer.handler.calls) == GENEROUS.max_subscribe_filters
    assert answers == [Suback(1, (0,) * 50 + (SUBACK_FAILURE,) * 9_950)]


def test_what_is_beyond_the_limit_of_filters_is_only_counted() -> None:
    peer = Peer(ProtocolLimits(max_subscribe_filters=1))
    assert peer.send(b"\x82\x0c\0\1\0\1a\0\0\3\xff\0\xff\7") == [Suback(1, (0, SUBACK_FAILURE))]
    for rest in (b"\0", b"\0\1", b"\0\1a", b"\0\0", b"\0\1b\0\0"):
        body = b"\0\2\0\1a\0" + rest
        error = Peer(ProtocolLimits(max_subscribe_filters=1)).refuses(b"\x82" + bytes((len(body),)) + body)
        assert isinstance(error, MalformedPacket)


@pytest.mark.parametrize("first_byte", [0x82, 0xA2])
def test_a_subscribe_has_a_size_limit_of_its_own(first_byte: int) -> None:
    peer = Peer()
    assert peer.receive(bytes((first_byte,)) + render_remaining_length(GENEROUS.max_subscribe_bytes)) is False
    error = Peer().refuses(bytes((first_byte,)) + render_remaining_length(GENEROUS.max_subscribe_bytes + 1))
    assert isinstance(error, PacketTooLarge)


def test_an_unsubscribe_of_more_filters_than_anybody_needs_is_refused() -> None:
    assert Peer().send(Unsubscribe(1, ("a",) * 1_000)) == [Unsuback(1)]
    Peer().refuses(Unsubscribe(1, ("a",) * 1_001))


def test_a_filter_of_very_many_wildcards_is_refused() -> None:
    """Each `+` doubles the paths a search may have to follow."""
    peer = Peer(ProtocolLimits(max_wildcard_levels=2))
    wanted = tuple(Subscription(topic_filter, 0) for topic_filter in ("+/+/a/#", "+/+/+", "+"))
    assert peer.send(Subscribe(1, wanted)) == [Suback(1, (0, SUBACK_FAILURE, 0))]


def test_3_10_4_unsubscribe_is_always_answered() -> None:
    """[MQTT-3.10.4-4] [MQTT-3.10.4-5]"""
    peer = Peer()
    assert peer.send(Unsubscribe(12, ("a", "never/#"))) == [Unsuback(12)]
    assert peer.handler.calls == [("unsubscribe", "a"), ("unsubscribe", "never/#")]


# -- one client's turn ----------------------------------------------------------------------------------------------


def test_a_client_that_causes_many_copies_lets_others_have_their_turn() -> None:
    peer = Peer()
    peer.handler.copies = COPIES // 2 + 1
    assert peer.send(*(Publish("t", b"x", 1, number) for number in range(1, 6))) == [puback(1), puback(2)]
    assert peer.protocol.is_stalled
    assert peer.send() == [puback(3), puback(4)]
    assert peer.protocol.is_stalled
    assert peer.send() == [puback(5)]
    assert not peer.protocol.is_stalled


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    ("packet", "most"),
    [
        (Subscribe(1, (Subscription("a", 0),)), 51),
        (Subscribe(1, tuple(Subscription("a", 0) for _ in range(10))), 6),
        (Unsubscribe(1, ("a",)), 51),
        (Unsubscribe(1, ("a",) * 10), 6),
        (pubrec(7), 101),
        (pubrel(7), 101),
        (pubcomp(7), 101),
        (puback(7), 101),
    ],
)
def test_other_packets_count_against_the_turn_too(packet: Packet, most: int, level: int) -> None:
    """A read full of what takes longer than a copy does not keep the others waiting."""
    peer = Peer(level=level)
    peer.receive(*[packet] * 250)
    assert peer.turn.left < 0
    assert peer.protocol.is_stalled
    turns = 1
    while peer.protocol.is_stalled:
        peer.receive()
        turns += 1
    assert turns == -(-250 // most)
    assert not peer.protocol.is_finished


def test_filters_that_are_not_read_count_a_little() -> None:
    peer = Peer(ProtocolLimits(max_subscribe_filters=1))
    peer.receive(Subscribe(1, tuple(Subscription("a", 0) for _ in range(401))))
    assert peer.turn.left == COPIES - COPIES_PER_FILTER - 100


def test_acknowledgements_of_what_was_sent_count_nothing() -> None:
    """Of QoS 1: there is one for each message, and nothing is answered."""
    peer = Peer()
    for _ in range(3):
        peer.session.send(MESSAGE, 1, False, ())
    peer.receive(puback(1), puback(2), puback(3))
    assert peer.turn.left == COPIES


def test_a_pubrec_that_comes_again_and_again_counts() -> None:
    peer = Peer()
    peer.session.send(MESSAGE, 2, False, ())
    peer.receive(*[pubrec(1)] * 250)
    assert peer.protocol.is_stalled


# -- MQTT 5 ---------------------------------------------------------------------------------------------------------


def refuse() -> Refused:
    return Refused("no right", ReasonCode.NOT_AUTHORIZED)


def test_a_refused_message_is_answered_with_the_reason_where_the_version_has_one() -> None:
    """Section 3.4.2.1; 3.1.1 gets a plain answer, or it would send the message for ever."""
    for level in (4, 5):
        peer = Peer(level=level)
        peer.handler.pending = refuse
        why = {PropertyId.REASON_STRING: "no right"}
        refused = [Acknowledgement(PacketType.PUBACK, 1, 0x87, why), Acknowledgement(PacketType.PUBREC, 2, 0x87, why)]
        plain: list[Packet] = [puback(1), pubrec(2)]
        sent = Publish("t", b"x", 1, 1), Publish("t", b"x", 2, 2), Publish("t", b"x")
        assert peer.send(*sent) == (refused if level == 5 else plain)


def test_4_3_3_9_a_refused_qos_2_message_ends_with_its_pubrec() -> None:
    """[MQTT-4.3.3-9]: the identifier is free again, and the same packet is looked at again."""
    peer = Peer(level=5)
    peer.handler.pending = refuse
    peer.send(Publish("t", b"x", 2, 2))
    assert not peer.session.unreleased
    peer.handler.pending = lambda: None
    assert peer.send(Publish("t", b"x", 2, 2)) == [pubrec(2)]
    assert peer.handler.payloads == [b"x", b"x"]


def test_a_message_that_is_refused_when_looked_at_more_closely() -> None:
    for level in (4, 5):
        peer, promise = Peer(level=level), Promise()
        queue_promises(peer, [promise, None])
        peer.send(Publish("t", b"x", 1, 1), Publish("t", b"x", 1, 2))
        promise.resolve(RequestError("no such field"))
        why = {PropertyId.REASON_STRING: "no such field"}
        refused = Acknowledgement(PacketType.PUBACK, 1, 0x99, why) if level == 5 else puback(1)
        assert peer.answers() == [refused, puback(2)]


def test_3_1_2_29_reasons_in_words_are_for_those_who_want_them() -> None:
    """[MQTT-3.1.2-29]"""
    peer = Peer(level=5, properties={PropertyId.REQUEST_PROBLEM_INFORMATION: 0})
    peer.handler.pending = refuse
    assert peer.send(Publish("t", b"x", 1, 1)) == [Acknowledgement(PacketType.PUBACK, 1, 0x87)]
    peer.refuses(Publish("a/+", b""))
    [goodbye] = peer.answers()
    assert isinstance(goodbye, Disconnect)
    assert goodbye.properties == {}


def test_3_1_2_24_nothing_is_larger_than_the_client_takes() -> None:
    """[MQTT-3.1.2-24]: words are left out first; then nothing can be said."""
    peer = Peer(level=5, properties={PropertyId.MAXIMUM_PACKET_SIZE: 12})
    peer.handler.pending = lambda: Refused("a long story", ReasonCode.QUOTA_EXCEEDED)
    assert peer.send(Publish("t", b"x", 1, 1)) == [Acknowledgement(PacketType.PUBACK, 1, 0x97)]
    peer.refuses(b"\xc1\x00")
    assert peer.answers() == [Disconnect(ReasonCode.MALFORMED_PACKET)]
    tiny = Peer(is_connected=False, level=5)
    connect = Connect("a", level=ProtocolLevel.V5, properties={PropertyId.MAXIMUM_PACKET_SIZE: 4})
    assert tiny.refuses(connect).reason_code == ReasonCode.PACKET_TOO_LARGE
    assert tiny.answers() == []


def test_3_3_2_aliases_stand_for_topics() -> None:
    """Section 3.3.2.3.4: set, used, set anew; another connection knows nothing of it."""
    peer = Peer(ProtocolLimits(topic_alias_maximum=2), level=5)

    def aliased(topic: str, alias: int, payload: bytes) -> Publish:
        return Publish(topic, payload, properties={PropertyId.TOPIC_ALIAS: alias})

    peer.send(aliased("a", 1, b"1"), aliased("b", 2, b"2"), aliased("", 1, b"3"), aliased("", 2, b"4"))
    peer.send(aliased("c", 1, b"5"), aliased("", 1, b"6"), aliased("", 2, b"7"))
    assert [call[1] for call in peer.handler.calls] == ["a", "b", "a", "b", "c", "c", "b"]
    assert peer.says_goodbye(aliased("a", 3, b"")) == ReasonCode.TOPIC_ALIAS_INVALID
    assert Peer(level=5).says_goodbye(aliased("", 1, b"")) == ReasonCode.PROTOCOL_ERROR
    assert Peer(ProtocolLimits(topic_alias_maximum=0), level=5).says_goodbye(aliased("a", 1, b"")) == 0x94


@pytest.mark.parametrize("qos", [1, 2])
def test_3_3_4_7_the_receive_maximum_counts_what_waits_for_its_acknowledgement(qos: int) -> None:
    """[MQTT-3.3.4-7] [MQTT-3.3.4-8]"""
    peer, promise = Peer(ProtocolLimits(receive_maximum=3), level=5), Promise()
    peer.handler.pending = lambda: promise
    assert peer.send(*(Publish("t", b"x", qos, number) for number in (1, 2, 3))) == []
    assert peer.says_goodbye(Publish("t", b"x", qos, 4)) == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
    assert len(peer.handler.payloads) == 3


def test_acknowledged_messages_count_no_more() -> None:
    peer = Peer(ProtocolLimits(receive_maximum=2), level=5)
    for number in range(1, 20):
        promise = Promise()
        queue_promises(peer, [promise, promise])
        peer.send(Publish("t", b"x", 1, 1), Publish("t", b"x", 2, 2))
        promise.resolve(None)
        assert peer.answers() == [puback(1), pubrec(2)], number
        assert peer.send(pubrel(2)) == [pubcomp(2)]


def test_qos_0_is_taken_whatever_waits() -> None:
    peer, promise = Peer(ProtocolLimits(receive_maximum=1), level=5), Promise()
    queue_promises(peer, [promise, None, None])
    peer.send(Publish("t", b"1", 1, 1), Publish("t", b"2"), Publish("t", b"3"))
    assert peer.handler.payloads == [b"1", b"2", b"3"]


def test_pubrel_and_pubcomp_of_an_unknown_identifier_say_so() -> None:
    """Section 3.6.2.1"""
    assert Peer(level=5).send(pubrel(77)) == [Acknowledgement(PacketType.PUBCOMP, 77, 0x92)]


@pytest.mark.parametrize("level", [4, 5])
def test_subscription_identifiers_and_options_reach_the_handler(level: int) -> None:
    peer = Peer(level=level)
    subscription = Subscription("a", 2, *((True, True, 2) if level == 5 else ()))
    properties = {PropertyId.SUBSCRIPTION_IDENTIFIER: (7,)} if level == 5 else NO_PROPERTIES
    peer.send(Subscribe(1, (subscription,), properties))
    assert peer.handler.calls == [("subscribe", subscription, 7 if level == 5 else 0)]


def test_suback_of_mqtt_5_says_why() -> None:
    peer = Peer(ProtocolLimits(max_subscribe_filters=4, max_topic_bytes=20, max_wildcard_levels=1), level=5)
    filters = ("forbidden", "a/#/b", "+/+", "x" * 21, "one too many")
    wanted = tuple(Subscription(topic_filter, 1) for topic_filter in filters)
    reason = {PropertyId.REASON_STRING: "no right to this"}
    assert peer.send(Subscribe(1, wanted)) == [Suback(1, (0x87, 0x8F, 0x97, 0x8F, 0x97), reason)]
    assert peer.handler.refused == [
        ("forbidden", "no right to this"),
        ("a/#/b", "'#' must be the whole last level of a topic filter"),
        ("+/+", "a topic filter has more than 1 levels of '+': use '#' or several filters"),
        ("x" * 21, "a topic filter is longer than 20 bytes"),
        ("", "a SUBSCRIBE has more than 4 topic filters: send the rest in another one"),
    ]
    assert peer.send(Unsubscribe(2, ("known", "unknown"))) == [Unsuback(2, (0, 0x11))]


def test_suback_says_why_the_first_filter_was_refused() -> None:
    limits = ProtocolLimits(max_subscribe_filters=2, max_wildcard_levels=1)
    for filters, codes, reason in (
        (("a", "b"), (1, 1), ""),
        (("a", "forbidden"), (1, 0x87), "no right to this"),
        (("+/+", "forbidden"), (0x97, 0x87), "a topic filter has more than 1 levels"),
        (("a", "b", "c", "d"), (1, 1, 0x97, 0x97), "a SUBSCRIBE has more than 2 topic filters"),
    ):
        [suback] = Peer(limits, level=5).send(Subscribe(1, tuple(Subscription(each, 1) for each in filters)))
        assert isinstance(suback, Suback)
        assert suback.reason_codes == codes
        told = suback.properties.get(PropertyId.REASON_STRING, "")
        assert told.startswith(reason)
        assert bool(told) is bool(reason)


def test_3_1_2_29_suback_says_why_only_to_those_who_want_to_know() -> None:
    """[MQTT-3.1.2-29] and, for those who take short packets only, [MQTT-3.1.2-24]"""
    subscribe = Subscribe(1, (Subscription("forbidden", 1),))
    for property_id, value in ((PropertyId.REQUEST_PROBLEM_INFORMATION, 0), (PropertyId.MAXIMUM_PACKET_SIZE, 20)):
        assert Peer(level=5, properties={property_id: value}).send(subscribe) == [Suback(1, (0x87,))]
    [suback] = Peer(level=5, properties={PropertyId.MAXIMUM_PACKET_SIZE: 30}).send(subscribe)
    assert suback == Suback(1, (0x87,), {PropertyId.REASON_STRING: "no right to this"})
    peer = Peer(level=5, properties={PropertyId.MAXIMUM_PACKET_SIZE: 5})
    assert peer.refuses(subscribe).reason_code == ReasonCode.PACKET_TOO_LARGE
    assert Peer(level=4).send(subscribe) == [Suback(1, (SUBACK_FAILURE,))]


def test_2_1_5_a_length_longer_than_it_need_be_is_malformed() -> None:
    """[MQTT-1.5.5-1]; 3.1.1 does not forbid it."""
    assert Peer(level=5).says_goodbye(b"\x30\x84\x00\x00\x01tx") == ReasonCode.MALFORMED_PACKET


def test_3_14_4_3_a_goodbye_takes_the_will_along_unless_it_asks_for_it() -> None:
    """[MQTT-3.14.4-3] and section 3.14.2.1"""
    will = Will("t", b"gone", 0, False)
    for goodbye, kept in ((Disconnect(), None), (Disconnect(ReasonCode.DISCONNECT_WITH_WILL), will)):
        peer = Peer(level=5)
        peer.session.will = will
        assert peer.send(goodbye) == []
        assert peer.protocol.is_finished
        assert peer.session.will is kept


def test_disconnect_may_change_how_long_the_session_lasts() -> None:
    """Section 3.14.2.2.2 [MQTT-3.1.2-23]"""
    peer = Peer(ProtocolLimits(max_session_expiry_s=1_000), level=5)
    peer.session.expiry_s = 10
    peer.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 5_000}))
    assert peer.session.expiry_s == 1_000
    ending = Peer(level=5)
    assert ending.says_goodbye(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 1})) == 0x82
    assert ending.session.expiry_s == 0


def test_4_12_there_is_no_enhanced_authentication() -> None:
    """[MQTT-4.12.0-1] [MQTT-4.12.0-6]"""
    method = {PropertyId.AUTHENTICATION_METHOD: "SCRAM-SHA-1"}
    peer = Peer(is_connected=False, level=5)
    peer.refuses(Connect("a", level=ProtocolLevel.V5, properties=method))
    [connack] = peer.answers()
    assert isinstance(connack, Connack)
    assert connack.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
    assert Peer(level=5).says_goodbye(Auth(0x18, method)) == ReasonCode.PROTOCOL_ERROR


def test_an_empty_client_id_may_have_a_session_in_mqtt_5() -> None:
    """Section 3.1.3.1: the server gives it a name."""
    peer = Peer(is_connected=False, level=5)
    assert peer.send(Connect("", False, level=ProtocolLevel.V5)) == [Connack(False, 0)]


@pytest.mark.parametrize("topic", ["x" * 21, "a/b/c/d"])
def test_the_topic_of_a_will_has_the_limits_of_every_topic(topic: str) -> None:
    peer = Peer(ProtocolLimits(max_topic_bytes=20, max_topic_levels=3), is_connected=False, level=5)
    peer.refuses(Connect("a", will=Will(topic, b"", 0, False), level=ProtocolLevel.V5))
    [connack] = peer.answers()
    assert isinstance(connack, Connack)
    assert connack.reason_code == ReasonCode.TOPIC_NAME_INVALID


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_will_is_no_larger_than_a_publish_may_be(level: int, qos: int) -> None:
    """Its limit is that of the message which says the same."""
    is_v5 = level == 5
    properties = {PropertyId.CONTENT_TYPE: "text", PropertyId.USER_PROPERTY: (("a", "b"),)} if is_v5 else NO_PROPERTIES
    delay = {PropertyId.WILL_DELAY_INTERVAL: 5} if is_v5 else {}
    published = render_packet(Publish("é", b"x" * 500, qos, 1 if qos else None, properties=properties), level)
    connect = Connect("a", will=Will("é", b"x" * 500, qos, False, {**properties, **delay}), level=ProtocolLevel(level))
    most = len(published) - 3
    assert Peer(ProtocolLimits(max_packet_bytes=most), level=level).receive(published) is True
    assert Peer(ProtocolLimits(max_packet_bytes=most), is_connected=False, level=level).send(connect) == [
        Connack(False, 0)
    ]
    peer = Peer(ProtocolLimits(max_packet_bytes=most - 1), is_connected=False, level=level)
    assert peer.refuses(connect).reason_code == ReasonCode.PACKET_TOO_LARGE
    [connack] = peer.answers()
    assert isinstance(connack, Connack)
    assert connack.reason_code == (ReasonCode.PACKET_TOO_LARGE if is_v5 else ConnectReturnCode.NOT_AUTHORIZED)
    assert peer.handler.calls == [], "who it is was not looked at"


def test_4_13_faults_are_named() -> None:
    """Section 4.13: with the reason, once CONNECT is accepted; before, there is nobody to tell [MQTT-3.14.0-1]."""
    assert Peer(level=5).says_goodbye(Connect("other", level=ProtocolLevel.V5)) == ReasonCode.PROTOCOL_ERROR
    assert Peer(level=5).says_goodbye(b"\x30\xff\xff\xff\x7f") == ReasonCode.PACKET_TOO_LARGE
    assert Peer(level=5).says_goodbye(b"\xc1\x00") == ReasonCode.MALFORMED_PACKET
    assert Peer(ProtocolLimits(max_topic_bytes=3), level=5).says_goodbye(Publish("aaaa", b"")) == 0x90
    early = Peer(is_connected=False, level=5)
    early.refuses(Pingreq())
    assert early.answers() == []


# -- what must be written down first --------------------------------------------------------------------------------


class Record:
    """A record that writes nothing before the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.promise: Promise | None = Promise()

    def save_outgoing(self, outgoing: Outgoing) -> None:
        self.calls.append(("save outgoing", outgoing.packet_id))

    def mark_sent(self, packet_id: int) -> None:
        self.calls.append(("mark sent", packet_id))

    def mark_released(self, packet_id: int) -> None:
        self.calls.append(("mark released", packet_id))

    def delete_outgoing(self, packet_id: int) -> None:
        self.calls.append(("delete outgoing", packet_id))

    def save_received(self, packet_id: int) -> None:
        self.calls.append(("save received", packet_id))

    def delete_received(self, packet_id: int) -> None:
        self.calls.append(("delete received", packet_id))

    def written(self) -> Pending | None:
        return self.promise


@pytest.mark.parametrize("level", [4, 5])
def test_what_a_lasting_session_promises_is_on_disk(level: int) -> None:
    """[MQTT-4.3.3-8] and section 4.1: PUBREC, PUBCOMP, SUBACK and UNSUBACK wait, PINGRESP does not."""
    peer, record = Peer(level=level), Record()
    peer.session.record = record
    assert peer.send(Publish("t", b"x", 2, 5), pubrel(5), Subscribe(1, (Subscription("a", 0),))) == []
    assert peer.send(Unsubscribe(2, ("known",)), Pingreq()) == [Pingresp()]
    assert record.calls == [("save received", 5), ("delete received", 5)]
    assert record.promise is not None
    record.promise.resolve(None)
    unsuback = Unsuback(2, (0,) if level == 5 else ())
    assert peer.answers() == [pubrec(5), pubcomp(5), Suback(1, (0,)), unsuback]


def test_a_message_waits_for_its_target_and_its_record() -> None:
    peer, record, stored = Peer(), Record(), Promise()
    peer.session.record = record
    queue_promises(peer, [stored])
    peer.send(Publish("t", b"x", 2, 5))
    assert record.promise is not None
    record.promise.resolve(None)
    assert peer.answers() == []
    stored.resolve(None)
    assert peer.answers() == [pubrec(5)]
