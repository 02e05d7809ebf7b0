"""The server's side of one MQTT connection, without I/O: bytes in, decisions asked of a handler, bytes out.

Strategy: nearly every packet a telemetry broker receives is a PUBLISH on a topic the same connection used before.
`receive` therefore cuts frames and handles PUBLISH in one loop over one `bytes` object, with integer offsets, no
object per packet and one dictionary look-up from the raw topic to the function that takes its messages. Every other
packet type goes through `decode`. Keep the two in step: `tests/mqtt/test_session.py` runs both over the same bytes.

Knows no socket, clock or subscription table; `now_ns` is handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headwater.errors import StorageError
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import (
    PINGRESP,
    PUBACK_HEAD,
    PUBCOMP_HEAD,
    PUBREC_HEAD,
    render_packet,
    render_publish,
)
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
    ProtocolLevel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.topics import check_topic_filter, check_topic_name, parse_text

MAX_CONNECT_BYTES = 65_536
"""A CONNECT holds names and a will; nobody unknown may make us keep more."""
MAX_SUBSCRIBE_BYTES = 65_536
"""SUBSCRIBE and UNSUBSCRIBE: a limit of their own, because a byte of a filter costs more than one of a payload."""
MAX_CONTROL_BYTES = 4_096
"""Acknowledgements, PINGREQ and DISCONNECT are two to four bytes in 3.1.1."""
MAX_CACHED_TARGETS = 1_000
"""Topics per connection whose target is remembered; a client that invents topics must not grow us."""
MAX_UNRELEASED = 100
"""QoS 2 messages received and not yet released, per connection."""


class Pending(Protocol):
    """Something that will be on disk, or fail to get there."""

    def add_callback(self, callback: Callable[[Exception | None], None]) -> None:
        """Call `callback` once, with None when stored or with what went wrong."""


PublishTarget = Callable[[bytes, int, int], Pending | None]
"""Takes (payload, flags, at_ns): `flags` are the lower four bits of PUBLISH (DUP, QoS, RETAIN), `at_ns` the time of
receipt. Answers what an acknowledgement has to wait for, or None for nothing. Raises StorageError only."""


class SessionHandler(Protocol):
    """What a session asks of its surroundings."""

    def authenticate(self, connect: Connect) -> ConnectReturnCode:
        """Whether this client may connect, as what, and what that ends elsewhere."""

    def resolve_publish(self, topic: str) -> PublishTarget:
        """Who takes messages for a well-formed topic name. Never fails: without right, a target that drops."""

    def subscribe(self, topic_filter: str, qos: int) -> int:
        """Add a subscription; the granted QoS or SUBACK_FAILURE."""

    def unsubscribe(self, topic_filter: str) -> None:
        """Remove a subscription, if there is one."""

    def output_ready(self) -> None:
        """There is output although `receive` is not running."""

    def storing_failed(self, error: Exception) -> None:
        """A message could not be stored, so its acknowledgement will never come."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    max_packet_bytes: int = 262_144
    max_topic_bytes: int = 1_024
    max_topic_levels: int = 32
    max_wildcard_levels: int = 8
    max_client_id_bytes: int = 128
    max_subscribe_filters: int = 50
    max_in_flight: int = 20
    max_queued_messages: int = 1_000
    max_queued_bytes: int = 1_048_576


class _Acknowledgements:
    """Acknowledgements that wait for one commit, in the order of their messages [MQTT-4.6.0-2]."""

    __slots__ = ("is_kept", "packets", "pending", "session")

    def __init__(self, session: ServerSession, pending: Pending, packet: bytes) -> None:
        self.session = session
        self.pending = pending
        self.packets = bytearray(packet)
        self.is_kept = False
        """What they promise is true; they may still have to wait for earlier ones."""

    def release(self, error: Exception | None) -> None:
        self.session.release_acknowledgements(self, error)


