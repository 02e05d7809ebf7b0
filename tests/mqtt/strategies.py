"""What Hypothesis draws: well-formed packets of MQTT 3.1.1, topic names and topic filters."""

from __future__ import annotations

from hypothesis import strategies as st

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
subscribes = st.builds(
    Subscribe,
    packet_ids,
    st.lists(st.builds(Subscription, topic_filters, qos_levels), min_size=1, max_size=5).map(tuple),
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
