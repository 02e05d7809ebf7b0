"""Values to bytes of MQTT 3.1.1 (and 3.1), for both ends of a connection. The inverse of `decode`."""

from __future__ import annotations

from functools import singledispatch

from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    ProtocolLevel,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

MAX_REMAINING_LENGTH = 268_435_455
"""Four bytes of seven bits (section 2.2.3)."""

PINGRESP = b"\xd0\x00"
PUBACK_HEAD = b"\x40\x02"
PUBREC_HEAD = b"\x50\x02"
PUBCOMP_HEAD = b"\x70\x02"


def render_remaining_length(length: int) -> bytes:
    """Section 2.2.3. Raises ValueError above MAX_REMAINING_LENGTH."""
    if length > MAX_REMAINING_LENGTH:
        raise ValueError(f"no packet can be {length} bytes long")
    encoded = bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        if not length:
            encoded.append(digit)
            return bytes(encoded)
        encoded.append(digit | 0x80)


def render_packet(packet: Packet) -> bytes:
    """The whole packet, ready for the wire. Raises ValueError for what cannot be said in 3.1.1."""
    return _render(packet)


def render_publish(topic: bytes, payload: bytes, qos: int, packet_id: int, *, retain: bool = False) -> bytes:
    """A PUBLISH from parts that are known to be well formed; `packet_id` counts for QoS 1 and 2 only."""
    middle = packet_id.to_bytes(2, "big") if qos else b""
    length = 2 + len(topic) + len(middle) + len(payload)
    head = bytes((0x30 | qos << 1 | retain,))
    return b"".join((head, render_remaining_length(length), len(topic).to_bytes(2, "big"), topic, middle, payload))


def _frame(first_byte: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    return bytes((first_byte,)) + render_remaining_length(len(body)) + body


def _binary(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise ValueError("a field of the protocol can hold 65,535 bytes")
    return len(value).to_bytes(2, "big") + value


def _text(value: str) -> bytes:
    return _binary(value.encode("utf-8"))


def _uint16(value: int) -> bytes:
    if not 0 <= value <= 0xFFFF:
        raise ValueError("a number of the protocol is 0 to 65,535")
    return value.to_bytes(2, "big")


def _id(packet_id: int | None) -> bytes:
    if not packet_id:
        raise ValueError("a packet identifier is 1 to 65,535")
    return _uint16(packet_id)


@singledispatch
def _render(packet: object) -> bytes:
    raise TypeError(f"{type(packet).__name__} is not a packet")


@_render.register
def _(packet: Connect) -> bytes:
    if packet.level is ProtocolLevel.V5:
        raise ValueError("this is no CONNECT of MQTT 5.0")
    if packet.password is not None and packet.username is None:  # [MQTT-3.1.2-22]
        raise ValueError("a password needs a user name")
    will = packet.will
    flags = packet.clean_session << 1
    payload = [_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        payload += [_text(will.topic), _binary(will.payload)]
    if packet.username is not None:
        flags |= 0x80
        payload.append(_text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        payload.append(_binary(packet.password))
    name = b"MQIsdp" if packet.level is ProtocolLevel.V31 else b"MQTT"
    head = _binary(name) + bytes((packet.level, flags)) + _uint16(packet.keep_alive_s)
    return _frame(0x10, head, *payload)


@_render.register
def _(packet: Connack) -> bytes:
    return bytes((0x20, 2, packet.session_present, packet.return_code))


@_render.register
def _(packet: Publish) -> bytes:
    if not 0 <= packet.qos <= 2 or (packet.dup and not packet.qos):  # [MQTT-3.3.1-2] [MQTT-3.3.1-4]
        raise ValueError("PUBLISH has QoS 0, 1 or 2, and DUP only above 0")
    first_byte = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    middle = _id(packet.packet_id) if packet.qos else b""
    return _frame(first_byte, _text(packet.topic), middle, packet.payload)


@_render.register
def _(packet: Acknowledgement) -> bytes:
    flags = 0x02 if packet.type is PacketType.PUBREL else 0
    return _frame(packet.type << 4 | flags, _id(packet.packet_id))


@_render.register
def _(packet: Subscribe) -> bytes:
    filters = [_text(s.topic_filter) + bytes((s.qos,)) for s in packet.subscriptions]
    return _frame(0x82, _id(packet.packet_id), *filters)


@_render.register
def _(packet: Suback) -> bytes:
    return _frame(0x90, _id(packet.packet_id), bytes(packet.return_codes))


@_render.register
def _(packet: Unsubscribe) -> bytes:
    return _frame(0xA2, _id(packet.packet_id), *map(_text, packet.topic_filters))


@_render.register
def _(packet: Unsuback) -> bytes:
    return _frame(0xB0, _id(packet.packet_id))


@_render.register
def _(packet: Pingreq) -> bytes:
    return b"\xc0\x00"


@_render.register
def _(packet: Pingresp) -> bytes:
    return PINGRESP


@_render.register
def _(packet: Disconnect) -> bytes:
    return b"\xe0\x00"
