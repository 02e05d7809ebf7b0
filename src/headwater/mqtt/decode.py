"""Bytes of one packet to its value, strictly as MQTT 3.1.1 (and 3.1) say. Knows no state of a connection.

Every function raises MalformedPacket (or another MqttProtocolError) when a packet is a byte too short, a byte too
long, or says something the specification forbids.
"""

from __future__ import annotations

from collections.abc import Callable

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, UnacceptableProtocol
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
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from headwater.mqtt.topics import check_topic_name, parse_text

_PROTOCOL_NAMES = {b"MQTT": (4, 5), b"MQIsdp": (3,)}
_MAX_LEVELS = 65_535
"""Here only the grammar counts; the session applies the configured depth."""
_MAX_UNSUBSCRIBE_FILTERS = 1_000
"""UNSUBACK cannot refuse one filter of many, so a packet with more is refused whole; two packets will do."""


class _Reader:
    """Takes fields off the front of a packet body."""

    __slots__ = ("body", "position")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.body):
            raise MalformedPacket("a packet ends in the middle of a field")
        taken = self.body[self.position : end]
        self.position = end
        return taken

    def take_byte(self) -> int:
        return self.take(1)[0]

    def take_uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def take_binary(self) -> bytes:
        return self.take(self.take_uint16())

    def take_text(self) -> str:
        return parse_text(self.take_binary())

    def take_packet_id(self) -> int:
        packet_id = self.take_uint16()
        if packet_id == 0:  # [MQTT-2.3.1-1]
            raise MalformedPacket("a packet identifier is zero")
        return packet_id

    def take_rest(self) -> bytes:
        return self.take(len(self.body) - self.position)

    def skip_subscriptions(self) -> int:
        """Pass over (filter, QoS) pairs up to the end by their lengths alone; how many there were."""
        body, position, end = self.body, self.position, len(self.body)
        count = 0
        while position + 2 < end:
            position += 3 + (body[position] << 8 | body[position + 1])
            count += 1
        if position != end:
            raise MalformedPacket("a packet ends in the middle of a field")
        self.position = end
        return count

    @property
    def has_more(self) -> bool:
        return self.position < len(self.body)

    def check_end(self) -> None:
        if self.has_more:
            raise MalformedPacket("a packet has bytes left over")


def parse_packet(first_byte: int, body: bytes, *, max_filters: int | None = None) -> Packet:
    """One whole packet: its first byte and what follows the Remaining Length. Of a SUBSCRIBE, `max_filters` are read
    and the rest is only counted: tens of thousands fit into one packet."""
    try:
        packet_type = PacketType(first_byte >> 4)
    except ValueError:
        raise MalformedPacket("packet type 0 is reserved", 0x82) from None
    if packet_type is PacketType.PUBLISH:
        return parse_publish(first_byte, body)
    if first_byte & 0x0F != _RESERVED_FLAGS.get(packet_type, 0):  # [MQTT-2.2.2-1] [MQTT-2.2.2-2]
        raise MalformedPacket(f"{packet_type.name} has wrong reserved flags")
    reader = _Reader(body)
    packet: Packet
    if packet_type is PacketType.SUBSCRIBE:
        packet = _parse_subscribe(reader, max_filters)
    else:
        parse = _PARSERS.get(packet_type)
        if parse is None:
            raise MqttProtocolError("AUTH does not exist in MQTT 3.1.1")
        packet = parse(reader, packet_type)
    reader.check_end()
    return packet


def parse_connect(reader: _Reader, _: PacketType) -> Connect:
    """Section 3.1. The order of the fields after the flags is fixed [MQTT-3.1.3-1]."""
    levels = _PROTOCOL_NAMES.get(reader.take_binary())
    if levels is None:  # [MQTT-3.1.2-1]
        raise MalformedPacket("the protocol name is not MQTT")
    level = reader.take_byte()
    if level not in levels or level == ProtocolLevel.V5:
        raise UnacceptableProtocol(level)
    flags = reader.take_byte()
    will_flag, will_qos, will_retain = bool(flags & 0x04), flags >> 3 & 3, bool(flags & 0x20)
    username_flag, password_flag = bool(flags & 0x80), bool(flags & 0x40)
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise MalformedPacket("CONNECT has its reserved flag set")
    if will_qos == 3 or (not will_flag and (will_qos or will_retain)):  # [MQTT-3.1.2-13] to [MQTT-3.1.2-15]
        raise MalformedPacket("CONNECT has impossible will flags")
    if password_flag and not username_flag:  # [MQTT-3.1.2-22]
        raise MalformedPacket("CONNECT has a password without a user name")
    keep_alive_s = reader.take_uint16()
    client_id = reader.take_text()
    will = None
    if will_flag:
        topic = reader.take_text()
        check_topic_name(topic, max_levels=_MAX_LEVELS)
        will = Will(topic, reader.take_binary(), will_qos, will_retain)
    username = reader.take_text() if username_flag else None
    password = reader.take_binary() if password_flag else None
    return Connect(client_id, bool(flags & 0x02), keep_alive_s, username, password, will, ProtocolLevel(level))


