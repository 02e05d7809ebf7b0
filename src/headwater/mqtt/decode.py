"""Bytes of one packet to its value, strictly as MQTT 3.1, 3.1.1 and 5.0 say. Knows no state of a connection.

Every function raises MalformedPacket (or another MqttProtocolError) when a packet is a byte too short, a byte too
long, or says something the specification forbids. Packets of either side are read: what only a server may send, the
connection refuses. `level` is the version that CONNECT named; level 3 differs from 4 in CONNECT and in DUP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, UnacceptableProtocol
from headwater.mqtt.fields import parse_binary, parse_byte, parse_string, parse_uint16
from headwater.mqtt.first_bytes import check_first_byte, check_publish_flags
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    SUBACK_FAILURE,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Properties,
    PropertyId,
    ProtocolLevel,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from headwater.mqtt.properties import DEFAULT_LIMITS, WILL, Carrier, PropertyLimits, parse_properties
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import REASON_CODES
from headwater.mqtt.topics import SHARE_PREFIX, check_filter_form, check_topic_name, parse_text

_PROTOCOL_NAMES = {b"MQTT": (ProtocolLevel.V311, ProtocolLevel.V5), b"MQIsdp": (ProtocolLevel.V31,)}
_RAW_SHARE_PREFIX = SHARE_PREFIX.encode()
_MAX_LEVELS = 65_535
"""Here only the grammar counts; the session applies the configured depth."""
_MAX_UNSUBSCRIBE_FILTERS = 1_000
"""Beyond what anybody needs at once; a packet with more is refused whole, two packets will do."""


class _Reader:
    """Takes fields off the front of a packet body."""

    __slots__ = ("body", "level", "limits", "position")

    def __init__(self, body: bytes, level: int, limits: PropertyLimits) -> None:
        self.body = body
        self.level = level
        self.limits = limits
        self.position = 0

    @property
    def is_v5(self) -> bool:
        return self.level == ProtocolLevel.V5

    def take_byte(self) -> int:
        value, self.position = parse_byte(self.body, self.position, len(self.body))
        return value

    def take_uint16(self) -> int:
        value, self.position = parse_uint16(self.body, self.position, len(self.body))
        return value

    def take_binary(self) -> bytes:
        value, self.position = parse_binary(self.body, self.position, len(self.body))
        return value

    def take_text(self) -> str:
        value, self.position = parse_string(self.body, self.position, len(self.body))
        return value

    def take_packet_id(self) -> int:
        packet_id = self.take_uint16()
        if packet_id == 0:  # 3.1.1: [MQTT-2.3.1-1], 5.0: [MQTT-2.2.1-3]
            raise MalformedPacket("a packet identifier is zero", ReasonCode.PROTOCOL_ERROR)
        return packet_id

    def take_properties(self, carrier: Carrier) -> Properties:
        """The section of properties, which MQTT 5.0 alone has."""
        if not self.is_v5:
            return NO_PROPERTIES
        properties, self.position = parse_properties(self.body, self.position, carrier, self.limits)
        return properties

    def take_reason(self, packet_type: PacketType) -> tuple[int, Properties]:
        """A reason code and properties at the end of a packet of MQTT 5.0; both may be left out, or the latter."""
        if not self.is_v5 or not self.has_more:
            return ReasonCode.SUCCESS, NO_PROPERTIES
        reason_code = self.take_byte()
        check_reason_codes((reason_code,), packet_type)
        return reason_code, self.take_properties(packet_type) if self.has_more else NO_PROPERTIES

    def take_rest(self) -> bytes:
        rest = self.body[self.position :]
        self.position = len(self.body)
        return rest

    def skip_subscriptions(self) -> int:
        """Pass over (filter, options) pairs up to the end; how many there were. Of each, only that is looked at which
        spoils the packet in every version (`topics.check_filter_form`): text and options are not read."""
        body, position, end = self.body, self.position, len(self.body)
        count = 0
        while position + 2 < end:
            start = position + 2
            stop = start + (body[position] << 8 | body[position + 1])
            if start == stop or body.startswith(_RAW_SHARE_PREFIX, start, stop):
                check_filter_form(parse_text(body[start:stop]))
            position = stop + 1
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


def parse_packet(
    first_byte: int,
    body: bytes,
    level: int = ProtocolLevel.V311,
    *,
    max_filters: int | None = None,
    limits: PropertyLimits = DEFAULT_LIMITS,
) -> Packet:
    """One whole packet: its first byte and what follows the Remaining Length. A CONNECT says its own level. Of a
    SUBSCRIBE, `max_filters` are read and the rest is only counted: tens of thousands fit into one packet."""
    packet_type = check_first_byte(first_byte, level)
    if packet_type is PacketType.PUBLISH:
        return parse_publish(first_byte, body, level, limits=limits)
    reader = _Reader(body, level, limits)
    packet: Packet
    if packet_type is PacketType.SUBSCRIBE:
        packet = _parse_subscribe(reader, max_filters)
    else:
        packet = _PARSERS[packet_type](reader, packet_type)
    reader.check_end()
    return packet


def parse_connect(reader: _Reader, _: PacketType) -> Connect:
    """Section 3.1. The order of the fields after the flags is fixed [MQTT-3.1.3-1]."""
    levels = _PROTOCOL_NAMES.get(reader.take_binary())
    if levels is None:  # [MQTT-3.1.2-1]
        raise MalformedPacket("the protocol name is not MQTT")
    level = reader.take_byte()
    if level not in levels:
        raise UnacceptableProtocol(level)
    reader.level = level
    flags = reader.take_byte()
    will_flag, will_qos, will_retain = bool(flags & 0x04), flags >> 3 & 3, bool(flags & 0x20)
    username_flag, password_flag = bool(flags & 0x80), bool(flags & 0x40)
    if flags & 0x01 and level != ProtocolLevel.V31:  # [MQTT-3.1.2-3]; MQTT 3.1 only calls the bit unused
        raise MalformedPacket("CONNECT has its reserved flag set")
    if will_qos == 3 or (not will_flag and (will_qos or will_retain)):  # [MQTT-3.1.2-11] to [MQTT-3.1.2-15]
        raise MalformedPacket("CONNECT has impossible will flags")
    if password_flag and not username_flag and not reader.is_v5:  # [MQTT-3.1.2-22] of 3.1.1
        raise MalformedPacket("CONNECT has a password without a user name")
    keep_alive_s = reader.take_uint16()
    properties = reader.take_properties(PacketType.CONNECT)
    client_id = reader.take_text()
    will = _take_will(reader, will_qos, will_retain) if will_flag else None
    username = reader.take_text() if username_flag else None
    password = reader.take_binary() if password_flag else None
    return Connect(
        client_id, bool(flags & 0x02), keep_alive_s, username, password, will, ProtocolLevel(level), properties
    )


def _take_will(reader: _Reader, qos: int, retain: bool) -> Will:
    properties = reader.take_properties(WILL)
    topic = reader.take_text()
    check_topic_name(topic, max_levels=_MAX_LEVELS)
    return Will(topic, reader.take_binary(), qos, retain, properties)


def parse_publish(
    first_byte: int, body: bytes, level: int = ProtocolLevel.V311, *, limits: PropertyLimits = DEFAULT_LIMITS
) -> Publish:
    """Section 3.3, from either side: subscription identifiers, which only a server sends, are read too."""
    check_publish_flags(first_byte)
    qos = first_byte >> 1 & 3
    dup = bool(first_byte & 0x08)
    reader = _Reader(body, level, limits)
    topic = reader.take_text()
    if topic or not reader.is_v5:
        check_topic_name(topic, max_levels=_MAX_LEVELS)
    packet_id = reader.take_packet_id() if qos else None
    properties = reader.take_properties(PacketType.PUBLISH)
    if not topic and PropertyId.TOPIC_ALIAS not in properties:  # 5.0, section 3.3.2.1
        raise MqttProtocolError("PUBLISH has neither a topic nor a topic alias")
    return Publish(topic, reader.take_rest(), qos, packet_id, bool(first_byte & 0x01), dup, properties)


def check_reason_codes(codes: Iterable[int], packet_type: PacketType) -> None:
    """Raises MqttProtocolError unless MQTT 5.0 lets the packet carry all of them."""
    if not REASON_CODES[packet_type].issuperset(codes):
        raise MqttProtocolError(f"{packet_type.name} has an impossible reason code")


def _parse_connack(reader: _Reader, packet_type: PacketType) -> Connack:
    flags = reader.take_byte()
    if flags & 0xFE:
        raise MalformedPacket("CONNACK has reserved flags set")
    code = reader.take_byte()
    if reader.is_v5:
        check_reason_codes((code,), packet_type)
    return Connack(bool(flags), code, reader.take_properties(packet_type))


def _parse_acknowledgement(reader: _Reader, packet_type: PacketType) -> Acknowledgement:
    return Acknowledgement(packet_type, reader.take_packet_id(), *reader.take_reason(packet_type))


def _parse_subscribe(reader: _Reader, max_filters: int | None) -> Subscribe:
    packet_id = reader.take_packet_id()
    properties = reader.take_properties(PacketType.SUBSCRIBE)
    take_subscription = _take_subscription5 if reader.is_v5 else _take_subscription
    subscriptions: list[Subscription] = []
    while reader.has_more and len(subscriptions) != max_filters:
        subscriptions.append(take_subscription(reader))
    if not subscriptions:  # 3.1.1: [MQTT-3.8.3-3], 5.0: [MQTT-3.8.3-2]
        raise MalformedPacket("SUBSCRIBE has no topic filter", ReasonCode.PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(subscriptions), properties, reader.skip_subscriptions())


def _take_subscription(reader: _Reader) -> Subscription:
    topic_filter = reader.take_text()
    qos = reader.take_byte()
    if qos > 2:  # [MQTT-3.8.3-4]
        raise MalformedPacket("SUBSCRIBE asks for an impossible QoS")
    return Subscription(topic_filter, qos)


def _take_subscription5(reader: _Reader) -> Subscription:
    """A filter with the options of 5.0, section 3.8.3.1."""
    topic_filter = reader.take_text()
    options = reader.take_byte()
    if options & 0xC0:  # [MQTT-3.8.3-5]
        raise MalformedPacket("SUBSCRIBE has reserved option bits set")
    qos, retain_handling = options & 0x03, options >> 4
    if qos == 3:
        raise MqttProtocolError("SUBSCRIBE asks for an impossible QoS")
    if retain_handling == 3:
        raise MqttProtocolError("SUBSCRIBE asks for an impossible retain handling")
    no_local = bool(options & 0x04)
    if no_local and topic_filter.startswith(SHARE_PREFIX):  # [MQTT-3.8.3-4]
        raise MqttProtocolError("SUBSCRIBE asks for No Local on a shared subscription")
    return Subscription(topic_filter, qos, no_local, bool(options & 0x08), retain_handling)


def _parse_suback(reader: _Reader, packet_type: PacketType) -> Suback:
    packet_id = reader.take_packet_id()
    properties = reader.take_properties(packet_type)
    codes = tuple(reader.take_rest())
    if not codes:
        raise MalformedPacket("SUBACK has no reason code")
    if reader.is_v5:
        check_reason_codes(codes, packet_type)
    elif any(code > 2 and code != SUBACK_FAILURE for code in codes):  # [MQTT-3.9.3-2]
        raise MalformedPacket("SUBACK has an impossible return code")
    return Suback(packet_id, codes, properties)


def _parse_unsubscribe(reader: _Reader, packet_type: PacketType) -> Unsubscribe:
    packet_id = reader.take_packet_id()
    properties = reader.take_properties(packet_type)
    topic_filters: list[str] = []
    while reader.has_more:
        if len(topic_filters) >= _MAX_UNSUBSCRIBE_FILTERS:
            raise MalformedPacket(
                f"UNSUBSCRIBE has more than {_MAX_UNSUBSCRIBE_FILTERS} topic filters", ReasonCode.QUOTA_EXCEEDED
            )
        topic_filter = reader.take_text()
        if not topic_filter:  # [MQTT-4.7.3-1]
            raise MalformedPacket("UNSUBSCRIBE has an empty topic filter")
        topic_filters.append(topic_filter)
    if not topic_filters:  # [MQTT-3.10.3-2]
        raise MalformedPacket("UNSUBSCRIBE has no topic filter", ReasonCode.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(topic_filters), properties)


def _parse_unsuback(reader: _Reader, packet_type: PacketType) -> Unsuback:
    packet_id = reader.take_packet_id()
    if not reader.is_v5:
        return Unsuback(packet_id)
    properties = reader.take_properties(packet_type)
    codes = tuple(reader.take_rest())
    if not codes:
        raise MalformedPacket("UNSUBACK has no reason code")
    check_reason_codes(codes, packet_type)
    return Unsuback(packet_id, codes, properties)


def _parse_disconnect(reader: _Reader, packet_type: PacketType) -> Disconnect:
    return Disconnect(*reader.take_reason(packet_type))


def _parse_auth(reader: _Reader, packet_type: PacketType) -> Auth:
    auth = Auth(*reader.take_reason(packet_type))
    # Section 3.15.2.2.2 asks for the method, section 3.15.2.1 lets a bare Success go without.
    if PropertyId.AUTHENTICATION_METHOD not in auth.properties and (auth.reason_code or auth.properties):
        raise MqttProtocolError("AUTH has no authentication method")
    return auth


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
    PacketType.DISCONNECT: _parse_disconnect,
    PacketType.AUTH: _parse_auth,
}
