"""Properties of MQTT 5.0 against table 2-4, which `property_table` holds written out by hand."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError
from headwater.mqtt.packets import NO_PROPERTIES, PacketType, Properties, PropertyId
from headwater.mqtt.properties import (
    RULES,
    WILL,
    Carrier,
    PropertyLimits,
    parse_properties,
    render_properties,
)

from .property_table import CARRIERS, ROWS, Row, in_company, section
from .strategies import properties_of

carriers = st.sampled_from(CARRIERS)
drawn = carriers.flatmap(lambda carrier: st.tuples(st.just(carrier), properties_of(carrier)))
by_name = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.identifier.name)


def parse(wire: bytes, carrier: Carrier, limits: PropertyLimits | None = None) -> Properties:
    """A section of properties that is the whole of its packet."""
    properties, position = parse_properties(wire, 0, carrier, limits or PropertyLimits())
    assert position == len(wire)
    return properties


def refusal(wire: bytes, carrier: Carrier, limits: PropertyLimits | None = None) -> MqttProtocolError:
    with pytest.raises(MqttProtocolError) as caught:
        parse_properties(wire, 0, carrier, limits or PropertyLimits())
    return caught.value


def test_the_table_holds_all_27_properties() -> None:
    assert [row.identifier for row in ROWS] == sorted(PropertyId)
    assert sorted(RULES) == sorted(PropertyId)
    assert len(RULES) == 27


@given(drawn)
def test_properties_survive_the_wire(case: tuple[Carrier, Properties]) -> None:
    carrier, properties = case
    assert parse(render_properties(properties), carrier) == properties


@given(carriers, st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(carrier: Carrier, body: bytes) -> None:
    for wire in (body, section(body)):
        with suppress(MqttProtocolError):
            parse_properties(wire, 0, carrier)


@given(drawn, st.data())
def test_properties_that_are_cut_short_are_malformed(case: tuple[Carrier, Properties], data: st.DataObject) -> None:
    """H7: the length reaches beyond the packet."""
    carrier, properties = case
    wire = render_properties(properties)
    cut = data.draw(st.integers(0, len(wire) - 1))
    assert refusal(wire[:cut], carrier).reason_code == 0x81


@by_name
def test_mqtt_2_2_2_each_property_stands_where_it_may_and_nowhere_else(row: Row) -> None:
    """H9: every property in every packet."""
    for carrier in CARRIERS:
        wire = section(in_company(row))
        if carrier in row.carriers:
            assert parse(wire, carrier)[row.identifier] == row.value
        else:
            error = refusal(wire, carrier)
            assert error.reason_code == 0x82
            assert "does not belong here" in str(error)


@by_name
def test_mqtt_2_2_2_each_property_stands_once_but_for_two(row: Row) -> None:
    """H9: User Property may be repeated anywhere, Subscription Identifier in PUBLISH (section 3.3.2.3.8)."""
    for carrier in row.carriers:
        wire = section(in_company(row) + row.wire)
        if row.identifier is PropertyId.USER_PROPERTY or (
            row.identifier is PropertyId.SUBSCRIPTION_IDENTIFIER and carrier is PacketType.PUBLISH
        ):
            assert parse(wire, carrier)[row.identifier] == row.value * 2
        else:
            assert refusal(wire, carrier).reason_code == 0x82


@by_name
def test_a_property_cut_in_the_middle_is_malformed(row: Row) -> None:
    """H7, and also where the property must not stand: what cannot be read comes first."""
    for carrier in CARRIERS:
        for length in range(1, len(row.wire)):
            assert refusal(section(row.wire[:length]), carrier).reason_code == 0x81


@by_name
def test_each_example_is_rendered_as_the_table_has_it(row: Row) -> None:
    assert render_properties({row.identifier: row.value}) == section(row.wire)


@pytest.mark.parametrize(
    ("clause", "carrier", "wire", "code"),
    [
        ("3.1.2.11.3 Receive Maximum 0 (H38)", PacketType.CONNECT, "21 0000", 0x82),
        ("3.1.2.11.4 Maximum Packet Size 0 (H38)", PacketType.CONNECT, "27 00000000", 0x82),
        ("3.1.2.11.6 Request Response Information 2", PacketType.CONNECT, "19 02", 0x82),
        ("3.1.2.11.7 Request Problem Information 255", PacketType.CONNECT, "17 ff", 0x82),
        ("3.1.2.11.10 Authentication Data alone", PacketType.CONNECT, "16 0001 64", 0x82),
        ("3.1.3.2.3 Payload Format Indicator 2", WILL, "01 02", 0x82),
        ("3.1.3.2.6 Response Topic with +", WILL, "08 0003 612f2b", 0x82),
        ("3.3.2.3.2 Payload Format Indicator 2", PacketType.PUBLISH, "01 02", 0x82),
        ("[MQTT-3.3.2-8] Topic Alias 0 (H37)", PacketType.PUBLISH, "23 0000", 0x94),
        ("[MQTT-3.3.2-14] Response Topic with #", PacketType.PUBLISH, "08 0001 23", 0x82),
        ("[MQTT-3.3.2-14] Response Topic with +", PacketType.PUBLISH, "08 0001 2b", 0x82),
        ("[MQTT-4.7.3-1] empty Response Topic", PacketType.PUBLISH, "08 0000", 0x82),
        ("3.8.2.1.2 Subscription Identifier 0", PacketType.SUBSCRIBE, "0b 00", 0x82),
        ("3.2.2.3.4 Maximum QoS 2", PacketType.CONNACK, "24 02", 0x82),
        ("3.2.2.3.5 Retain Available 2", PacketType.CONNACK, "25 02", 0x82),
        ("3.2.2.3.3 Receive Maximum 0", PacketType.CONNACK, "21 0000", 0x82),
        ("3.2.2.3.11 Wildcard Subscription Available 2", PacketType.CONNACK, "28 02", 0x82),
        ("3.2.2.3.12 Subscription Identifier Available 2", PacketType.CONNACK, "29 02", 0x82),
        ("3.2.2.3.13 Shared Subscription Available 2", PacketType.CONNACK, "2a 02", 0x82),
        ("[MQTT-1.5.4-1] string that is no UTF-8 (H16)", PacketType.PUBLISH, "03 0002 eda0", 0x81),
        ("[MQTT-1.5.4-2] string with U+0000 (H16)", PacketType.PUBLISH, "03 0001 00", 0x81),
        ("[MQTT-1.5.5-1] long Subscription Identifier (H6)", PacketType.SUBSCRIBE, "0b 8100", 0x81),
        ("1.5.5 Subscription Identifier of five bytes (H5)", PacketType.SUBSCRIBE, "0b 8080808001", 0x81),
        ("2.2.2.2 unknown 0x00", PacketType.CONNECT, "00 00", 0x81),
        ("2.2.2.2 unknown 0x7F (H7)", PacketType.CONNECT, "7f 00", 0x81),
        ("[MQTT-1.5.5-1] identifier 0x26 in two bytes", PacketType.CONNECT, "a600 0001 6e 0001 76", 0x81),
    ],
)
def test_values_that_the_specification_forbids(clause: str, carrier: Carrier, wire: str, code: int) -> None:
    """The clause stands beside each."""
    assert refusal(section(bytes.fromhex(wire)), carrier).reason_code == code


@pytest.mark.parametrize("wire", ["8000", "808080800100", "ffffffffff", "05", "80", "", "02 2600"])
def test_a_length_that_is_wrong_is_malformed(wire: str) -> None:
    """H5 to H7: too long a form, five bytes, beyond the packet, not there."""
    assert refusal(bytes.fromhex(wire), PacketType.CONNECT).reason_code == 0x81


@pytest.mark.parametrize("identifier", sorted(set(range(256)) - set(PropertyId)))
def test_unknown_properties_are_malformed(identifier: int) -> None:
    error = refusal(section(bytes((identifier, 1, 0, 0, 0, 0))), PacketType.CONNECT)
    assert isinstance(error, MalformedPacket)
    assert error.reason_code == 0x81


def test_no_properties_are_one_byte() -> None:
    assert render_properties(NO_PROPERTIES) == b"\0"
    assert parse_properties(b"\0rest", 0, PacketType.CONNECT) == (NO_PROPERTIES, 1)


def test_user_properties_keep_their_order() -> None:
    """[MQTT-3.3.2-18]"""
    pairs = (("b", "1"), ("a", "2"), ("b", "1"))
    assert parse(render_properties({PropertyId.USER_PROPERTY: pairs}), PacketType.PUBLISH) == {
        PropertyId.USER_PROPERTY: pairs
    }


@pytest.mark.parametrize("carrier", [PacketType.CONNECT, PacketType.PUBLISH, WILL])
def test_too_many_user_properties_are_refused_without_reading_on(carrier: Carrier) -> None:
    """H8: 60,000 of them. What follows the one too many cannot be parsed, and nobody tries."""
    many = b"\x26\0\0\0\0" * 65 + b"\xff" * (60_000 * 5 - 65 * 5)
    wire = bytes.fromhex("e0a712") + many
    error = refusal(wire, carrier)
    assert error.reason_code == 0x97
    assert str(error) == "too many user properties"


def test_user_properties_up_to_the_limits_are_read() -> None:
    limits = PropertyLimits(max_user_properties=3, max_user_property_bytes=30)
    three = {PropertyId.USER_PROPERTY: (("name", "v"),) * 3}
    assert parse(render_properties(three), PacketType.CONNECT, limits) == three
    for pairs in ((("", ""),) * 4, (("name", "v"),) * 2 + (("name", "vv"),)):
        wire = render_properties({PropertyId.USER_PROPERTY: pairs})
        assert refusal(wire, PacketType.CONNECT, limits).reason_code == 0x97
