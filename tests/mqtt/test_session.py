"""The server's session, driven by bytes: what it asks of its handler, what it answers, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.errors import StorageError
from headwater.mqtt.decode import parse_packet, parse_publish
from headwater.mqtt.encode import MAX_REMAINING_LENGTH, render_packet, render_publish, render_remaining_length
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, PacketTooLarge, UnacceptableProtocol
from headwater.mqtt.packets import (
    SUBACK_FAILURE,
    Acknowledgement,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    ProtocolLevel,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.session import (
    MAX_CACHED_TARGETS,
    MAX_CONNECT_BYTES,
    MAX_CONTROL_BYTES,
    MAX_SUBSCRIBE_BYTES,
    MAX_UNRELEASED,
    Pending,
    PublishTarget,
    ServerSession,
    SessionLimits,
    parse_frame_length,
)
from headwater.services.promise import Promise

from .strategies import packets, publishes, subscribes, unsubscribes

NOW_NS = 1_700_000_000_000_000_000
GENEROUS = SessionLimits(max_packet_bytes=1 << 20, max_topic_bytes=65_535, max_topic_levels=65_535)


class Handler:
    """Writes down what the session asks; answers as the test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.return_code = ConnectReturnCode.ACCEPTED
        self.pending: Callable[[], Pending | None] = lambda: None
        self.unreadable_filter = "forbidden"
        self.is_output_ready = False

    def authenticate(self, connect: Connect) -> ConnectReturnCode:
        self.calls.append(("authenticate", connect))
        return self.return_code

    def resolve_publish(self, topic: str) -> PublishTarget:
        def take(payload: bytes, flags: int, at_ns: int) -> Pending | None:
            self.calls.append(("publish", topic, payload, flags, at_ns))
            return self.pending()

        return take

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self.calls.append(("subscribe", topic_filter, qos))
        return SUBACK_FAILURE if topic_filter == self.unreadable_filter else qos

    def unsubscribe(self, topic_filter: str) -> None:
        self.calls.append(("unsubscribe", topic_filter))

    def output_ready(self) -> None:
        self.is_output_ready = True

    def storing_failed(self, error: Exception) -> None:
        self.calls.append(("failed", str(error)))

    @property
    def payloads(self) -> list[bytes]:
        return [call[2] for call in self.calls if call[0] == "publish"]


class Peer:
    """A client and a session, joined by bytes."""

    def __init__(self, limits: SessionLimits = GENEROUS, *, is_connected: bool = True) -> None:
        self.handler = Handler()
        self.session = ServerSession(self.handler, limits)
        if is_connected:
            assert self.send(Connect("client")) == [Connack(False, 0)]
            self.handler.calls.clear()

    def send(self, *sent: Packet | bytes) -> list[Packet]:
        """What the session answers at once."""
        self.receive(*sent)
        return self.answers()

    def receive(self, *sent: Packet | bytes) -> bool:
        data = b"".join(p if isinstance(p, bytes) else render_packet(p) for p in sent)
        return self.session.receive(data, NOW_NS)

    def answers(self) -> list[Packet]:
        return split(self.session.take_output())

    def refuses(self, *sent: Packet | bytes) -> MqttProtocolError:
        with pytest.raises(MqttProtocolError) as caught:
            self.receive(*sent)
        assert self.session.is_finished
        return caught.value


def split(data: bytes) -> list[Packet]:
    """The packets in a stretch of output."""
    found: list[Packet] = []
    while data:
        header = parse_frame_length(data, 0, len(data))
        assert header is not None
        start, length = header
        found.append(parse_packet(data[0], data[start : start + length]))
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
    assert peer.send(connect) == [Connack(session_present=False, return_code=0)]
    assert peer.handler.calls == [("authenticate", connect)]
    assert (peer.session.client_id, peer.session.keep_alive_s, peer.session.is_connected) == ("porch", 30, True)


def test_packets_right_behind_connect_are_served() -> None:
    """Section 3.1.4: clients need not wait for CONNACK."""
    peer = Peer(is_connected=False)
    assert peer.send(Connect("a"), Publish("t", b"x", 1, 7), Pingreq()) == [Connack(False, 0), puback(7), Pingresp()]


def test_3_1_0_1_the_first_packet_is_connect() -> None:
    """[MQTT-3.1.0-1]; judged by its first byte, without waiting for more."""
    for first_byte in set(range(256)) - {0x10}:
        peer = Peer(is_connected=False)
        peer.refuses(bytes((first_byte,)))
        assert peer.session.take_output() == b""


