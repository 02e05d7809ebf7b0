"""The server's side of one MQTT connection, without I/O: bytes in, decisions asked of a handler, bytes out.

Strategy: nearly every packet a telemetry broker receives is a PUBLISH on a topic the same connection used before.
`receive` therefore cuts frames and handles PUBLISH in one loop over one `bytes` object, with integer offsets, no
object per packet and one dictionary look-up from the raw topic to the function that takes its messages. Every other
packet type goes through `decode`. Keep the two in step: `tests/mqtt/test_protocol.py` runs both over the same bytes.

Knows no socket, clock or subscription table. What outlives the connection is in its `Session`.
"""

from __future__ import annotations

from typing import Protocol

from headwater.errors import RequestError, StorageError
from headwater.mqtt.acknowledgements import AcknowledgementQueue, WaitingAcknowledgements
from headwater.mqtt.decode import PUBLISH_FIRST_BYTES, check_first_byte, check_qos, parse_packet
from headwater.mqtt.encode import PINGRESP, PUBACK_HEAD, PUBCOMP_HEAD, PUBREC_HEAD, PUBREL_HEAD, render_packet
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, PacketTooLarge, UnacceptableProtocol
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.outlet import Outlet, OutletHandler
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    SUBACK_FAILURE,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    PacketType,
    Properties,
    PropertyId,
    ProtocolLevel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.publish_properties import PublishProperties, parse_publish_properties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted, first_reason, judge_filter, too_many_filters
from headwater.mqtt.topics import check_topic_name, parse_text

MAX_CACHED_TARGETS = 1_000
"""Topics per connection whose target is remembered; a client that invents topics must not grow us."""
MAX_CACHED_TARGET_BYTES = 65_536
"""The same for the length of all their names: the longest names would make a megabyte of a connection."""


COPIES_PER_TURN = 5_000
"""Copies of messages that one client may cause before the others have their turn."""


