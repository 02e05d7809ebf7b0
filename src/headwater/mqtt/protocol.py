"""The server's side of one MQTT connection, without I/O: bytes in, decisions asked of a handler, bytes out.

Strategy: nearly every packet a telemetry broker receives is a PUBLISH on a topic the same connection used before.
`receive` therefore cuts frames and handles PUBLISH in one loop over one `bytes` object, with integer offsets, no
object per packet and one dictionary look-up from the raw topic to the function that takes its messages. Every other
packet type goes through `decode`. Keep the two in step: `tests/mqtt/test_protocol.py` runs both over the same bytes.

A connection has five layers, each a class that is built on the one before and knows none of those behind it:

- `outlet.Outlet`: what is sent, in the client's version and within its limits; messages, and those that are retained.
- `answers.Answers`: what is said to the client's packets, in order, and only when what it promises is kept.
- `connecting.Connecting`: CONNECT and CONNACK, and whether the client is connected.
- `control_packets.ControlPackets`: every other packet that a client sends but PUBLISH, as a whole.
- `ServerProtocol`, here: bytes cut into packets, PUBLISH, whose turn it is, and the end.

Knows no socket, clock or subscription table. What outlives the connection is in its `Session`.
"""

from __future__ import annotations

from headwater.mqtt.answers import ProtocolHandler
from headwater.mqtt.control_packets import ControlPackets
from headwater.mqtt.encode import PINGRESP, PUBACK_HEAD, PUBREC_HEAD
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, PacketTooLarge
from headwater.mqtt.first_bytes import PUBLISH_FIRST_BYTES, check_client_first_byte, check_qos
from headwater.mqtt.framing import check_control, check_shortest, parse_frame_length
from headwater.mqtt.limits import ProtocolLimits, Turn
from headwater.mqtt.packets import Disconnect, ProtocolLevel
from headwater.mqtt.publish_properties import PublishProperties, parse_publish_properties
from headwater.mqtt.publishing import OutOfTurn, Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.topics import check_topic_name, parse_text

MAX_CACHED_TARGETS = 1_000
"""Topics per connection whose target is remembered; a client that invents topics must not grow us."""
MAX_CACHED_TARGET_BYTES = 65_536
"""The same for the length of all their names: the longest names would make a megabyte of a connection."""


class ServerProtocol(ControlPackets):
    """One client's connection, from its first byte to its last.

    Usage: `receive(data, now_ns)` for what arrived, then `take_output()`. When `receive` raises
    MqttProtocolError, send what `take_output` still holds and close; the connection takes no more. When
    `is_finished` turns true the client said goodbye: close. While `is_stalled`, hand in nothing new; call
    `receive(b"", now_ns)` later.
    """

    __slots__ = (
        "_alias_topics",
        "_needed",
        "_tail",
        "_targets",
        "_targets_bytes",
        "received_messages",
    )

    def __init__(self, handler: ProtocolHandler, limits: ProtocolLimits, turn: Turn) -> None:
        super().__init__(handler, limits, turn)
        self._tail: bytearray | None = None
        self._needed = 0
        self._targets: dict[bytes, PublishTarget] = {}
        self._targets_bytes = 0
        self._alias_topics: dict[int, bytes] | None = None
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

    def _receive_packets(self, data: bytes, position: int, now_ns: int) -> int:
        """Handle every whole packet from `position` on; the position of the first that was not handled."""
        end = len(data)
        targets, output, turn = self._targets, self._output, self._turn
        max_packet_bytes = self._limits.max_packet_bytes
        is_v5 = self.level == ProtocolLevel.V5
        messages = 0
        while end - position >= 2:
            first_byte = data[position]
            length = data[position + 1]
            start = position + 2
            if length > 127:
                if first_byte not in PUBLISH_FIRST_BYTES:  # before its length is: that may not be here yet
                    check_client_first_byte(first_byte, self.level)
                header = parse_frame_length(data, position, end)
                if header is None:
                    break
                start, length = header
                if is_v5:
                    check_shortest(length, start - position)
            if length > max_packet_bytes:
                raise PacketTooLarge(f"a packet is larger than {max_packet_bytes} bytes")
            stop = start + length
            if first_byte & 0xF0 != 0x30:
                if first_byte == 0xC0 and not length:  # PINGREQ: thousands of them fit into one read [MQTT-3.12.4-1]
                    output.append(PINGRESP)
                    position = stop
                    continue
                check_control(first_byte, length, self.level, self._limits)
                if stop > end:
                    break
                self._handle(first_byte, data[start:stop])
                position = stop
                if self.is_finished:
                    break
                if turn.left < 0:
                    self.is_stalled = position < end
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
            # What can be judged of an unfinished packet need not wait.
            check_client_first_byte(data[position], self.level)
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
            reception = (session.receiving or {}).get(number)
            taken = session.record.written() if reception is None else OutOfTurn(reception)
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
        reception = session.receive_elsewhere(number, taken, keeps_refused=self.level != ProtocolLevel.V5)
        return OutOfTurn(reception) if isinstance(taken, OutOfTurn) else reception

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
