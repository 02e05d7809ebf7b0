"""The properties of messages that pass through, beside what `properties` and `decode` make of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.fields import parse_variable_int
from headwater.mqtt.packets import Packet, PacketType, Properties, PropertyId, Publish, Will
from headwater.mqtt.properties import PropertyLimits, parse_properties, render_properties
from headwater.mqtt.publish_properties import (
    NO_PUBLISH_PROPERTIES,
    PublishProperties,
    parse_publish_properties,
    render_publish5,
    will_message_properties,
)

from .property_table import ROWS, Row, section
from .strategies import properties_of, publishes5, wills5

ONE_HOP = {
    PropertyId.MESSAGE_EXPIRY_INTERVAL,
    PropertyId.TOPIC_ALIAS,
    PropertyId.SUBSCRIPTION_IDENTIFIER,
    PropertyId.WILL_DELAY_INTERVAL,
}
"""What is not passed on as it came."""


def only(properties: Properties, *, without: set[PropertyId]) -> Properties:
    return {identifier: value for identifier, value in properties.items() if identifier not in without}


sent = properties_of(PacketType.PUBLISH).map(lambda found: only(found, without={PropertyId.SUBSCRIPTION_IDENTIFIER}))
"""What a client may send."""
allowed_rows = [row for row in ROWS if PacketType.PUBLISH in row.carriers]


def parse(wire: bytes) -> PublishProperties:
    """A section of properties that is the whole of its packet."""
    properties, position = parse_publish_properties(wire, 0, len(wire))
    assert position == len(wire)
    return properties


def parse_whole(wire: bytes) -> Packet:
    _, start = parse_variable_int(wire, 1, len(wire))
    return parse_packet(wire[0], wire[start:], 5)


def passed_on(properties: PublishProperties) -> Properties:
    """What `decode` finds in a message that holds nothing else."""
    packet = parse_whole(render(Publish("t", b""), properties.passed_on))
    assert isinstance(packet, Publish)
    return packet.properties


def render(packet: Publish, passed_on: bytes) -> bytes:
    """The packet with its own one-hop properties, and with the others as given."""
    return render_publish5(
        packet.topic.encode(),
        packet.payload,
        qos=packet.qos,
        packet_id=packet.packet_id or 0,
        retain=packet.retain,
        dup=packet.dup,
        passed_on=passed_on,
        expiry_s=packet.properties.get(PropertyId.MESSAGE_EXPIRY_INTERVAL),
        topic_alias=packet.properties.get(PropertyId.TOPIC_ALIAS),
        subscription_ids=packet.properties.get(PropertyId.SUBSCRIPTION_IDENTIFIER, ()),
    )


@given(sent)
def test_what_is_read_agrees_with_the_whole_parser(properties: Properties) -> None:
    parsed = parse(render_properties(properties))
    assert parsed.expiry_s == properties.get(PropertyId.MESSAGE_EXPIRY_INTERVAL)
    assert parsed.topic_alias == properties.get(PropertyId.TOPIC_ALIAS)
    assert passed_on(parsed) == only(properties, without=ONE_HOP)


@given(st.lists(st.sampled_from(allowed_rows), max_size=4), st.data())
def test_what_is_refused_agrees_with_the_whole_parser(rows: list[Row], data: st.DataObject) -> None:
    """The same bytes, now and then with one of them changed: the same verdict and the same code."""
    body = bytearray(b"".join(row.wire for row in rows))
    if body and data.draw(st.booleans()):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    wire = section(bytes(body))
    whole = verdict(lambda: parse_properties(wire, 0, PacketType.PUBLISH))
    short = verdict(lambda: parse_publish_properties(wire, 0, len(wire)))
    if short != SUBSCRIPTION_IDENTIFIER_REFUSED:  # which the whole parser takes, because a server may send it
        assert short == whole


SUBSCRIPTION_IDENTIFIER_REFUSED = "a client's PUBLISH has a subscription identifier", 0x82


def verdict(parse: Callable[[], tuple[object, int]]) -> object:
    """Where the payload begins, or the error and its code."""
    try:
        return parse()[1]
    except MqttProtocolError as error:
        return str(error), error.reason_code


@given(st.binary(max_size=60), st.binary(max_size=5))
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(body: bytes, before: bytes) -> None:
    for wire in (before + body, before + section(body)):
        with suppress(MqttProtocolError):
            parse_publish_properties(wire, len(before), len(wire))


@given(publishes5())
def test_a_message_passes_through_unaltered(packet: Publish) -> None:
    """[MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-18]; subscription identifiers are the broker's own."""
    without_ids = only(packet.properties, without={PropertyId.SUBSCRIPTION_IDENTIFIER})
    parsed = parse(render_properties(without_ids))
    assert parse_whole(render(packet, parsed.passed_on)) == packet


