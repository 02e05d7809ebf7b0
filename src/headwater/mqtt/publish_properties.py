"""The properties of application messages, in the form that a broker passes on: bytes that stay as they came.

A PUBLISH goes from one publisher to many subscribers, and most of its properties must reach them unaltered and in order
[MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-18]. So they are checked once and kept encoded; only the few that the
broker itself reads become values.
"""

from __future__ import annotations

from typing import NamedTuple

from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.fields import render_uint16, render_uint32, render_variable_int
from headwater.mqtt.packets import PacketType, Properties, PropertyId, ProtocolLevel, Will
from headwater.mqtt.properties import (
    DEFAULT_LIMITS,
    PropertyLimits,
    parse_length,
    parse_property,
    render_properties,
    render_property_list,
    repeated,
)

_PASSED_ON = frozenset(
    {
        PropertyId.PAYLOAD_FORMAT_INDICATOR,
        PropertyId.CONTENT_TYPE,
        PropertyId.RESPONSE_TOPIC,
        PropertyId.CORRELATION_DATA,
        PropertyId.USER_PROPERTY,
    }
)
# Members of an enumeration cost several times what a module's own names cost to look up.
_PUBLISH = PacketType.PUBLISH
_EXPIRY = PropertyId.MESSAGE_EXPIRY_INTERVAL
_SUBSCRIPTION_ID = PropertyId.SUBSCRIPTION_IDENTIFIER
_USER_PROPERTY = PropertyId.USER_PROPERTY
_EXPIRY_HEAD = bytes((_EXPIRY,))
_ALIAS_HEAD = bytes((PropertyId.TOPIC_ALIAS,))
_SUBSCRIPTION_HEAD = bytes((_SUBSCRIPTION_ID,))


class PublishProperties(NamedTuple):
    """What a message carries beside topic and payload."""

    passed_on: bytes = b""
    """The encoded properties for its subscribers, without a length in front."""
    expiry_s: int | None = None
    """Message Expiry Interval, as the publisher gave it."""
    topic_alias: int | None = None


NO_PUBLISH_PROPERTIES = PublishProperties()


def parse_publish_properties(
    data: bytes, position: int, stop: int, limits: PropertyLimits = DEFAULT_LIMITS
) -> tuple[PublishProperties, int]:
    """The properties of a client's PUBLISH, which begin at `position` of a packet that ends at `stop`; and where the
    payload begins. Raises MqttProtocolError as `properties.parse_properties` does, and for a subscription identifier,
    which only a server sends [MQTT-3.3.4-6]."""
    if position < stop and not data[position]:  # no properties at all
        return NO_PUBLISH_PROPERTIES, position + 1
    position, end = parse_length(data, position, stop)
    stretches: list[bytes] = []
    stretch_start = position
    expiry_s: int | None = None
    topic_alias: int | None = None
    seen = user_count = user_bytes = 0
    while position < end:
        start = position
        rule, value, position = parse_property(data, position, end, _PUBLISH)
        identifier = rule.identifier
        if identifier is _USER_PROPERTY:
            user_count += 1
            user_bytes += position - start
            limits.check_user_properties(user_count, user_bytes)
            continue
        if identifier is _SUBSCRIPTION_ID:
            raise MqttProtocolError("a client's PUBLISH has a subscription identifier")
        if seen & 1 << identifier:
            raise repeated(rule)
        seen |= 1 << identifier
        if identifier in _PASSED_ON:
            continue
        if identifier is _EXPIRY:
            expiry_s = value
        else:
            topic_alias = value
        stretches.append(data[stretch_start:start])
        stretch_start = position
    passed_on = data[stretch_start:end]
    if stretches:
        passed_on = b"".join((*stretches, passed_on))
    return PublishProperties(passed_on, expiry_s, topic_alias), end


def will_message_properties(will: Will) -> PublishProperties:
    """What the message of a will carries. The will's delay is no part of it [MQTT-3.1.3-9]."""
    properties = will.properties
    if not properties:
        return NO_PUBLISH_PROPERTIES
    return PublishProperties(
        passed_on=render_property_list({i: value for i, value in properties.items() if i in _PASSED_ON}),
        expiry_s=properties.get(PropertyId.MESSAGE_EXPIRY_INTERVAL),
    )


def will_message_length(will: Will, level: int) -> int:
    """The Remaining Length of the PUBLISH that says the same as a will, at the level of its client."""
    length = 2 + len(will.topic.encode()) + (2 if will.qos else 0) + len(will.payload)
    if level == ProtocolLevel.V5:
        carried: Properties = {i: v for i, v in will.properties.items() if i is not PropertyId.WILL_DELAY_INTERVAL}
        length += len(render_properties(carried))
    return length


def render_publish5(
    topic: bytes,
    payload: bytes,
    *,
    qos: int,
    packet_id: int,
    retain: bool,
    dup: bool,
    passed_on: bytes,
    expiry_s: int | None,
    topic_alias: int | None,
    subscription_ids: tuple[int, ...],
) -> bytes:
    """A PUBLISH of MQTT 5.0 from parts that are known to be well formed; `packet_id` counts for QoS 1 and 2 only.
    With a `topic_alias` that the receiver knows, `topic` may be empty."""
    properties = passed_on
    if topic_alias is not None:
        properties = _ALIAS_HEAD + render_uint16(topic_alias) + properties
    if expiry_s is not None:
        properties = _EXPIRY_HEAD + render_uint32(expiry_s) + properties
    for subscription_id in subscription_ids:
        properties += _SUBSCRIPTION_HEAD + render_variable_int(subscription_id)
    size = len(properties)
    property_length = render_variable_int(size)
    middle = packet_id.to_bytes(2, "big") if qos else b""
    length = 2 + len(topic) + len(middle) + len(property_length) + size + len(payload)
    return b"".join(
        (
            bytes((0x30 | dup << 3 | qos << 1 | retain,)),
            render_variable_int(length),
            len(topic).to_bytes(2, "big"),
            topic,
            middle,
            property_length,
            properties,
            payload,
        )
    )