def parse_publish(first_byte: int, body: bytes) -> Publish:
    """Section 3.3."""
    qos = first_byte >> 1 & 3
    dup = bool(first_byte & 0x08)
    if qos == 3:  # [MQTT-3.3.1-4]
        raise MalformedPacket("PUBLISH has QoS 3")
    if dup and not qos:  # [MQTT-3.3.1-2]
        raise MalformedPacket("PUBLISH has DUP with QoS 0")
    reader = _Reader(body)
    topic = reader.take_text()
    check_topic_name(topic, max_levels=_MAX_LEVELS)
    packet_id = reader.take_packet_id() if qos else None
    return Publish(topic, reader.take_rest(), qos, packet_id, bool(first_byte & 0x01), dup)


def _parse_connack(reader: _Reader, _: PacketType) -> Connack:
    flags = reader.take_byte()
    if flags & 0xFE:
        raise MalformedPacket("CONNACK has reserved flags set")
    return Connack(bool(flags), reader.take_byte())


def _parse_acknowledgement(reader: _Reader, packet_type: PacketType) -> Acknowledgement:
    return Acknowledgement(packet_type, reader.take_packet_id())


def _parse_subscribe(reader: _Reader, max_filters: int | None) -> Subscribe:
    packet_id = reader.take_packet_id()
    subscriptions: list[Subscription] = []
    while reader.has_more and len(subscriptions) != max_filters:
        topic_filter = reader.take_text()
        qos = reader.take_byte()
        if qos > 2:  # [MQTT-3.8.3-4]
            raise MalformedPacket("SUBSCRIBE asks for an impossible QoS")
        subscriptions.append(Subscription(topic_filter, qos))
    if not subscriptions:  # [MQTT-3.8.3-3]
        raise MalformedPacket("SUBSCRIBE has no topic filter")
    return Subscribe(packet_id, tuple(subscriptions), unread=reader.skip_subscriptions())


def _parse_suback(reader: _Reader, _: PacketType) -> Suback:
    packet_id = reader.take_packet_id()
    codes = tuple(reader.take_rest())
    if not codes or any(code > 2 and code != 0x80 for code in codes):  # [MQTT-3.9.3-2]
        raise MalformedPacket("SUBACK has an impossible return code")
    return Suback(packet_id, codes)


def _parse_unsubscribe(reader: _Reader, _: PacketType) -> Unsubscribe:
    packet_id = reader.take_packet_id()
    topic_filters: list[str] = []
    while reader.has_more:
        if len(topic_filters) >= _MAX_UNSUBSCRIBE_FILTERS:
            raise MalformedPacket(f"UNSUBSCRIBE has more than {_MAX_UNSUBSCRIBE_FILTERS} topic filters")
        topic_filters.append(reader.take_text())
    if not topic_filters:  # [MQTT-3.10.3-2]
        raise MalformedPacket("UNSUBSCRIBE has no topic filter")
    return Unsubscribe(packet_id, tuple(topic_filters))


def _parse_unsuback(reader: _Reader, _: PacketType) -> Unsuback:
    return Unsuback(reader.take_packet_id())


_RESERVED_FLAGS = {PacketType.PUBREL: 0x02, PacketType.SUBSCRIBE: 0x02, PacketType.UNSUBSCRIBE: 0x02}

_PARSERS: dict[PacketType, Callable[[_Reader, PacketType], Packet]] = {
    PacketType.CONNECT: parse_connect,
    PacketType.CONNACK: _parse_connack,
    PacketType.PUBACK: _parse_acknowledgement,
    PacketType.PUBREC: _parse_acknowledgement,
    PacketType.PUBREL: _parse_acknowledgement,
    PacketType.PUBCOMP: _parse_acknowledgement,
    PacketType.SUBACK: _parse_suback,
    PacketType.UNSUBSCRIBE: _parse_unsubscribe,
    PacketType.UNSUBACK: _parse_unsuback,
    PacketType.PINGREQ: lambda reader, _: Pingreq(),
    PacketType.PINGRESP: lambda reader, _: Pingresp(),
    PacketType.DISCONNECT: lambda reader, _: Disconnect(),
}
