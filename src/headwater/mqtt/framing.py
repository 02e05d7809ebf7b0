"""Where packets begin and end in a stream of bytes, and what can be judged of a packet by its header alone."""

from __future__ import annotations

from headwater.mqtt.errors import MalformedPacket, PacketTooLarge
from headwater.mqtt.first_bytes import SERVER_PACKETS, check_client_first_byte
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.packets import PacketType


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


_WITHOUT_BODY = SERVER_PACKETS | {PacketType.CONNECT, PacketType.PINGREQ}
"""Kinds of packets of which the header says all: a client may not send them, or not with anything in them."""


def check_control(first_byte: int, length: int, level: int, limits: ProtocolLimits) -> None:
    """Judge a packet by its header, before its body is waited for."""
    kind = first_byte >> 4
    if kind in _WITHOUT_BODY:
        check_client_first_byte(first_byte, level)
        if length:
            raise MalformedPacket("PINGREQ has a body")
    is_subscribe = kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
    most = limits.max_subscribe_bytes if is_subscribe else limits.max_control_bytes
    if length > most:
        raise PacketTooLarge(f"a control packet is larger than {most} bytes")


def check_shortest(length: int, header_bytes: int) -> None:
    """[MQTT-1.5.5-1]; before MQTT 5 nobody asked for it."""
    if header_bytes > 2 and length >> 7 * (header_bytes - 2) == 0:
        raise MalformedPacket("a Remaining Length is not in its shortest form")
