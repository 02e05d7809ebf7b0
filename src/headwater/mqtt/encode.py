"""Values to bytes of MQTT 3.1, 3.1.1 and 5.0, for both ends of a connection. The inverse of `decode`.

Ranges that a field can hold are checked, the meaning of values is not: tests must be able to say impossible things.
"""

from __future__ import annotations

from functools import singledispatch

from headwater.mqtt.fields import (
    MAX_VARIABLE_INT,
    render_binary,
    render_string,
    render_uint16,
    render_variable_int,
)
from headwater.mqtt.packets import (
    SUBACK_FAILURE,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Properties,
    ProtocolLevel,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.properties import render_properties

MAX_REMAINING_LENGTH = MAX_VARIABLE_INT
"""Section 2.2.3 of 3.1.1, section 2.1.4 of 5.0."""

PINGRESP = b"\xd0\x00"
PUBACK_HEAD = b"\x40\x02"
PUBREC_HEAD = b"\x50\x02"
PUBREL_HEAD = b"\x62\x02"
PUBCOMP_HEAD = b"\x70\x02"


def render_remaining_length(length: int) -> bytes:
    """Raises ValueError above MAX_REMAINING_LENGTH."""
    return render_variable_int(length)


def render_packet(packet: Packet, level: int = ProtocolLevel.V311) -> bytes:
    """The whole packet, ready for the wire; a Connect names its own level. Raises ValueError for what cannot be said.

    Of what 3.1.1 has no room for, properties and reason codes are left out, and every failure in a SUBACK becomes
    the one that 3.1.1 knows. CONNACK has other codes there, so they must be the right ones.
    """
    return _render(packet, level == ProtocolLevel.V5)


def render_publish(
    topic: bytes, payload: bytes, qos: int, packet_id: int, *, retain: bool = False, dup: bool = False
) -> bytes:
    """A PUBLISH of 3.1.1 from parts that are known to be well formed; `packet_id` counts for QoS 1 and 2 only.
    Its twin for 5.0 is `publish_properties.render_publish5`."""
    middle = packet_id.to_bytes(2, "big") if qos else b""
    length = 2 + len(topic) + len(middle) + len(payload)
    head = bytes((0x30 | dup << 3 | qos << 1 | retain,))
    return b"".join((head, render_variable_int(length), len(topic).to_bytes(2, "big"), topic, middle, payload))


def _frame(first_byte: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    return bytes((first_byte,)) + render_variable_int(len(body)) + body


def _id(packet_id: int | None) -> bytes:
    if not packet_id:
        raise ValueError("a packet identifier is 1 to 65,535")
    return render_uint16(packet_id)


def _reason(reason_code: int, properties: Properties) -> bytes:
    """The end of a packet of 5.0 that may be left out (sections 3.4.2.1, 3.14.2.1 and 3.15.2.1)."""
    if properties:
        return bytes((reason_code,)) + render_properties(properties)
    return bytes((reason_code,)) if reason_code else b""


def _properties(properties: Properties, is_v5: bool) -> bytes:
    return render_properties(properties) if is_v5 else b""


@singledispatch
def _render(packet: object, is_v5: bool) -> bytes:
    raise TypeError(f"{type(packet).__name__} is not a packet")


@_render.register
def _(packet: Connect, is_v5: bool) -> bytes:
    is_v5 = packet.level is ProtocolLevel.V5
    if packet.password is not None and packet.username is None and not is_v5:  # [MQTT-3.1.2-22] of 3.1.1
        raise ValueError("a password needs a user name")
    will = packet.will
    flags = packet.clean_session << 1
    payload = [render_string(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        payload += [_properties(will.properties, is_v5), render_string(will.topic), render_binary(will.payload)]
    if packet.username is not None:
        flags |= 0x80
        payload.append(render_string(packet.username))
    if packet.password is not None:
        flags |= 0x40
        payload.append(render_binary(packet.password))
    name = b"MQIsdp" if packet.level is ProtocolLevel.V31 else b"MQTT"
    head = render_binary(name) + bytes((packet.level, flags)) + render_uint16(packet.keep_alive_s)
    return _frame(0x10, head, _properties(packet.properties, is_v5), *payload)


@_render.register
def _(packet: Connack, is_v5: bool) -> bytes:
    if not is_v5 and packet.reason_code > max(ConnectReturnCode):
        raise ValueError("3.1.1 has no such return code")
    flags_and_code = bytes((packet.session_present, packet.reason_code))
    return _frame(0x20, flags_and_code, _properties(packet.properties, is_v5))


@_render.register
def _(packet: Publish, is_v5: bool) -> bytes:
    if not 0 <= packet.qos <= 2 or (packet.dup and not packet.qos):  # [MQTT-3.3.1-2] [MQTT-3.3.1-4]
        raise ValueError("PUBLISH has QoS 0, 1 or 2, and DUP only above 0")
    first_byte = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    middle = _id(packet.packet_id) if packet.qos else b""
    properties = _properties(packet.properties, is_v5)
    return _frame(first_byte, render_string(packet.topic), middle, properties, packet.payload)


@_render.register
def _(packet: Acknowledgement, is_v5: bool) -> bytes:
    flags = 0x02 if packet.type is PacketType.PUBREL else 0
    reason = _reason(packet.reason_code, packet.properties) if is_v5 else b""
    return _frame(packet.type << 4 | flags, _id(packet.packet_id), reason)


@_render.register
def _(packet: Subscribe, is_v5: bool) -> bytes:
    filters = [render_string(s.topic_filter) + _options(s, is_v5) for s in packet.subscriptions]
    return _frame(0x82, _id(packet.packet_id), _properties(packet.properties, is_v5), *filters)


def _options(subscription: Subscription, is_v5: bool) -> bytes:
    if not is_v5:
        return bytes((subscription.qos,))
    flags = subscription.no_local << 2 | subscription.retain_as_published << 3
    return bytes((subscription.qos | flags | subscription.retain_handling << 4,))


@_render.register
def _(packet: Suback, is_v5: bool) -> bytes:
    codes = bytes(packet.reason_codes)
    if not is_v5:  # [MQTT-3.9.3-2]
        codes = bytes(SUBACK_FAILURE if code >= SUBACK_FAILURE else code for code in codes)
    return _frame(0x90, _id(packet.packet_id), _properties(packet.properties, is_v5), codes)


@_render.register
def _(packet: Unsubscribe, is_v5: bool) -> bytes:
    properties = _properties(packet.properties, is_v5)
    return _frame(0xA2, _id(packet.packet_id), properties, *map(render_string, packet.topic_filters))


@_render.register
def _(packet: Unsuback, is_v5: bool) -> bytes:
    codes = bytes(packet.reason_codes) if is_v5 else b""
    return _frame(0xB0, _id(packet.packet_id), _properties(packet.properties, is_v5), codes)


@_render.register
def _(packet: Pingreq, is_v5: bool) -> bytes:
    return b"\xc0\x00"


@_render.register
def _(packet: Pingresp, is_v5: bool) -> bytes:
    return PINGRESP


@_render.register
def _(packet: Disconnect, is_v5: bool) -> bytes:
    return _frame(0xE0, _reason(packet.reason_code, packet.properties) if is_v5 else b"")


@_render.register
def _(packet: Auth, is_v5: bool) -> bytes:
    if not is_v5:
        raise ValueError("AUTH does not exist in 3.1.1")
    return _frame(0xF0, _reason(packet.reason_code, packet.properties))