class Turn:
    """What one client may cause before the others have their turn: copies of messages, counted down by the router."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0


class ProtocolHandler(OutletHandler, Protocol):
    """What a connection asks of its surroundings."""

    def authenticate(self, connect: Connect) -> None:
        """Find out whether this client may connect, and call `accept` or `refuse`: before this returns, or later."""

    def resolve_publish(self, topic: str) -> PublishTarget:
        """Who takes messages for a well-formed topic name. Never fails: without right, a target that refuses."""

    def subscribe(self, subscription: Subscription, subscription_id: int) -> NotGranted | None:
        """Add or replace a subscription, with the QoS that it asks for; or why not."""

    def subscription_refused(self, topic_filter: str, refused: NotGranted) -> None:
        """A client is about to be told so, as far as its version of MQTT can. What is beyond the limit of one packet
        is said once, without a filter."""

    def unsubscribe(self, topic_filter: str) -> int:
        """Remove a subscription, if there is one; the ReasonCode."""

    def storing_failed(self, error: Exception) -> None:
        """A message could not be stored, so its acknowledgement will never come."""


class ServerProtocol(Outlet):
    """One client's connection, from its first byte to its last.

    Usage: `receive(data, now_ns)` for what arrived, then `take_output()`. When `receive` raises
    MqttProtocolError, send what `take_output` still holds and close; the connection takes no more. When
    `is_finished` turns true the client said goodbye: close. While `is_stalled`, hand in nothing new; call
    `receive(b"", now_ns)` later.
    """

    __slots__ = (
        "_acknowledgements",
        "_alias_topics",
        "_limits",
        "_needed",
        "_protocol_handler",
        "_tail",
        "_targets",
        "_targets_bytes",
        "_turn",
        "client_id",
        "is_connected",
        "is_stalled",
        "keep_alive_s",
        "reason_code",
        "received_messages",
    )

    def __init__(self, handler: ProtocolHandler, limits: ProtocolLimits, turn: Turn) -> None:
        super().__init__(handler, limits.max_in_flight)
        self._protocol_handler = handler
        self._limits = limits
        self._turn = turn
        self._tail: bytearray | None = None
        self._needed = 0
        self._targets: dict[bytes, PublishTarget] = {}
        self._targets_bytes = 0
        self._alias_topics: dict[int, bytes] | None = None
        self._acknowledgements: AcknowledgementQueue | None = None
        self.client_id: str | None = None
        """As CONNECT said, accepted or not."""
        self.keep_alive_s = 0
        self.is_connected = False
        self.is_stalled = False
        """Bytes are here that have not been looked at: something has to happen first."""
        self.received_messages = 0

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
        self.is_stalled = False
        position = 0
        try:
            if not self.is_connected:
                position = self._receive_connect(data)
            if self.is_connected:
                position = self._receive_packets(data, position, now_ns)
        except MqttProtocolError as error:
            self._end(error)
            raise
        if position < len(data) and not self.is_finished:  # nothing after DISCONNECT is processed
            self._keep_tail(data, position)
        if self.waiting_retained:
            self.pump_retained()
        return position > 0

    def _keep_tail(self, data: bytes, position: int) -> None:
        """Keep what was not looked at. Of an unfinished packet, learn how long it will be: no byte is scanned twice."""
        self._tail = bytearray(data[position:])
        self._needed = 0
        if not self.is_stalled:
            header = parse_frame_length(data, position, len(data))
            self._needed = 2 if header is None else sum(header) - position

    def _receive_connect(self, data: bytes) -> int:
        """The first packet [MQTT-3.1.0-1]; judged by its first byte, before anything is kept of it."""
        if self.client_id is not None:  # it has come, and who sent it is being found out
            self.is_stalled = True
            return 0
        if not data:
            return 0
        if data[0] != 0x10:
            raise MqttProtocolError("the first packet is not CONNECT")
        header, most = parse_frame_length(data, 0, len(data)), self._limits.max_connect_bytes
        if header is not None and header[1] > most:
            raise PacketTooLarge(f"CONNECT is larger than {most} bytes")
        if header is None or sum(header) > len(data):
            return 0
        start, length = header
        try:
            packet = parse_packet(data[0], data[start : start + length], limits=self._limits.properties)
        except UnacceptableProtocol as error:
            self._output.append(_refuse_level(error.level))
            raise
        assert isinstance(packet, Connect)
        if packet.level == ProtocolLevel.V5:
            _check_shortest(length, start)
        self._begin(packet)
        self.is_stalled = not self.is_connected
        return start + length

    def _begin(self, connect: Connect) -> None:
        """A well-formed CONNECT: whatever refuses it from here on may say why [MQTT-3.1.4-1]."""
        limits, properties = self._limits, connect.properties
        self.level = connect.level
        self.client_id = connect.client_id
        self.keep_alive_s = connect.keep_alive_s
        self._max_packet_bytes = properties.get(PropertyId.MAXIMUM_PACKET_SIZE, 0)
        self._max_alias = min(limits.topic_alias_maximum, properties.get(PropertyId.TOPIC_ALIAS_MAXIMUM, 0))
        self._tells_problems = bool(properties.get(PropertyId.REQUEST_PROBLEM_INFORMATION, 1))
        self.window = min(limits.max_in_flight, properties.get(PropertyId.RECEIVE_MAXIMUM, 65_535))
        if PropertyId.AUTHENTICATION_METHOD in properties:  # [MQTT-4.12.0-1]
            self.refuse(ReasonCode.BAD_AUTHENTICATION_METHOD, "there is no enhanced authentication here")
        id_bytes = len(connect.client_id.encode())
        needs_name = (self.level != ProtocolLevel.V5 and not connect.clean_session) or self.level == ProtocolLevel.V31
        if (needs_name and not id_bytes) or id_bytes > limits.max_client_id_bytes:
            self.refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)  # [MQTT-3.1.3-8]
        if connect.will is not None:
            topic = connect.will.topic
            if len(topic.encode()) > limits.max_topic_bytes or topic.count("/") >= limits.max_topic_levels:
                self.refuse(ReasonCode.TOPIC_NAME_INVALID, "the will topic is too long or has too many levels")
        self._protocol_handler.authenticate(connect)

    def accept(self, session: Session, *, session_present: bool, properties: Properties = NO_PROPERTIES) -> None:
        """The client may connect: say so, then send what its session owes it."""
        self.session = session
        tells_presence = self.level != ProtocolLevel.V31  # in MQTT 3.1 the flag is a reserved bit
        self.send(Connack(session_present and tells_presence, ReasonCode.SUCCESS, properties))
        if not self._output:  # its own Maximum Packet Size leaves no room for any answer
            raise MqttProtocolError("the client's Maximum Packet Size is too small", ReasonCode.PACKET_TOO_LARGE)
        self.is_connected = True
        session.attach(self)
        if session.retained:
            self.signal_output()

    def refuse(self, reason_code: ReasonCode, reason: str = "") -> None:
        """The client may not connect. Raises MqttProtocolError, always: the connection has to close [MQTT-3.2.2-7]."""
        if self.level == ProtocolLevel.V5:
            self.send(Connack(False, reason_code, self.explain(reason)))
        else:
            return_code = _RETURN_CODES.get(reason_code, ConnectReturnCode.NOT_AUTHORIZED)
            self.send(Connack(False, return_code))
        self.is_finished = True
        raise MqttProtocolError(f"connection refused: {reason_code.name.lower().replace('_', ' ')}", reason_code)

    def _receive_packets(self, data: bytes, position: int, now_ns: int) -> int:
        """Handle every whole packet from `position` on; the position of the first that was not handled."""
        end = len(data)
        targets, output, turn = self._targets, self._output, self._turn
        max_packet_bytes = self._limits.max_packet_bytes
        is_v5 = self.level == 5
        messages = 0
        while end - position >= 2:
            first_byte = data[position]
            length = data[position + 1]
            start = position + 2
            if length > 127:
                if first_byte not in PUBLISH_FIRST_BYTES:  # before its length is: that may not be here yet
                    check_first_byte(first_byte, self.level)
                header = parse_frame_length(data, position, end)
                if header is None:
                    break
                start, length = header
                if is_v5:
                    _check_shortest(length, start - position)
            if length > max_packet_bytes:
                raise PacketTooLarge(f"a packet is larger than {max_packet_bytes} bytes")
            stop = start + length
            if first_byte & 0xF0 != 0x30:
                if first_byte == 0xC0 and not length:  # PINGREQ: thousands of them fit into one read [MQTT-3.12.4-1]
                    output.append(PINGRESP)
                    position = stop
                    continue
                _check_control(first_byte, length, self.level, self._limits)
                if stop > end:
                    break
                self._handle(first_byte, data[start:stop])
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
            messages += 1
            if is_v5:
                self._receive_publish5(first_byte, data, topic, topic_stop, stop, now_ns)
            else:
                target = targets.get(topic)
                if target is None:
                    target = self._resolve(topic)
                qos_bits = first_byte & 0x0E
                if qos_bits == 0:
                    target(data[topic_stop:stop], first_byte & 0x0F, now_ns, None)
                elif qos_bits & 0x06 == 0x02:
                    payload_start = topic_stop + 2
                    packet_id = data[topic_stop:payload_start]
                    if payload_start > stop or packet_id == b"\0\0":  # [MQTT-2.3.1-1]
                        raise MalformedPacket("PUBLISH has no packet identifier")
                    taken = target(data[payload_start:stop], first_byte & 0x0F, now_ns, None)
                    if taken is None and self._acknowledgements is None:
                        output.append(PUBACK_HEAD + packet_id)
                    else:
                        self._acknowledge(PUBACK_HEAD, packet_id, taken)
                else:
                    packet_id = data[topic_stop : min(topic_stop + 2, stop)]
                    check_qos(first_byte, packet_id)
                    self._take_exactly_once(first_byte, packet_id, data[topic_stop + 2 : stop], target, now_ns, None)
            position = stop
            if turn.left < 0:
                self.is_stalled = position < end
                break
        self.received_messages += messages
        if position < end and not (self.is_stalled or self.is_finished):
            check_first_byte(data[position], self.level)  # what can be judged of an unfinished packet need not wait
        return position

    def _resolve(self, raw_topic: bytes) -> PublishTarget:
        limits = self._limits
        if len(raw_topic) > limits.max_topic_bytes:
            reason = f"a topic is longer than {limits.max_topic_bytes} bytes"
            raise MalformedPacket(reason, ReasonCode.TOPIC_NAME_INVALID)
        topic = parse_text(raw_topic)
        check_topic_name(topic, max_levels=limits.max_topic_levels)
        target = self._protocol_handler.resolve_publish(topic)
        self._targets_bytes += len(raw_topic)
        if len(self._targets) >= MAX_CACHED_TARGETS or self._targets_bytes > MAX_CACHED_TARGET_BYTES:
            self._targets.clear()
            self._targets_bytes = len(raw_topic)
        self._targets[raw_topic] = target
        return target

    # -- PUBLISH beyond the fast path ----------------------------------------------------------------------------

    def _receive_publish5(
        self, first_byte: int, data: bytes, topic: bytes, position: int, stop: int, now_ns: int
    ) -> None:
        """A PUBLISH of MQTT 5 (section 3.3), from the end of its topic on."""
        qos = first_byte >> 1 & 3
        packet_id = b""
        if qos:
            packet_id = data[position : min(position + 2, stop)]
            position += 2
        if first_byte & 0x0E:
            check_qos(first_byte, packet_id)
        if position >= stop:
            raise MalformedPacket("PUBLISH ends before its properties")
        properties: PublishProperties | None = None
        if data[position] == 0:
            position += 1
        else:
            properties, position = parse_publish_properties(data, position, stop, self._limits.properties)
        target = self._target5(topic, properties)
        payload = data[position:stop]
        if qos == 2:
            self._take_exactly_once(first_byte, packet_id, payload, target, now_ns, properties)
            return
        if qos:
            self._check_receive_maximum()
        taken = target(payload, first_byte & 0x0F, now_ns, properties)
        if qos:
            self._acknowledge(PUBACK_HEAD, packet_id, taken)

    def _target5(self, topic: bytes, properties: PublishProperties | None) -> PublishTarget:
        """Who takes a message, by its topic or its alias (5.0 section 3.3.2.3.4)."""
        alias = None if properties is None else properties.topic_alias
        if alias is not None and alias > self._limits.topic_alias_maximum:  # [MQTT-3.3.2-9]
            raise MqttProtocolError("a topic alias is above the maximum", ReasonCode.TOPIC_ALIAS_INVALID)
        if not topic:
            known = (self._alias_topics or {}).get(alias or 0)
            if known is None:
                raise MqttProtocolError("PUBLISH has no topic, and no alias that stands for one")
            topic = known
        elif alias is not None:
            if self._alias_topics is None:
                self._alias_topics = {}
            self._alias_topics[alias] = topic
        return self._targets.get(topic) or self._resolve(topic)

    def _check_receive_maximum(self) -> None:
        """[MQTT-3.3.4-7]: a client that goes beyond cannot be trusted to count."""
        session, waiting, limits = self.session, self._acknowledgements, self._limits
        held = len(session.unreleased) if session is not None and session.unreleased else 0
        most = limits.max_unreleased
        if self.level == ProtocolLevel.V5:
            most = limits.receive_maximum
            held += waiting.messages if waiting is not None else 0
        if held >= most:
            reason = f"more than {most} messages are unacknowledged"
            raise MqttProtocolError(reason, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)

    def _take_exactly_once(
        self,
        first_byte: int,
        packet_id: bytes,
        payload: bytes,
        target: PublishTarget,
        now_ns: int,
        properties: PublishProperties | None,
    ) -> None:
        """QoS 2, the receiver's side (5.0 section 4.3.3): the message is taken in once, at PUBLISH."""
        session = self.session
        assert session is not None
        if session.unreleased is None:
            session.unreleased = set()
        number = packet_id[0] << 8 | packet_id[1]
        taken: Pending | Refused | None = None
        if number not in session.unreleased:  # the same message again is not delivered again [MQTT-4.3.3-10]
            self._check_receive_maximum()
            taken = target(payload, first_byte & 0x0F, now_ns, properties)
            if isinstance(taken, Refused) and self.level == ProtocolLevel.V5:  # its PUBREC ends it [MQTT-4.3.3-9]
                self._acknowledge(PUBREC_HEAD, packet_id, taken)
                return
            session.unreleased.add(number)
            taken = self._record_received(session, number, taken)
        elif session.record is not None:
            taken = (session.receiving or {}).get(number) or session.record.written()
        self._acknowledge(PUBREC_HEAD, packet_id, taken)

    def _record_received(
        self, session: Session, number: int, taken: Pending | Refused | None
    ) -> Pending | Refused | None:
        """What PUBREC has to wait for: of a persistent session, the identifier has to be written down as well."""
        record = session.record
        if record is None:
            return taken
        if isinstance(taken, Refused) or taken is None or taken is record.written():  # all of it in one transaction
            record.save_received(number)
            return record.written()
        return session.receive_elsewhere(number, taken, keeps_refused=self.level != ProtocolLevel.V5)

    # -- acknowledgements of what we received ------------------------------------------------------------------

    def _acknowledge(self, head: bytes, packet_id: bytes, taken: Pending | Refused | None) -> None:
        """Answer a message, which waits for what the answer promises and for the answers of earlier ones."""
        if taken is None and self._acknowledgements is None:
            self._output.append(head + packet_id)
        elif isinstance(taken, Refused):
            self._answer(self._refusal(head, packet_id, taken.reason_code, taken.reason), taken.pending)
        else:
            self._answer(head + packet_id, taken)

    def _refusal(self, head: bytes, packet_id: bytes, reason_code: int, reason: str) -> bytes:
        """MQTT 5 can say why; an older client gets a plain answer, or it would send the message for ever."""
        if self.level != ProtocolLevel.V5:
            return head + packet_id
        kind = PacketType(head[0] >> 4)
        return self.render_acknowledgement(kind, int.from_bytes(packet_id, "big"), reason_code, reason)

    def _answer(self, packet: bytes, pending: Pending | None) -> None:
        waiting = self._acknowledgements
        if pending is None:
            if waiting is None or not waiting.join(packet, None):
                self._output.append(packet)
            return
        if waiting is None:
            waiting = self._acknowledgements = AcknowledgementQueue()
        if not waiting.join(packet, pending):
            waiting.add(packet, pending, self._promise_settled)
            if self.is_finished:  # known at once, and broken: the handler has closed the connection
                raise StorageError("a message could not be stored")

    def _promise_settled(self, settled: WaitingAcknowledgements, error: Exception | None) -> None:
        if self.is_finished:
            return
        if isinstance(error, RequestError):  # refused when looked at more closely
            first = settled.packets[0]
            settled.packets[0] = self._refusal(first[:2], first[2:4], ReasonCode.PAYLOAD_FORMAT_INVALID, str(error))
            if first[0] == 0x50 and self.level == ProtocolLevel.V5:  # its PUBREC ends it [MQTT-4.3.3-9]
                assert self.session is not None
                self.session.forget_received(first[2] << 8 | first[3])
        elif error is not None:  # there is no refusal to send: without an answer the client keeps its message
            self._protocol_handler.storing_failed(error)
            return
        waiting = self._acknowledgements
        assert waiting is not None
        packets = waiting.take_kept(settled)
        if waiting.is_empty:
            self._acknowledgements = None
        if packets:
            self._output += packets
            self.signal_output()

    # -- packets other than PUBLISH ---------------------------------------------------------------------------

    def _handle(self, first_byte: int, body: bytes) -> None:
        limits = self._limits
        packet = parse_packet(
            first_byte, body, self.level, max_filters=limits.max_subscribe_filters, limits=limits.properties
        )
        match packet:
            case Acknowledgement():
                self._handle_acknowledgement(packet)
            case Subscribe():
                self._handle_subscribe(packet)
            case Unsubscribe():
                self._handle_unsubscribe(packet)
            case Disconnect():
                self._handle_disconnect(packet)
            case Auth():  # [MQTT-4.12.0-6]: no method was agreed on, so there is nothing to go on with
                raise MqttProtocolError("AUTH without an authentication method in CONNECT")
            case _:
                raise MqttProtocolError(f"a client never sends {type(packet).__name__.upper()}")

    def _handle_acknowledgement(self, packet: Acknowledgement) -> None:
        session = self.session
        assert session is not None
        if packet.type is PacketType.PUBREL:
            self._release(session, packet.packet_id)
            return
        if session.acknowledged(packet.type, packet.packet_id, is_failure=packet.reason_code >= 0x80):
            return
        if session.has_sent(packet.packet_id):
            raise MqttProtocolError(f"{packet.type.name} is not the answer that its message waits for")
        # Of nothing that is known: the client's memory may be older than ours, and it must be able to finish
        # [MQTT-4.3.3-1]. It makes no room and does no harm, and has one short answer at most.
        if packet.type is PacketType.PUBREC and packet.reason_code < ReasonCode.UNSPECIFIED_ERROR:
            raw_id = packet.packet_id.to_bytes(2, "big")
            code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
            self._output.append(self._refusal(PUBREL_HEAD, raw_id, code, ""))

    def _release(self, session: Session, packet_id: int) -> None:
        """PUBREL: an unknown identifier is answered too, because the peer must be able to finish [MQTT-4.3.3-11]."""
        raw_id = packet_id.to_bytes(2, "big")
        if session.unreleased is None or packet_id not in session.unreleased:
            # It may have been forgotten a moment ago, by another connection of the session, and not on disk yet.
            refusal = self._refusal(PUBCOMP_HEAD, raw_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, "")
            self._answer(refusal, self._written())
            return
        session.unreleased.discard(packet_id)
        if session.record is None:
            self._answer(PUBCOMP_HEAD + raw_id, None)
            return
        # Answered and then forgotten, a crash would make us take the next message of this identifier for this one.
        session.record.delete_received(packet_id)
        self._answer(PUBCOMP_HEAD + raw_id, session.record.written())

    def _handle_subscribe(self, packet: Subscribe) -> None:
        handler = self._protocol_handler
        subscription_id = packet.properties.get(PropertyId.SUBSCRIPTION_IDENTIFIER, (0,))[0]
        answers = [judge_filter(s.topic_filter, self.level, self._limits) for s in packet.subscriptions]
        for index, subscription in enumerate(packet.subscriptions):  # only now: what spoils the packet leaves nothing
            refused = answers[index]
            if refused is None:
                refused = answers[index] = handler.subscribe(subscription, subscription_id)
            if refused is not None:
                handler.subscription_refused(subscription.topic_filter, refused)
        codes = [
            subscription.qos if refused is None else refused.reason_code
            for subscription, refused in zip(packet.subscriptions, answers, strict=True)
        ]
        if packet.unread:
            beyond = too_many_filters(self._limits)
            handler.subscription_refused("", beyond)
            answers.append(beyond)
            codes += [beyond.reason_code] * packet.unread
        if self.level != ProtocolLevel.V5:  # [MQTT-3.9.3-2] of 3.1.1
            codes = [min(code, SUBACK_FAILURE) for code in codes]
        suback = Suback(packet.packet_id, tuple(codes), self.explain(first_reason(answers)))
        self._answer(self._render_codes(suback), self._written())

    def _handle_unsubscribe(self, packet: Unsubscribe) -> None:
        codes = tuple(self._protocol_handler.unsubscribe(topic_filter) for topic_filter in packet.topic_filters)
        for topic_filter in packet.topic_filters:
            self.drop_retained(topic_filter)
        unsuback = Unsuback(packet.packet_id, codes if self.level == ProtocolLevel.V5 else ())
        self._answer(self._render_codes(unsuback), self._written())

    def _render_codes(self, packet: Suback | Unsuback) -> bytes:
        """A packet whose codes cannot be left out for a client that takes only short ones [MQTT-3.1.2-24]."""
        rendered = self.render_within(packet)
        if self._max_packet_bytes and len(rendered) > self._max_packet_bytes:
            reason = "the answer is larger than the client's Maximum Packet Size: use fewer filters at once"
            raise MqttProtocolError(reason, ReasonCode.PACKET_TOO_LARGE)
        return rendered

    def _written(self) -> Pending | None:
        """What a persistent session has to wait for before it may say that something is kept."""
        record = self.session.record if self.session is not None else None
        return None if record is None else record.written()

    def _handle_disconnect(self, packet: Disconnect) -> None:
        session = self.session
        assert session is not None
        expiry_s = packet.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL)
        if expiry_s is not None:
            if expiry_s and not session.expiry_s:  # [MQTT-3.1.2-23]
                raise MqttProtocolError("DISCONNECT makes a session last that was to end with its connection")
            session.expiry_s = min(expiry_s, self._limits.max_session_expiry_s)
        if packet.reason_code == ReasonCode.NORMAL_DISCONNECTION:  # [MQTT-3.14.4-3]
            session.will = None
        self.is_finished = True

    # -- the end ----------------------------------------------------------------------------------------------

    def _end(self, error: MqttProtocolError) -> None:
        """The client broke the protocol; MQTT 5 can say how, once CONNECT was accepted [MQTT-3.14.0-1]."""
        self.disconnect(error.reason_code, str(error))
        self.is_finished = True

    def disconnect(self, reason_code: int, reason: str = "") -> None:
        """Tell the client why its connection is about to be closed, if its version knows how."""
        if self.is_connected and not self.is_finished and self.level == ProtocolLevel.V5:
            self.send(Disconnect(reason_code, self.explain(reason)))

    def forget_targets(self) -> None:
        """Rights have changed: resolve every topic anew."""
        self._targets.clear()
        self._targets_bytes = 0

    def finish(self) -> None:
        """The connection is gone: let go of everything that is still on its way."""
        self.is_finished = True
        self._tail = None
        self._acknowledgements = None
        self._streaming = None
        self._targets.clear()
        self._output.clear()


