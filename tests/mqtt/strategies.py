"""What Hypothesis draws: well-formed packets of MQTT 3.1.1 and 5.0, their properties, topic names and topic filters."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from headwater.mqtt.packets import (
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
from headwater.mqtt.properties import RULES, WILL, Carrier
from headwater.mqtt.reason_lists import REASON_CODES

_NON_CHARACTERS = [chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF)]
_NON_CHARACTERS += [chr(code) for code in range(0xFDD0, 0xFDF0)]

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=_NON_CHARACTERS), max_size=20)
"""Strings that a packet may hold."""

packet_ids = st.integers(1, 65_535)
qos_levels = st.integers(0, 2)
payloads = st.binary(max_size=200)

_name_levels = st.text("ab$ é", max_size=2)
topic_names = st.lists(_name_levels, min_size=1, max_size=5).map("/".join).filter(bool)
"""Few letters and levels, so that filters drawn beside them often match."""


@st.composite
def _filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(_name_levels, st.just("+")), max_size=5))
    if not levels or draw(st.booleans()):
        levels.append("#")
    return "/".join(levels) or "#"


topic_filters = _filters()


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    qos = draw(qos_levels)
    return Publish(
        draw(topic_names),
        draw(payloads),
        qos,
        draw(packet_ids) if qos else None,
        retain=draw(st.booleans()),
        dup=bool(qos) and draw(st.booleans()),
    )


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    username = draw(st.none() | texts)
    return Connect(
        draw(texts),
        draw(st.booleans()),
        draw(st.integers(0, 65_535)),
        username,
        None if username is None else draw(st.none() | payloads),
        draw(st.none() | st.builds(Will, topic_names, payloads, qos_levels, st.booleans())),
        draw(st.sampled_from([ProtocolLevel.V31, ProtocolLevel.V311])),
    )


_acknowledged = st.sampled_from([PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP])
_no = st.just(False)
_subscriptions = st.builds(Subscription, topic_filters, qos_levels, _no, _no, st.just(0))
subscribes = st.builds(
    Subscribe,
    packet_ids,
    st.lists(_subscriptions, min_size=1, max_size=5).map(tuple),
)
unsubscribes = st.builds(Unsubscribe, packet_ids, st.lists(topic_filters, min_size=1, max_size=5).map(tuple))

packets: st.SearchStrategy[Packet] = st.one_of(
    connects(),
    st.builds(Connack, st.booleans(), st.integers(0, 5)),
    publishes(),
    st.builds(Acknowledgement, _acknowledged, packet_ids),
    subscribes,
    st.builds(Suback, packet_ids, st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1).map(tuple)),
    unsubscribes,
    st.builds(Unsuback, packet_ids),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)
"""Every packet of 3.1.1, from either side."""

# -- MQTT 5.0 ---------------------------------------------------------------------------------------------------------

_bits = st.integers(0, 1)
_uint16s = st.integers(0, 0xFFFF)
_uint32s = st.integers(0, 0xFFFFFFFF)
_P = PropertyId
_values: dict[PropertyId, st.SearchStrategy[Any]] = {
    _P.PAYLOAD_FORMAT_INDICATOR: _bits,
    _P.MESSAGE_EXPIRY_INTERVAL: _uint32s,
    _P.CONTENT_TYPE: texts,
    _P.RESPONSE_TOPIC: topic_names,
    _P.CORRELATION_DATA: payloads,
    _P.SUBSCRIPTION_IDENTIFIER: st.integers(1, 268_435_455).map(lambda identifier: (identifier,)),
    _P.SESSION_EXPIRY_INTERVAL: _uint32s,
    _P.ASSIGNED_CLIENT_IDENTIFIER: texts,
    _P.SERVER_KEEP_ALIVE: _uint16s,
    _P.AUTHENTICATION_METHOD: texts,
    _P.AUTHENTICATION_DATA: payloads,
    _P.REQUEST_PROBLEM_INFORMATION: _bits,
    _P.WILL_DELAY_INTERVAL: _uint32s,
    _P.REQUEST_RESPONSE_INFORMATION: _bits,
    _P.RESPONSE_INFORMATION: texts,
    _P.SERVER_REFERENCE: texts,
    _P.REASON_STRING: texts,
    _P.RECEIVE_MAXIMUM: packet_ids,
    _P.TOPIC_ALIAS_MAXIMUM: _uint16s,
    _P.TOPIC_ALIAS: packet_ids,
    _P.MAXIMUM_QOS: _bits,
    _P.RETAIN_AVAILABLE: _bits,
    _P.USER_PROPERTY: st.lists(st.tuples(texts, texts), min_size=1, max_size=4).map(tuple),
    _P.MAXIMUM_PACKET_SIZE: st.integers(1, 0xFFFFFFFF),
    _P.WILDCARD_SUBSCRIPTION_AVAILABLE: _bits,
    _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: _bits,
    _P.SHARED_SUBSCRIPTION_AVAILABLE: _bits,
}
_publish_values = _values | {
    _P.SUBSCRIPTION_IDENTIFIER: st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3).map(tuple)
}


@st.composite
def properties_of(draw: st.DrawFn, carrier: Carrier) -> Properties:
    """Any of the properties that may stand there, in any order."""
    values = _publish_values if carrier is PacketType.PUBLISH else _values
    allowed = [rule.identifier for rule in RULES.values() if carrier in rule.carriers]
    chosen = set(draw(st.lists(st.sampled_from(allowed), max_size=5, unique=True)))
    if _P.AUTHENTICATION_DATA in chosen or (carrier is PacketType.AUTH and chosen):
        chosen.add(_P.AUTHENTICATION_METHOD)
    order = draw(st.permutations(sorted(chosen)))
    return {identifier: draw(values[identifier]) for identifier in order}


def _reasons(packet_type: PacketType) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(map(int, REASON_CODES[packet_type])))


@st.composite
def publishes5(draw: st.DrawFn) -> Publish:
    """With an empty topic now and then, where a topic alias allows it."""
    properties = draw(properties_of(PacketType.PUBLISH))
    packet = draw(publishes())
    topic = "" if _P.TOPIC_ALIAS in properties and draw(st.booleans()) else packet.topic
    return Publish(topic, packet.payload, packet.qos, packet.packet_id, packet.retain, packet.dup, properties)


wills5 = st.builds(Will, topic_names, payloads, qos_levels, st.booleans(), properties_of(WILL))
connects5 = st.builds(
    Connect,
    texts,
    st.booleans(),
    _uint16s,
    st.none() | texts,
    st.none() | payloads,
    st.none() | wills5,
    st.just(ProtocolLevel.V5),
    properties_of(PacketType.CONNECT),
)
_subscriptions5 = st.builds(Subscription, topic_filters, qos_levels, st.booleans(), st.booleans(), st.integers(0, 2))


def _acknowledgements5(packet_type: PacketType) -> st.SearchStrategy[Packet]:
    return st.builds(
        Acknowledgement, st.just(packet_type), packet_ids, _reasons(packet_type), properties_of(packet_type)
    )


def _answers5(kind: type[Suback] | type[Unsuback], packet_type: PacketType) -> st.SearchStrategy[Packet]:
    codes = st.lists(_reasons(packet_type), min_size=1, max_size=5).map(tuple)
    return st.builds(kind, packet_ids, codes, properties_of(packet_type))


def _auths() -> st.SearchStrategy[Packet]:
    bare = st.just(Auth())
    return bare | st.builds(Auth, _reasons(PacketType.AUTH), properties_of(PacketType.AUTH).filter(bool))


subscribes5 = st.builds(
    Subscribe,
    packet_ids,
    st.lists(_subscriptions5, min_size=1, max_size=5).map(tuple),
    properties_of(PacketType.SUBSCRIBE),
)
unsubscribes5 = st.builds(
    Unsubscribe,
    packet_ids,
    st.lists(topic_filters, min_size=1, max_size=5).map(tuple),
    properties_of(PacketType.UNSUBSCRIBE),
)

packets5: st.SearchStrategy[Packet] = st.one_of(
    connects5,
    st.builds(Connack, st.booleans(), _reasons(PacketType.CONNACK), properties_of(PacketType.CONNACK)),
    publishes5(),
    *map(_acknowledgements5, [PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP]),
    subscribes5,
    _answers5(Suback, PacketType.SUBACK),
    unsubscribes5,
    _answers5(Unsuback, PacketType.UNSUBACK),
    st.sampled_from([Pingreq(), Pingresp()]),
    st.builds(Disconnect, _reasons(PacketType.DISCONNECT), properties_of(PacketType.DISCONNECT)),
    _auths(),
)
"""Every packet of 5.0, from either side."""

leveled_packets = st.tuples(st.just(4), packets) | st.tuples(st.just(5), packets5)
"""A level, and a packet of that level (3 beside 4 for CONNECT)."""