def test_3_1_0_2_a_second_connect_closes() -> None:
    """[MQTT-3.1.0-2]"""
    peer = Peer()
    assert "second CONNECT" in str(peer.refuses(Connect("other")))
    assert peer.handler.calls == []
    assert peer.session.take_output() == b""


def test_3_1_2_2_an_older_or_unknown_level_gets_return_code_1() -> None:
    """[MQTT-3.1.2-2]"""
    for name, level in ((b"MQTT", 3), (b"MQTT", 0), (b"MQIsdp", 4), (b"MQTT", 0x84), (b"MQIsdp", 0x83)):
        peer = Peer(is_connected=False)
        error = peer.refuses(connect_bytes(name, level))
        assert isinstance(error, UnacceptableProtocol)
        assert peer.session.take_output() == b"\x20\x02\x00\x01", (name, level)
        assert peer.handler.calls == []


def test_3_1_2_2_level_5_gets_the_refusal_of_its_own_version() -> None:
    """MQTT 5.0 section 3.2.2.2: reason code 0x84, and properties, which 3.1.1 does not have."""
    peer = Peer(is_connected=False)
    peer.refuses(connect_bytes(b"MQTT", 5))
    assert peer.session.take_output() == b"\x20\x03\x00\x84\x00"


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
    assert peer.session.take_output() == b""


def test_3_1_3_8_an_empty_client_id_needs_a_clean_session() -> None:
    """[MQTT-3.1.3-7] [MQTT-3.1.3-8]"""
    peer = Peer(is_connected=False)
    peer.refuses(Connect("", clean_session=False))
    assert peer.answers() == [Connack(False, ConnectReturnCode.IDENTIFIER_REJECTED)]
    assert peer.handler.calls == []
    assert Peer(is_connected=False).send(Connect("", clean_session=True)) == [Connack(False, 0)]


def test_a_client_id_beyond_the_limit_gets_return_code_2() -> None:
    """[MQTT-3.1.3-9]: the limit counts bytes, not characters."""
    limits = SessionLimits(max_client_id_bytes=24)
    assert Peer(limits, is_connected=False).send(Connect("x" * 24)) == [Connack(False, 0)]
    for client_id in ("x" * 25, "é" * 13):
        peer = Peer(limits, is_connected=False)
        peer.refuses(Connect(client_id))
        assert peer.answers() == [Connack(False, ConnectReturnCode.IDENTIFIER_REJECTED)]


@pytest.mark.parametrize("code", list(ConnectReturnCode)[1:])
def test_3_2_2_5_a_refused_connect_is_answered_and_ends_the_session(code: ConnectReturnCode) -> None:
    """[MQTT-3.2.2-5] [MQTT-3.1.4-5]: what follows is not processed."""
    peer = Peer(is_connected=False)
    peer.handler.return_code = code
    peer.refuses(Connect("a"), Publish("t", b"x"))
    assert peer.answers() == [Connack(False, code)]
    assert peer.handler.payloads == []
    assert not peer.session.is_connected


def test_a_connect_is_judged_by_its_header_before_its_body() -> None:
    """Nothing of an announced 256 MB is waited for."""
    peer = Peer(is_connected=False)
    assert isinstance(peer.refuses(b"\x10\xff\xff\xff\x7f"), PacketTooLarge)
    peer = Peer(is_connected=False)
    peer.refuses(b"\x10" + render_remaining_length(MAX_CONNECT_BYTES + 1))
    assert Peer(is_connected=False).receive(b"\x10" + render_remaining_length(MAX_CONNECT_BYTES)) is False


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
    peer = Peer(SessionLimits(max_packet_bytes=1_000))
    assert peer.receive(b"\x30" + render_remaining_length(1_000)) is False
    for first_byte in (0x30, 0x32, 0x82, 0xA2, 0xC0):
        peer = Peer(SessionLimits(max_packet_bytes=1_000))
        assert isinstance(peer.refuses(bytes((first_byte,)) + render_remaining_length(1_001)), PacketTooLarge)


@pytest.mark.parametrize("first_byte", [0x40, 0x50, 0x62, 0x70, 0xC0, 0xE0, 0x20, 0x90, 0xB0, 0xD0, 0xF0, 0x00, 0x10])
def test_a_control_packet_of_kilobytes_is_refused_on_its_header(first_byte: int) -> None:
    error = Peer().refuses(bytes((first_byte,)) + render_remaining_length(MAX_CONTROL_BYTES + 1))
    assert isinstance(error, PacketTooLarge)