def parse_frame_length(data: bytes, position: int, end: int) -> tuple[int, int] | None:
    """Where the body of the packet at `position` begins and how long it is, or None while too few bytes are there.

    Raises MalformedPacket for a Remaining Length of five bytes (3.1.1 section 2.2.3).
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


def _check_control(first_byte: int, length: int, level: int, limits: ProtocolLimits) -> None:
    """Judge a packet by its header, before its body is waited for."""
    kind = first_byte >> 4
    if kind == PacketType.CONNECT:  # [MQTT-3.1.0-2]
        check_first_byte(first_byte, level)
        raise MqttProtocolError("a second CONNECT on one connection")
    is_subscribe = kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
    most = limits.max_subscribe_bytes if is_subscribe else limits.max_control_bytes
    if length > most:
        raise PacketTooLarge(f"a control packet is larger than {most} bytes")


def _check_shortest(length: int, header_bytes: int) -> None:
    """[MQTT-1.5.5-1]; before MQTT 5 nobody asked for it."""
    if header_bytes > 2 and length >> 7 * (header_bytes - 2) == 0:
        raise MalformedPacket("a Remaining Length is not in its shortest form")


def _refuse_level(level: int) -> bytes:
    """CONNACK for a level that is not spoken, in the form that a client of about that level can read [MQTT-3.1.2-2].
    Bridges of other brokers set the highest bit, and try again without it when they are told 'level' like this."""
    if level & 0x7F >= ProtocolLevel.V5:
        return render_packet(Connack(False, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION), 5)
    return render_packet(Connack(False, ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION), 4)


_RETURN_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturnCode.IDENTIFIER_REJECTED,
    ReasonCode.SERVER_UNAVAILABLE: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.SERVER_BUSY: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.QUOTA_EXCEEDED: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ConnectReturnCode.BAD_USERNAME_OR_PASSWORD,
}
"""What MQTT 3.1.1 says instead; NOT_AUTHORIZED for everything else."""
