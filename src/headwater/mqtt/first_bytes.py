"""What a packet may begin with: its type and flags, which are one byte (3.1.1 section 2.2, 5.0 section 2.1).

Every function raises MalformedPacket (or another MqttProtocolError).
"""

from __future__ import annotations

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError
from headwater.mqtt.packets import PacketType, ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode

PUBLISH_FIRST_BYTES = frozenset(
    0x30 | dup << 3 | qos << 1 | retain for dup in (0, 1) for qos in (0, 1, 2) for retain in (0, 1) if qos or not dup
)
"""All that a PUBLISH may begin with."""


_PACKET_TYPES: tuple[PacketType | None, ...] = (None, *PacketType)
SERVER_PACKETS = frozenset({PacketType.CONNACK, PacketType.SUBACK, PacketType.UNSUBACK, PacketType.PINGRESP})
"""What only a server sends."""
_RESERVED_FLAGS = {PacketType.PUBREL: 0x02, PacketType.SUBSCRIBE: 0x02, PacketType.UNSUBSCRIBE: 0x02}


def check_first_byte(first_byte: int, level: int) -> PacketType:
    """The type of a packet, if its first byte is one that a packet of this level may begin with."""
    packet_type = _PACKET_TYPES[first_byte >> 4]
    if packet_type is None:
        raise MalformedPacket("packet type 0 is reserved", ReasonCode.PROTOCOL_ERROR)
    if packet_type is PacketType.PUBLISH:
        check_publish_flags(first_byte)
        return packet_type
    flags = first_byte & (0x07 if level == ProtocolLevel.V31 else 0x0F)  # 3.1 sets DUP where a packet is sent again
    if flags != _RESERVED_FLAGS.get(packet_type, 0):  # 3.1.1: [MQTT-2.2.2-1], 5.0: [MQTT-2.1.3-1]
        raise MalformedPacket(f"{packet_type.name} has wrong reserved flags")
    if packet_type is PacketType.AUTH and level != ProtocolLevel.V5:
        raise MqttProtocolError("AUTH does not exist in MQTT 3.1.1")
    return packet_type


def check_client_first_byte(first_byte: int, level: int) -> PacketType:
    """The same for a packet that a client may send once it is connected."""
    packet_type = check_first_byte(first_byte, level)
    if packet_type is PacketType.CONNECT:  # [MQTT-3.1.0-2]
        raise MqttProtocolError("a second CONNECT on one connection")
    if packet_type in SERVER_PACKETS:
        raise MqttProtocolError(f"a client never sends {packet_type.name}")
    return packet_type


def check_publish_flags(first_byte: int) -> None:
    """Whether a PUBLISH may have these flags."""
    qos = first_byte >> 1 & 3
    if qos == 3:  # [MQTT-3.3.1-4]
        raise MalformedPacket("PUBLISH has QoS 3")
    if first_byte & 0x08 and not qos:  # [MQTT-3.3.1-2]
        raise MalformedPacket("PUBLISH has DUP with QoS 0")


def check_qos(first_byte: int, packet_id: bytes) -> None:
    """Whether a PUBLISH has possible flags, and with a QoS above 0 a packet identifier [MQTT-2.2.1-3]."""
    check_publish_flags(first_byte)
    if first_byte & 0x06 and (len(packet_id) < 2 or packet_id == b"\0\0"):
        raise MalformedPacket("PUBLISH has no packet identifier")