def test_a_large_packet_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    """An unfinished packet is not looked at again until it is whole."""
    peer = Peer()
    wire = render_packet(Publish("t", b"x" * 500_000, 1, 1))
    started_s = time.perf_counter()
    for position in range(len(wire)):
        peer.session.receive(wire[position : position + 1], NOW_NS)
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


@settings(max_examples=150)
@given(
    st.lists(WORKING_PACKETS, max_size=8),
    st.one_of(st.just(b""), st.binary(max_size=12), packets.map(render_packet)),
    st.lists(st.integers(1, 40), min_size=1),
)
@example([Publish("t", b"x" * 300, 1, 1), Pingreq()], b"", [1])
def test_any_split_of_the_stream_means_the_same(sent: list[Packet], ending: bytes, sizes: list[int]) -> None:
    """One byte at a time, many packets in one read, anything between; also up to a protocol error."""
    stream = b"".join(map(render_packet, [Connect("a"), *sent])) + ending
    whole = run([stream])
    assert run([stream[i : i + 1] for i in range(len(stream))]) == whole
    chunks, position = [], 0
    while position < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[position : position + size])
        position += size
    assert run(chunks) == whole


def run(chunks: list[bytes]) -> tuple[object, ...]:
    """Everything that can be seen of a session that is given these."""
    peer, output, error = Peer(is_connected=False), b"", ""
    for chunk in chunks:
        try:
            peer.receive(chunk)
        except MqttProtocolError as caught:
            error = str(caught)
        output += peer.session.take_output()
        if peer.session.is_finished:
            break
    session = peer.session
    return peer.handler.calls, output, error, session.is_finished, session.is_connected


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
    """The session's own way through PUBLISH accepts, refuses and reads exactly as `decode.parse_publish` does."""
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
    assert peer.handler.calls == [("publish", expected.topic, expected.payload, flags, NOW_NS)]
    if expected.packet_id is None:
        assert answers == []
    else:
        answer = puback if expected.qos == 1 else pubrec
        assert answers == [answer(expected.packet_id)]


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
    limits = SessionLimits(max_topic_bytes=20, max_topic_levels=3)
    for topic in ("a" * 21, "a/b/c/d", "////", "é" * 11):
        Peer(limits).refuses(Publish(topic, b"x"))
    peer = Peer(limits)
    peer.send(Publish("a" * 20, b"x"), Publish("a/b/c", b"y"))
    assert peer.handler.payloads == [b"x", b"y"]


def test_3_3_1_3_flags_reach_the_target() -> None:
    peer = Peer()
    peer.send(Publish("t", b"", 1, 1, retain=True, dup=True))
    assert peer.handler.calls == [("publish", "t", b"", 0b1011, NOW_NS)]


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
    peer.session.forget_targets()
    peer.send(Publish("t", b"x"))
    assert resolved == ["t", "t"]
    peer.send(*[Publish(str(number), b"x") for number in range(3 * MAX_CACHED_TARGETS)])
    assert len(peer.session._targets) <= MAX_CACHED_TARGETS, "a client that invents topics must not grow us"


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
    peer.handler.storing_failed = lambda error: peer.session.finish()  # type: ignore[method-assign]
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
    peer.session.deliver_qos1(b"t", b"y")
    peer.session.finish()
    promise.resolve(None)
    broken.resolve(StorageError("late"))
    peer.session.deliver_qos0(render_publish(b"t", b"z", 0, 0))
    peer.session.deliver_qos1(b"t", b"z")
    assert peer.answers() == []
    assert not peer.handler.is_output_ready
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
    peer = Peer()
    peer.send(*(Publish("t", b"x", 2, number) for number in range(1, MAX_UNRELEASED + 1)))
    assert peer.send(*[Publish("t", b"x", 2, 1, dup=True)] * 5) == [pubrec(1)] * 5, "the same again is nothing new"
    assert peer.send(pubrel(1), Publish("t", b"x", 2, 999)) == [pubcomp(1), pubrec(999)]
    assert peer.refuses(Publish("t", b"x", 2, 1_000)).reason_code == 0x93


@pytest.mark.parametrize("answer", [pubrec, pubcomp])
def test_an_acknowledgement_for_what_was_never_sent_is_refused(answer: Callable[[int], Packet]) -> None:
    """QoS 2 is never sent, so nothing can be received or completed."""
    Peer().refuses(answer(1))


# -- other packets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [Connack(False, 0), Suback(1, (0,)), Unsuback(1), Pingresp()])
def test_packets_that_a_client_never_sends(packet: Packet) -> None:
    assert "never sends" in str(Peer().refuses(packet))


