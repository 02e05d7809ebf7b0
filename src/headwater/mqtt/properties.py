"""The properties of MQTT 5.0 (section 2.2.2): which there are, where each may stand, bytes to values and back.

The cost of parsing is linear in the bytes, and a peer's user properties are limited in number and size, because each
costs us far more than the five bytes it may cost the peer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError
from headwater.mqtt.fields import (
    parse_binary,
    parse_byte,
    parse_string,
    parse_string_pair,
    parse_uint16,
    parse_uint32,
    parse_variable_int,
    render_binary,
    render_byte,
    render_string,
    render_string_pair,
    render_uint16,
    render_uint32,
    render_variable_int,
)
from headwater.mqtt.packets import NO_PROPERTIES, PacketType, Properties, PropertyId
from headwater.mqtt.reason_codes import ReasonCode

WILL: Final = "will"
"""Where the properties of a will stand: inside CONNECT, with rules of their own."""
Carrier = PacketType | Literal["will"]
"""What a section of properties belongs to."""


@dataclass(frozen=True, slots=True)
class PropertyLimits:
    """What one section of properties may hold."""

    max_user_properties: int = 64
    max_user_property_bytes: int = 16_384
    """As encoded, all user properties together."""

    def check_user_properties(self, count: int, size: int) -> None:
        """Raises MqttProtocolError (quota exceeded) for `count` user properties of `size` bytes."""
        if count > self.max_user_properties or size > self.max_user_property_bytes:
            raise MqttProtocolError("too many user properties", ReasonCode.QUOTA_EXCEEDED)


DEFAULT_LIMITS = PropertyLimits()


@dataclass(frozen=True, slots=True)
class DataType:
    """How a value is written (section 1.5)."""

    parse: Callable[[bytes, int, int], tuple[Any, int]]
    render: Callable[[Any], bytes]


BYTE = DataType(parse_byte, render_byte)
UINT16 = DataType(parse_uint16, render_uint16)
UINT32 = DataType(parse_uint32, render_uint32)
VARIABLE_INT = DataType(parse_variable_int, render_variable_int)
BINARY = DataType(parse_binary, render_binary)
STRING = DataType(parse_string, render_string)
STRING_PAIR = DataType(parse_string_pair, render_string_pair)


def is_any(value: Any) -> bool:
    return True


def is_bit(value: int) -> bool:
    return value <= 1


def is_positive(value: int) -> bool:
    return value > 0


def is_response_topic(value: str) -> bool:
    """A topic name [MQTT-3.3.2-14] [MQTT-4.7.3-1]; its levels are not counted, we never look it up."""
    return value != "" and "+" not in value and "#" not in value


@dataclass(frozen=True, slots=True)
class PropertyRule:
    """One row of table 2-4, with what section 3 says of the values."""

    identifier: PropertyId
    type: DataType
    carriers: frozenset[Carrier]
    is_valid: Callable[[Any], bool] = is_any
    error: ReasonCode = ReasonCode.PROTOCOL_ERROR
    """What an invalid value is answered with."""
    repeatable_in: frozenset[Carrier] = frozenset()


_CONNECT = frozenset[Carrier]({PacketType.CONNECT})
_CONNACK = frozenset[Carrier]({PacketType.CONNACK})
_MESSAGE = frozenset[Carrier]({PacketType.PUBLISH, WILL})
_PUBLISH = frozenset[Carrier]({PacketType.PUBLISH})
_AUTHENTICATION = _CONNECT | _CONNACK | {PacketType.AUTH}
_ALL = frozenset[Carrier]({*PacketType, WILL}) - {PacketType.PINGREQ, PacketType.PINGRESP}
_ANSWERS = _ALL - {PacketType.CONNECT, WILL, PacketType.PUBLISH, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE}

_P = PropertyId
_TABLE = (
    PropertyRule(_P.PAYLOAD_FORMAT_INDICATOR, BYTE, _MESSAGE, is_bit),
    PropertyRule(_P.MESSAGE_EXPIRY_INTERVAL, UINT32, _MESSAGE),
    PropertyRule(_P.CONTENT_TYPE, STRING, _MESSAGE),
    PropertyRule(_P.RESPONSE_TOPIC, STRING, _MESSAGE, is_response_topic),
    PropertyRule(_P.CORRELATION_DATA, BINARY, _MESSAGE),
    PropertyRule(
        _P.SUBSCRIPTION_IDENTIFIER,
        VARIABLE_INT,
        _PUBLISH | {PacketType.SUBSCRIBE},
        is_positive,
        repeatable_in=_PUBLISH,
    ),
    PropertyRule(_P.SESSION_EXPIRY_INTERVAL, UINT32, _CONNECT | _CONNACK | {PacketType.DISCONNECT}),
    PropertyRule(_P.ASSIGNED_CLIENT_IDENTIFIER, STRING, _CONNACK),
    PropertyRule(_P.SERVER_KEEP_ALIVE, UINT16, _CONNACK),
    PropertyRule(_P.AUTHENTICATION_METHOD, STRING, _AUTHENTICATION),
    PropertyRule(_P.AUTHENTICATION_DATA, BINARY, _AUTHENTICATION),
    PropertyRule(_P.REQUEST_PROBLEM_INFORMATION, BYTE, _CONNECT, is_bit),
    PropertyRule(_P.WILL_DELAY_INTERVAL, UINT32, frozenset({WILL})),
    PropertyRule(_P.REQUEST_RESPONSE_INFORMATION, BYTE, _CONNECT, is_bit),
    PropertyRule(_P.RESPONSE_INFORMATION, STRING, _CONNACK),
    PropertyRule(_P.SERVER_REFERENCE, STRING, _CONNACK | {PacketType.DISCONNECT}),
    PropertyRule(_P.REASON_STRING, STRING, _ANSWERS),
    PropertyRule(_P.RECEIVE_MAXIMUM, UINT16, _CONNECT | _CONNACK, is_positive),
    PropertyRule(_P.TOPIC_ALIAS_MAXIMUM, UINT16, _CONNECT | _CONNACK),
    PropertyRule(_P.TOPIC_ALIAS, UINT16, _PUBLISH, is_positive, ReasonCode.TOPIC_ALIAS_INVALID),
    PropertyRule(_P.MAXIMUM_QOS, BYTE, _CONNACK, is_bit),
    PropertyRule(_P.RETAIN_AVAILABLE, BYTE, _CONNACK, is_bit),
    PropertyRule(_P.USER_PROPERTY, STRING_PAIR, _ALL, repeatable_in=_ALL),
    PropertyRule(_P.MAXIMUM_PACKET_SIZE, UINT32, _CONNECT | _CONNACK, is_positive),
    PropertyRule(_P.WILDCARD_SUBSCRIPTION_AVAILABLE, BYTE, _CONNACK, is_bit),
    PropertyRule(_P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, BYTE, _CONNACK, is_bit),
    PropertyRule(_P.SHARED_SUBSCRIPTION_AVAILABLE, BYTE, _CONNACK, is_bit),
)
RULES: Final = {int(rule.identifier): rule for rule in _TABLE}
"""By identifier. All are below 0x80, so one byte is a whole identifier although its type is a variable integer."""


def parse_length(body: bytes, position: int, stop: int) -> tuple[int, int]:
    """The length in front of a section of properties: where the properties begin and where they end."""
    length, start = parse_variable_int(body, position, stop)
    if start + length > stop:
        raise MalformedPacket("properties reach beyond their packet")
    return start, start + length


def parse_property(body: bytes, position: int, end: int, carrier: Carrier) -> tuple[PropertyRule, Any, int]:
    """One property that `carrier` may hold: its rule, its value, the position after it. Who calls sees repetitions.

    Raises MalformedPacket for what cannot be read or is unknown, MqttProtocolError for what must not be here.
    """
    rule = RULES.get(body[position])
    if rule is None:
        raise MalformedPacket("a property is unknown")
    value, position = rule.type.parse(body, position + 1, end)
    if carrier not in rule.carriers:
        raise MqttProtocolError(f"{_name(rule)} does not belong here")
    if not rule.is_valid(value):
        raise MqttProtocolError(f"{_name(rule)} has an impossible value", rule.error)
    return rule, value, position


def repeated(rule: PropertyRule) -> MqttProtocolError:
    """The error for a property that stands twice where it may stand once."""
    return MqttProtocolError(f"{_name(rule)} stands twice")


def parse_properties(
    body: bytes, position: int, carrier: Carrier, limits: PropertyLimits = DEFAULT_LIMITS
) -> tuple[Properties, int]:
    """A whole section of properties with its length in front, and the position after it."""
    if position < len(body) and not body[position]:
        return NO_PROPERTIES, position + 1
    position, end = parse_length(body, position, len(body))
    found: dict[PropertyId, Any] = {}
    lists: dict[PropertyId, list[Any]] = {}
    user_bytes = 0
    while position < end:
        start = position
        rule, value, position = parse_property(body, position, end, carrier)
        identifier = rule.identifier
        if carrier in rule.repeatable_in:
            values = lists.setdefault(identifier, [])
            values.append(value)
            if identifier is PropertyId.USER_PROPERTY:
                user_bytes += position - start
                limits.check_user_properties(len(values), user_bytes)
        elif identifier in found:
            raise repeated(rule)
        else:
            found[identifier] = (value,) if identifier is PropertyId.SUBSCRIPTION_IDENTIFIER else value
    if PropertyId.AUTHENTICATION_DATA in found and PropertyId.AUTHENTICATION_METHOD not in found:
        raise MqttProtocolError("authentication data comes without a method")
    found.update((identifier, tuple(values)) for identifier, values in lists.items())
    return found, end


def render_properties(properties: Properties) -> bytes:
    """A whole section of properties with its length in front. Raises ValueError for a value its type cannot hold."""
    if not properties:
        return b"\0"
    body = render_property_list(properties)
    return render_variable_int(len(body)) + body


def render_property_list(properties: Properties) -> bytes:
    """The properties alone, without a length in front."""
    parts: list[bytes] = []
    for identifier, value in properties.items():
        rule = RULES[identifier]
        head = bytes((identifier,))
        for each in value if rule.repeatable_in else (value,):
            parts += (head, rule.type.render(each))
    return b"".join(parts)


def _name(rule: PropertyRule) -> str:
    return rule.identifier.name.lower().replace("_", " ")