@given(sent)
def test_what_was_rendered_is_read_as_the_same_again(properties: Properties) -> None:
    parsed = parse(render_properties(properties))
    wire = render(Publish("t", b"payload", 1, 1, properties=properties), parsed.passed_on)
    _, start = parse_variable_int(wire, 1, len(wire))
    again, payload_start = parse_publish_properties(wire, start + 5, len(wire))
    assert (again, wire[payload_start:]) == (parsed, b"payload")


def test_what_is_passed_on_are_the_very_bytes_in_their_order() -> None:
    kept = [row.wire for row in allowed_rows if row.identifier not in ONE_HOP]
    pair, other_pair = bytes.fromhex("26 0001 62 0001 31"), bytes.fromhex("26 0001 61 0001 32")
    expiry, alias = bytes.fromhex("02 00000000"), bytes.fromhex("23 0007")
    for wire, expected in (
        (b"".join(reversed(kept)), b"".join(reversed(kept))),
        (expiry + pair + alias + other_pair + pair, pair + other_pair + pair),
        (pair + expiry + alias, pair),
        (alias, b""),
    ):
        assert parse(section(wire)).passed_on == expected


def test_a_message_without_properties_makes_nothing_new() -> None:
    properties, position = parse_publish_properties(b"..\0payload", 2, 10)
    assert properties is NO_PUBLISH_PROPERTIES
    assert position == 3


def test_the_bytes_of_a_publish_are_those_of_the_specification() -> None:
    packet = Publish("a/b", b"x", 1, 10, properties={PropertyId.MESSAGE_EXPIRY_INTERVAL: 5, PropertyId.TOPIC_ALIAS: 7})
    assert render(packet, bytes.fromhex("0101")) == bytes.fromhex(
        "32 13 0003 612f62 000a 0a 02 00000005 23 0007 0101 78"
    )
    identified = Publish("t", b"", properties={PropertyId.SUBSCRIPTION_IDENTIFIER: (1, 200)})
    assert render(identified, b"") == bytes.fromhex("30 09 0001 74 05 0b 01 0b c801")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.identifier.name)
def test_mqtt_2_2_2_each_property_may_or_must_not_be_in_a_clients_publish(row: Row) -> None:
    """H9, and [MQTT-3.3.4-6] for subscription identifiers."""
    if PacketType.PUBLISH in row.carriers and row.identifier is not PropertyId.SUBSCRIPTION_IDENTIFIER:
        parse(section(row.wire))
        if row.identifier is not PropertyId.USER_PROPERTY:
            with pytest.raises(MqttProtocolError, match="twice") as caught:
                parse(section(row.wire * 2))
            assert caught.value.reason_code == 0x82
    else:
        with pytest.raises(MqttProtocolError) as caught:
            parse(section(row.wire))
        assert caught.value.reason_code == 0x82


@pytest.mark.parametrize(
    ("clause", "wire", "code"),
    [
        ("[MQTT-3.3.2-14] Response Topic with a wildcard", "04 08 0001 23", 0x82),
        ("[MQTT-3.3.2-8] Topic Alias 0", "03 23 0000", 0x94),
        ("3.3.2.3.2 Payload Format Indicator 2", "02 01 02", 0x82),
        ("H5 length of five bytes", "8080808001", 0x81),
        ("H6 length in too many bytes", "8000", 0x81),
        ("H7 length beyond the packet", "05 01 01", 0x81),
        ("H7 property cut in the middle", "03 02 0000", 0x81),
        ("H7 unknown property", "02 7f 00", 0x81),
        ("no length at all", "", 0x81),
    ],
)
def test_properties_that_the_specification_forbids(clause: str, wire: str, code: int) -> None:
    """The clause stands beside each."""
    with pytest.raises(MqttProtocolError) as caught:
        parse(bytes.fromhex(wire))
    assert caught.value.reason_code == code


def test_too_many_user_properties_are_refused_without_reading_on() -> None:
    """H8: 60,000 of them. What follows the one too many cannot be parsed, and nobody tries."""
    wire = bytes.fromhex("e0a712") + b"\x26\0\0\0\0" * 65 + b"\xff" * (300_000 - 65 * 5)
    with pytest.raises(MqttProtocolError, match="too many user properties") as caught:
        parse_publish_properties(wire, 0, len(wire))
    assert caught.value.reason_code == 0x97


def test_the_limits_are_those_that_are_given() -> None:
    wire = section(b"\x26\0\1a\0\1b")
    parse_publish_properties(wire, 0, len(wire), PropertyLimits(1, 7))
    for limits in (PropertyLimits(0, 7), PropertyLimits(1, 6)):
        with pytest.raises(MqttProtocolError, match="too many user properties"):
            parse_publish_properties(wire, 0, len(wire), limits)


@given(wills5)
def test_the_message_of_a_will_carries_what_its_publish_would(will: Will) -> None:
    parsed = will_message_properties(will)
    message = only(will.properties, without={PropertyId.WILL_DELAY_INTERVAL})
    assert parsed == parse(render_properties(message))


def test_a_will_of_3_1_1_carries_nothing() -> None:
    assert will_message_properties(Will("t", b"", 0, False)) is NO_PUBLISH_PROPERTIES