def test_3_12_4_1_pingreq_is_answered() -> None:
    """[MQTT-3.12.4-1]"""
    assert Peer().send(Pingreq(), Pingreq()) == [Pingresp(), Pingresp()]


def test_3_14_4_nothing_after_disconnect_is_processed() -> None:
    """[MQTT-3.14.4-1]"""
    peer = Peer()
    assert peer.send(Publish("t", b"x", 1, 1), Disconnect(), Publish("t", b"y", 1, 2), b"\xff\xff") == [puback(1)]
    assert peer.session.is_finished
    assert peer.handler.payloads == [b"x"]


def test_3_8_4_subscribe_is_answered_filter_by_filter() -> None:
    """[MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.9.3-1]: one code a filter, in order; QoS 2 is granted as 1."""
    peer = Peer()
    wanted = (Subscription("a", 0), Subscription("forbidden", 1), Subscription("b/+", 1), Subscription("#", 2))
    assert peer.send(Subscribe(11, wanted)) == [Suback(11, (0, SUBACK_FAILURE, 1, 1))]
    assert [call[1:] for call in peer.handler.calls] == [("a", 0), ("forbidden", 1), ("b/+", 1), ("#", 1)]


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+", "#a", "#/#", "a\0"])
def test_4_7_1_a_bad_filter_closes(topic_filter: str) -> None:
    """[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1]"""
    raw = topic_filter.encode()
    body = b"\0\1" + len(raw).to_bytes(2, "big") + raw + b"\0"
    Peer().refuses(b"\x82" + bytes((len(body),)) + body)


def test_subscribe_beyond_the_limits() -> None:
    """Too many filters and too long ones fail one by one; too deep ones close."""
    peer = Peer(SessionLimits(max_subscribe_filters=2, max_topic_bytes=10, max_topic_levels=3))
    wanted = tuple(Subscription(topic_filter, 0) for topic_filter in ("a", "b" * 11, "c", "d"))
    assert peer.send(Subscribe(1, wanted)) == [Suback(1, (0, SUBACK_FAILURE, SUBACK_FAILURE, SUBACK_FAILURE))]
    peer.refuses(Subscribe(2, (Subscription("+/+/+/+", 0),)))


def test_ten_thousand_filters_in_one_subscribe() -> None:
    peer = Peer()
    answers = peer.send(Subscribe(1, tuple(Subscription("+/a", 0) for _ in range(10_000))))
    assert len(peer.handler.calls) == GENEROUS.max_subscribe_filters
    assert answers == [Suback(1, (0,) * 50 + (SUBACK_FAILURE,) * 9_950)]


def test_what_is_beyond_the_limit_of_filters_is_only_counted() -> None:
    peer = Peer(SessionLimits(max_subscribe_filters=1))
    assert peer.send(b"\x82\x0c\0\1\0\1a\0\0\3\xff\0\xff\7") == [Suback(1, (0, SUBACK_FAILURE))]
    for rest in (b"\0", b"\0\1", b"\0\1a", b"\0\0", b"\0\1b\0\0"):
        body = b"\0\2\0\1a\0" + rest
        error = Peer(SessionLimits(max_subscribe_filters=1)).refuses(b"\x82" + bytes((len(body),)) + body)
        assert isinstance(error, MalformedPacket)


@pytest.mark.parametrize("first_byte", [0x82, 0xA2])
def test_a_subscribe_has_a_size_limit_of_its_own(first_byte: int) -> None:
    peer = Peer()
    assert peer.receive(bytes((first_byte,)) + render_remaining_length(MAX_SUBSCRIBE_BYTES)) is False
    error = Peer().refuses(bytes((first_byte,)) + render_remaining_length(MAX_SUBSCRIBE_BYTES + 1))
    assert isinstance(error, PacketTooLarge)


def test_an_unsubscribe_of_more_filters_than_anybody_needs_is_refused() -> None:
    assert Peer().send(Unsubscribe(1, ("a",) * 1_000)) == [Unsuback(1)]
    Peer().refuses(Unsubscribe(1, ("a",) * 1_001))


def test_a_filter_of_very_many_wildcards_is_refused() -> None:
    """Each `+` doubles the paths a search may have to follow."""
    peer = Peer(SessionLimits(max_wildcard_levels=2))
    wanted = tuple(Subscription(topic_filter, 0) for topic_filter in ("+/+/a/#", "+/+/+", "+"))
    assert peer.send(Subscribe(1, wanted)) == [Suback(1, (0, SUBACK_FAILURE, 0))]


