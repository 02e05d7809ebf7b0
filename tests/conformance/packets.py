"""Packets for tests: byte by byte, well formed or not, and those that are written often."""

from __future__ import annotations

from headwater.mqtt.fields import render_binary, render_uint16, render_variable_int
from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId

LASTING = {PropertyId.SESSION_EXPIRY_INTERVAL: 600}
"""CONNECT properties of a session that outlives its connection."""


def frame(first_byte: int, *parts: bytes) -> bytes:
    """A packet from its first byte and what follows the Remaining Length."""
    body = b"".join(parts)
    return bytes((first_byte,)) + render_variable_int(len(body)) + body


def text(raw: str | bytes) -> bytes:
    """A string field, well formed or not."""
    return render_binary(raw.encode() if isinstance(raw, str) else raw)


def section(*properties: bytes) -> bytes:
    """Properties with their length in front."""
    body = b"".join(properties)
    return render_variable_int(len(body)) + body


def raw_connect(
    *payload: bytes, flags: int = 0x02, properties: bytes = b"\0", name: str = "MQTT", level: int = 5
) -> bytes:
    """A CONNECT byte by byte, of MQTT 5.0 unless told otherwise; the payload is the client id and what follows it."""
    return frame(0x10, text(name), bytes((level, flags)), render_uint16(0), properties, *payload)


def raw_publish(topic: str | bytes, payload: bytes = b"", properties: bytes = b"\0", first_byte: int = 0x30) -> bytes:
    """A PUBLISH of QoS 0, as MQTT 5.0 has it."""
    return frame(first_byte, text(topic), properties, payload)


def raw_subscribe(*payload: bytes, properties: bytes = b"\0", first_byte: int = 0x82, packet_id: int = 1) -> bytes:
    return frame(first_byte, render_uint16(packet_id), properties, *payload)


def puback(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBACK, packet_id, code)


def pubrec(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBREC, packet_id, code)


def pubrel(packet_id: int | None) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBREL, packet_id)


def pubcomp(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBCOMP, packet_id, code)
