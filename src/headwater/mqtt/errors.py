"""What a peer can do wrong on an MQTT connection."""

from __future__ import annotations

from headwater.errors import ProtocolError
from headwater.mqtt.reason_codes import ReasonCode


class MqttProtocolError(ProtocolError):
    """The peer broke the protocol: close the connection [MQTT-4.8.0-1].

    `reason_code` is the MQTT 5 code that says why; 3.1.1 has no way to tell the peer.
    """

    reason_code: int = ReasonCode.PROTOCOL_ERROR

    def __init__(self, message: str, reason_code: int | None = None) -> None:
        super().__init__(message)
        if reason_code is not None:
            self.reason_code = reason_code


class MalformedPacket(MqttProtocolError):
    """A packet that cannot be parsed."""

    reason_code = ReasonCode.MALFORMED_PACKET


class PacketTooLarge(MqttProtocolError):
    """A packet whose header announces more than the limit; judged before its body is read."""

    reason_code = ReasonCode.PACKET_TOO_LARGE


class UnacceptableProtocol(MqttProtocolError):
    """A well-formed CONNECT for a protocol level that is not spoken here [MQTT-3.1.2-2]."""

    reason_code = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION

    def __init__(self, level: int) -> None:
        super().__init__(
            f"protocol level {level} is not spoken here; use MQTT 3.1 (level 3), 3.1.1 (level 4) or 5.0 (level 5)"
        )
        self.level = level