def test_3_10_4_unsubscribe_is_always_answered() -> None:
    """[MQTT-3.10.4-4] [MQTT-3.10.4-5]"""
    peer = Peer()
    assert peer.send(Unsubscribe(12, ("a", "never/#"))) == [Unsuback(12)]
    assert peer.handler.calls == [("unsubscribe", "a"), ("unsubscribe", "never/#")]


# -- messages for the client -----------------------------------------------------------------------------------------


def test_qos_0_goes_out_as_it_was_rendered() -> None:
    peer = Peer()
    peer.session.deliver_qos0(render_publish(b"a/b", b"x", 0, 0))
    assert peer.answers() == [Publish("a/b", b"x")]


def test_qos_1_is_sent_up_to_the_window() -> None:
    """[MQTT-2.3.1-2] [MQTT-2.3.1-4]; unused identifiers, and no more in flight than allowed."""
    peer = Peer(SessionLimits(max_in_flight=2))
    for number in range(5):
        peer.session.deliver_qos1(b"t", b"%d" % number)
    assert peer.answers() == [Publish("t", b"0", 1, 1), Publish("t", b"1", 1, 2)]
    assert peer.send(Pingreq()) == [Pingresp()], "pings are still answered"
    assert peer.send(puback(1)) == [Publish("t", b"2", 1, 3)]
    assert peer.send(puback(1), puback(40_000)) == [], "an identifier that is not in flight makes no room"
    assert peer.send(puback(2), puback(3)) == [Publish("t", b"3", 1, 4), Publish("t", b"4", 1, 5)]
    assert peer.send(puback(5), puback(4)) == []


def test_a_full_queue_drops_the_oldest() -> None:
    peer = Peer(SessionLimits(max_in_flight=1, max_queued_messages=2))
    for number in range(6):
        peer.session.deliver_qos1(b"t", b"%d" % number)
    assert peer.session.dropped_messages == 3
    assert peer.answers() == [Publish("t", b"0", 1, 1)]
    assert peer.send(puback(1)) == [Publish("t", b"4", 1, 2)]
    assert peer.send(puback(2)) == [Publish("t", b"5", 1, 3)]


def test_without_a_queue_only_the_window_counts() -> None:
    peer = Peer(SessionLimits(max_in_flight=2, max_queued_messages=0))
    for number in range(4):
        peer.session.deliver_qos1(b"t", b"%d" % number)
    assert peer.answers() == [Publish("t", b"0", 1, 1), Publish("t", b"1", 1, 2)]
    assert peer.session.dropped_messages == 2
    peer.send(puback(1))
    peer.session.deliver_qos1(b"t", b"4")
    assert peer.answers() == [Publish("t", b"4", 1, 3)]


def test_the_queue_is_bounded_in_bytes_too() -> None:
    """Large messages for a client that never acknowledges; the newest always stays."""
    peer = Peer(SessionLimits(max_in_flight=1, max_queued_messages=100, max_queued_bytes=1_000))
    for number in range(20):
        peer.session.deliver_qos1(b"t", bytes((number,)) * 399)
    assert peer.session.dropped_messages == 17
    peer.session.deliver_qos1(b"t", b"L" * 5_000)
    assert peer.session.dropped_messages == 19
    peer.answers()
    assert peer.send(puback(1)) == [Publish("t", b"L" * 5_000, 1, 2)]
    for payload in (b"m" * 400, b"n" * 400):
        peer.session.deliver_qos1(b"t", payload)
    assert peer.session.dropped_messages == 19
    assert peer.send(puback(2), puback(3)) == [Publish("t", b"m" * 400, 1, 3), Publish("t", b"n" * 400, 1, 4)]


def test_2_3_1_4_identifiers_go_round_and_skip_those_in_flight() -> None:
    """[MQTT-2.3.1-4]: never zero, never one that is not acknowledged yet."""
    peer = Peer(SessionLimits(max_in_flight=2))
    peer.session.deliver_qos1(b"t", b"held")
    assert peer.answers() == [Publish("t", b"held", 1, 1)]
    seen = []
    for _ in range(65_540):
        peer.session.deliver_qos1(b"t", b"x")
        wire = peer.session.take_output()
        packet_id = int.from_bytes(wire[5:7], "big")
        seen.append(packet_id)
        peer.session.receive(b"\x40\x02" + wire[5:7], NOW_NS)
    assert seen == [*range(2, 65_536), *range(2, 8)]