class ServerSession:
    """One client's connection, from its first byte to its last.

    Usage: `receive(data, now_ns)` for what arrived, then `take_output()`. When `receive` raises
    MqttProtocolError, send what `take_output` still holds and close; the session takes no more. When
    `is_finished` turns true the client said goodbye: close.
    """

    __slots__ = (
        "_acknowledgements",
        "_handler",
        "_in_flight",
        "_limits",
        "_needed",
        "_newest_acknowledgements",
        "_next_packet_id",
        "_output",
        "_queue",
        "_queued_bytes",
        "_tail",
        "_targets",
        "_unreleased",
        "client_id",
        "dropped_messages",
        "is_connected",
        "is_finished",
        "keep_alive_s",
    )

    def __init__(self, handler: SessionHandler, limits: SessionLimits) -> None:
        self._handler = handler
        self._limits = limits
        self._tail: bytearray | None = None
        self._needed = 0
        self._output: list[bytes] = []
        self._targets: dict[bytes, PublishTarget] = {}
        self._acknowledgements: deque[_Acknowledgements] | None = None
        self._newest_acknowledgements: _Acknowledgements | None = None
        self._unreleased: set[int] | None = None
        self._in_flight: dict[int, bytes] | None = None
        self._queue: deque[tuple[bytes, bytes]] | None = None
        self._queued_bytes = 0
        self._next_packet_id = 0
        self.client_id: str | None = None
        """As CONNECT said, accepted or not."""
        self.keep_alive_s = 0
        self.is_connected = False
        self.is_finished = False
        self.dropped_messages = 0
        """Messages for this client that found its queue full."""

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> bool:
        """Take bytes from the peer in any portion. True when they completed a packet: only that counts as activity.

        Raises MqttProtocolError when the connection must be closed, StorageError when a message cannot be taken in.
        """
        tail = self._tail
        if tail is not None:
            tail += data
            if len(tail) < self._needed:
                return False
            data = bytes(tail)
            self._tail = None
        position = 0
        try:
            if not self.is_connected:
                position = self._receive_connect(data)
                if not position:
                    return False
            position = self._receive_packets(data, position, now_ns)
        except MqttProtocolError:
            self.is_finished = True
            raise
        if not self.is_finished and position < len(data):  # nothing after DISCONNECT is processed
            self._keep_tail(data, position)
        return position > 0

    def _keep_tail(self, data: bytes, position: int) -> None:
        """Keep an unfinished packet, and learn how long it will be so that no byte is scanned twice."""
        self._tail = bytearray(data[position:])
        header = parse_frame_length(data, position, len(data))
        self._needed = 2 if header is None else sum(header) - position

    def _receive_connect(self, data: bytes) -> int:
        """The first packet [MQTT-3.1.0-1]; judged by its first byte, before anything is kept of it."""
        if data[:1] != b"\x10":
            raise MqttProtocolError("the first packet is not CONNECT")
        header = parse_frame_length(data, 0, len(data))
        if header is not None and header[1] > MAX_CONNECT_BYTES:
            raise PacketTooLarge(f"CONNECT is larger than {MAX_CONNECT_BYTES} bytes")
        if header is None or sum(header) > len(data):
            self._keep_tail(data, 0)
            return 0
        start, length = header
        try:
            packet = parse_packet(data[0], data[start : start + length])
        except UnacceptableProtocol as error:
            self._output.append(_refuse_level(error.level))
            raise
        assert isinstance(packet, Connect)
        self._accept_connect(packet)
        return start + length

    def _accept_connect(self, connect: Connect) -> None:
        code = ConnectReturnCode.ACCEPTED
        id_bytes = len(connect.client_id.encode())
        if (not id_bytes and not connect.clean_session) or id_bytes > self._limits.max_client_id_bytes:
            code = ConnectReturnCode.IDENTIFIER_REJECTED  # [MQTT-3.1.3-8]
        else:
            code = self._handler.authenticate(connect)
        self.client_id = connect.client_id
        self._output.append(render_packet(Connack(session_present=False, return_code=code)))
        if code is not ConnectReturnCode.ACCEPTED:  # [MQTT-3.2.2-5]
            raise MqttProtocolError(f"connection refused: {code.name.lower().replace('_', ' ')}")
        self.keep_alive_s = connect.keep_alive_s
        self.is_connected = True

    def _receive_packets(self, data: bytes, position: int, now_ns: int) -> int:
        """Handle every whole packet from `position` on; the position of the first unfinished one."""
        end = len(data)
        targets, output = self._targets, self._output
        max_packet_bytes = self._limits.max_packet_bytes
        while end - position >= 2:
            first_byte = data[position]
            length = data[position + 1]
            start = position + 2
            if length > 127:
                header = parse_frame_length(data, position, end)
                if header is None:
                    break
                start, length = header
            if length > max_packet_bytes:
                raise PacketTooLarge(f"a packet is larger than {max_packet_bytes} bytes")
            stop = start + length
            if first_byte & 0xF0 != 0x30:
                if first_byte == 0xC0 and not length:  # PINGREQ: thousands of them fit into one read [MQTT-3.12.4-1]
                    output.append(PINGRESP)
                    position = stop
                    continue
                most = MAX_SUBSCRIBE_BYTES if first_byte & 0xF0 in (0x80, 0xA0) else MAX_CONTROL_BYTES
                if length > most:
                    raise PacketTooLarge(f"a control packet is larger than {most} bytes")
                if stop > end:
                    break
                packet = parse_packet(first_byte, data[start:stop], max_filters=self._limits.max_subscribe_filters)
                self._handle(packet)
                position = stop
                if self.is_finished:
                    break
                continue
            if stop > end:
                break
            if length < 2:
                raise MalformedPacket("PUBLISH is too short")
            topic_stop = start + 2 + (data[start] << 8 | data[start + 1])
            if topic_stop > stop:
                raise MalformedPacket("a topic reaches beyond its packet")
            topic = data[start + 2 : topic_stop]
            target = targets.get(topic)
            if target is None:
                target = self._resolve(topic)
            qos_bits = first_byte & 0x0E
            if qos_bits == 0:
                target(data[topic_stop:stop], first_byte & 0x0F, now_ns)
            elif qos_bits & 0x06 == 0x02:
                payload_start = topic_stop + 2
                packet_id = data[topic_stop:payload_start]
                if payload_start > stop or packet_id == b"\0\0":  # [MQTT-2.3.1-1]
                    raise MalformedPacket("PUBLISH has no packet identifier")
                pending = target(data[payload_start:stop], first_byte & 0x0F, now_ns)
                self._acknowledge(PUBACK_HEAD + packet_id, pending)
            else:
                self._receive_exactly_once(first_byte, data[topic_stop:stop], target, now_ns)
            position = stop
        return position

    def _resolve(self, raw_topic: bytes) -> PublishTarget:
        limits = self._limits
        if len(raw_topic) > limits.max_topic_bytes:
            raise MalformedPacket(f"a topic is longer than {limits.max_topic_bytes} bytes", 0x90)
        topic = parse_text(raw_topic)
        check_topic_name(topic, max_levels=limits.max_topic_levels)
        target = self._handler.resolve_publish(topic)
        if len(self._targets) >= MAX_CACHED_TARGETS:
            self._targets.clear()
        self._targets[raw_topic] = target
        return target

    def _receive_exactly_once(self, first_byte: int, rest: bytes, target: PublishTarget, now_ns: int) -> None:
        """QoS 2, the receiver's side (section 4.3.3, method B); also what is left of bad flags."""
        if first_byte & 0x06 == 0x06:  # [MQTT-3.3.1-4]
            raise MalformedPacket("PUBLISH has QoS 3")
        if first_byte & 0x06 == 0:  # [MQTT-3.3.1-2]
            raise MalformedPacket("PUBLISH has DUP with QoS 0")
        packet_id = int.from_bytes(rest[:2], "big")
        if len(rest) < 2 or not packet_id:
            raise MalformedPacket("PUBLISH has no packet identifier")
        if self._unreleased is None:
            self._unreleased = set()
        pending = None
        if packet_id not in self._unreleased:  # the same message again is not delivered again [MQTT-4.3.3-2]
            if len(self._unreleased) >= MAX_UNRELEASED:
                raise MqttProtocolError(f"more than {MAX_UNRELEASED} QoS 2 messages are unreleased", 0x93)
            self._unreleased.add(packet_id)
            pending = target(rest[2:], first_byte & 0x0F, now_ns)
        self._acknowledge(PUBREC_HEAD + rest[:2], pending)

    # -- acknowledgements of what we received ------------------------------------------------------------------

    def _acknowledge(self, packet: bytes, pending: Pending | None) -> None:
        """Send an acknowledgement once what it promises is true, and not before any earlier one."""
        waiting = self._newest_acknowledgements
        if waiting is not None and (pending is None or waiting.pending is pending):
            waiting.packets += packet
        elif pending is None:
            self._output.append(packet)
        else:
            if self._acknowledgements is None:
                self._acknowledgements = deque()
            waiting = self._newest_acknowledgements = _Acknowledgements(self, pending, packet)
            self._acknowledgements.append(waiting)
            pending.add_callback(waiting.release)
            if self.is_finished:  # known at once, and broken: the handler has closed the connection
                raise StorageError("a message could not be stored")

    def release_acknowledgements(self, released: _Acknowledgements, error: Exception | None) -> None:
        """The commit that `released` waits for has ended. Promises may be kept in any order, answers may not."""
        if self.is_finished:
            return
        if error is not None:  # 3.1.1 cannot refuse: without an answer the client keeps its message
            self._handler.storing_failed(error)
            return
        released.is_kept = True
        waiting = self._acknowledgements
        assert waiting
        if waiting[0] is not released:
            return
        while waiting and waiting[0].is_kept:
            self._output.append(bytes(waiting.popleft().packets))
        if not waiting:
            self._newest_acknowledgements = None
        self._handler.output_ready()

    # -- packets other than PUBLISH ---------------------------------------------------------------------------

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Acknowledgement():
                self._handle_acknowledgement(packet)
            case Subscribe():
                self._handle_subscribe(packet)
            case Unsubscribe():
                self._handle_unsubscribe(packet)
            case Disconnect():
                self.is_finished = True
            case Connect():
                raise MqttProtocolError("a second CONNECT on one connection")  # [MQTT-3.1.0-2]
            case _:
                raise MqttProtocolError(f"a client never sends {type(packet).__name__.upper()}")

    def _handle_acknowledgement(self, packet: Acknowledgement) -> None:
        if packet.type is PacketType.PUBACK:
            if self._in_flight is not None and self._in_flight.pop(packet.packet_id, None) is not None:
                self._send_queued()
        elif packet.type is PacketType.PUBREL:
            if self._unreleased is not None:
                self._unreleased.discard(packet.packet_id)
            # An unknown identifier is answered too: the peer must be able to finish [MQTT-4.3.3-2].
            self._acknowledge(PUBCOMP_HEAD + packet.packet_id.to_bytes(2, "big"), None)
        else:  # we send QoS 0 and 1 only, so there is nothing a PUBREC or PUBCOMP could answer
            raise MqttProtocolError(f"{packet.type.name} for a message that was never sent")

    def _handle_subscribe(self, packet: Subscribe) -> None:
        codes = [self._subscribe(topic_filter, qos) for topic_filter, qos in packet.subscriptions]
        codes += [SUBACK_FAILURE] * packet.unread
        self._acknowledge(render_packet(Suback(packet.packet_id, tuple(codes))), None)

    def _subscribe(self, topic_filter: str, qos: int) -> int:
        limits = self._limits
        if len(topic_filter.encode()) > limits.max_topic_bytes:
            return SUBACK_FAILURE
        check_topic_filter(topic_filter, max_levels=limits.max_topic_levels)
        if topic_filter.count("+") > limits.max_wildcard_levels:
            return SUBACK_FAILURE
        return self._handler.subscribe(topic_filter, min(qos, 1))

    def _handle_unsubscribe(self, packet: Unsubscribe) -> None:
        for topic_filter in packet.topic_filters:
            self._handler.unsubscribe(topic_filter)
        self._acknowledge(render_packet(Unsuback(packet.packet_id)), None)

    # -- messages for this client -----------------------------------------------------------------------------

    def deliver_qos0(self, packet: bytes) -> None:
        """Send a PUBLISH of QoS 0 that is already rendered (once for all its subscribers)."""
        if not self.is_finished:
            self._output.append(packet)

    def deliver_qos1(self, topic: bytes, payload: bytes) -> str | None:
        """Send a PUBLISH of QoS 1, at once or when the window allows. The oldest queued messages make room; then the
        answer is the limit that was reached."""
        if self.is_finished:
            return None
        if self._in_flight is None:
            self._in_flight = {}
            self._queue = deque()
        assert self._queue is not None
        self._queue.append((topic, payload))
        self._queued_bytes += len(topic) + len(payload)
        self._send_queued()
        reached = None
        while (limit := self._queue_limit()) is not None:
            reached = limit
            self._take_queued()
            self.dropped_messages += 1
        return reached

    def _queue_limit(self) -> str | None:
        """The limit that the queue is beyond."""
        assert self._queue is not None
        length, limits = len(self._queue), self._limits
        if length > limits.max_queued_messages:
            return "max_queued_messages"
        return "max_queued_bytes" if length > 1 and self._queued_bytes > limits.max_queued_bytes else None

    def _take_queued(self) -> tuple[bytes, bytes]:
        assert self._queue is not None
        topic, payload = self._queue.popleft()
        self._queued_bytes -= len(topic) + len(payload)
        return topic, payload

    def _send_queued(self) -> None:
        in_flight, queue = self._in_flight, self._queue
        assert in_flight is not None
        assert queue is not None
        while queue and len(in_flight) < self._limits.max_in_flight:
            topic, payload = self._take_queued()
            packet_id = self._next_packet_id % 65_535 + 1
            while packet_id in in_flight:  # [MQTT-2.3.1-4]
                packet_id = packet_id % 65_535 + 1
            self._next_packet_id = packet_id
            in_flight[packet_id] = topic
            self._output.append(render_publish(topic, payload, 1, packet_id))

    # -- output and upkeep ------------------------------------------------------------------------------------

    def take_output(self) -> bytes:
        """Everything to be sent since the last call; empty when there is nothing."""
        output = self._output
        if not output:
            return b""
        taken = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return taken

    def forget_targets(self) -> None:
        """Rights or subscriptions have changed: resolve every topic anew."""
        self._targets.clear()

    def finish(self) -> None:
        """The connection is gone: let go of everything that is still on its way."""
        self.is_finished = True
        self._tail = None
        self._acknowledgements = self._newest_acknowledgements = None
        self._in_flight = None
        self._queue = None
        self._targets.clear()
        self._output.clear()


def parse_frame_length(data: bytes, position: int, end: int) -> tuple[int, int] | None:
    """Where the body of the packet at `position` begins and how long it is, or None while too few bytes are there.

    Raises MalformedPacket for a Remaining Length of five bytes (section 2.2.3).
    """
    length = shift = 0
    for index in range(position + 1, min(position + 5, end)):
        digit = data[index]
        length |= (digit & 0x7F) << shift
        if digit < 0x80:
            return index + 1, length
        shift += 7
    if end - position >= 5:
        raise MalformedPacket("a Remaining Length has more than four bytes")
    return None


def _refuse_level(level: int) -> bytes:
    """CONNACK for a level we do not speak, in the form that the client's own version can read [MQTT-3.1.2-2]."""
    if level == ProtocolLevel.V5:
        return b"\x20\x03\x00\x84\x00"  # session present 0, Unsupported Protocol Version, no properties
    return render_packet(Connack(session_present=False, return_code=ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION))
