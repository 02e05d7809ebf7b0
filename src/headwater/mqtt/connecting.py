"""The beginning of a server's MQTT connection: CONNECT, and CONNACK in answer to it (5.0 sections 3.1 and 3.2). Who may
connect is found out by the handler."""

from __future__ import annotations

from headwater.mqtt.answers import Answers, ProtocolHandler
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.errors import MqttProtocolError, PacketTooLarge, UnacceptableProtocol
from headwater.mqtt.framing import check_shortest, parse_frame_length
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    Connack,
    Connect,
    ConnectReturnCode,
    Properties,
    PropertyId,
    ProtocolLevel,
)
from headwater.mqtt.publish_properties import will_message_length
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session


class Connecting(Answers):
    """What a client says of itself, and whether it may stay."""

    __slots__ = ("client_id", "is_connected", "is_stalled", "keep_alive_s")

    def __init__(self, handler: ProtocolHandler, limits: ProtocolLimits) -> None:
        super().__init__(handler, limits)
        self.client_id: str | None = None
        """As CONNECT said, accepted or not."""
        self.keep_alive_s = 0
        self.is_connected = False
        self.is_stalled = False
        """Bytes are here that have not been looked at: something has to happen first."""

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
            check_shortest(length, start)
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
        if needs_name and not id_bytes:
            self.refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)  # [MQTT-3.1.3-8]
        if id_bytes > limits.max_client_id_bytes:
            most = f"{limits.max_client_id_bytes} bytes (setting mqtt.max_client_id_bytes)"
            self.refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, f"the client id is longer than {most}")
        if connect.will is not None:
            topic = connect.will.topic
            if len(topic.encode()) > limits.max_topic_bytes or topic.count("/") >= limits.max_topic_levels:
                self.refuse(ReasonCode.TOPIC_NAME_INVALID, "the will topic is too long or has too many levels")
            if will_message_length(connect.will, self.level) > limits.max_packet_bytes:
                reason = f"as a message, the will would be larger than {limits.max_packet_bytes} bytes"
                self.refuse(ReasonCode.PACKET_TOO_LARGE, reason)
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
