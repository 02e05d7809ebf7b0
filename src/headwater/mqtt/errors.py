"""What a peer can do wrong on an MQTT connection."""

from __future__ import annotations

from headwater.errors import ProtocolError


class MqttProtocolError(ProtocolError):
    """The peer broke the protocol: close the connection [MQTT-4.8.0-1].

    `reason_code` is the MQTT 5 code that says why; 3.1.1 has no way to tell the peer.
    """

    reason_code = 0x82

    def __init__(self, message: str, reason_code: int | None = None) -> None:
        super().__init__(message)
        if reason_code is not None:
            self.reason_code = reason_code


class MalformedPacket(MqttProtocolError):
    """A packet that cannot be parsed."""

    reason_code = 0x81


class PacketTooLarge(MqttProtocolError):
    """A packet whose header announces more than the limit; judged before its body is read."""

    reason_code = 0x95


class UnacceptableProtocol(MqttProtocolError):
    """A well-formed CONNECT for a protocol level that is not spoken here [MQTT-3.1.2-2]."""

    reason_code = 0x84

    def __init__(self, level: int) -> None:
        super().__init__(f"protocol level {level} is not spoken here; use MQTT 3.1.1 (level 4)")
        self.level = level
