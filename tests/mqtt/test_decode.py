"""Bytes to packets: everything well formed comes back, everything else is refused by the clause that forbids it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, UnacceptableProtocol
from headwater.mqtt.fields import parse_variable_int
from headwater.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from headwater.mqtt.properties import DEFAULT_LIMITS, WILL, Carrier, PropertyLimits

from .property_table import CARRIERS, ROWS, in_company, packet_with, section
from .strategies import leveled_packets

levels = st.sampled_from([3, 4, 5])


def cut(wire: bytes) -> tuple[int, bytes]:
    """First byte and body of one whole packet."""
    length, start = parse_variable_int(wire, 1, len(wire))
    assert len(wire) == start + length
    return wire[0], wire[start:]


@given(leveled_packets)
def test_every_packet_survives_the_wire(case: tuple[int, Packet]) -> None:
    level, packet = case
    assert parse_packet(*cut(render_packet(packet, level)), level) == packet


@given(st.integers(0, 255), st.binary(max_size=64), levels)
@example(0x10, b"", 4)
@example(0x10, b"\x00\x04MQTT\x04", 4)
@example(0x10, b"\x00\x04MQTT\x05\x02\x00\x00", 4)
@example(0x30, b"\xff\xff", 5)
@example(0x82, b"\x00\x01\x00\x00", 5)
@example(0xF0, b"\x18", 5)
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(first_byte: int, body: bytes, level: int) -> None:
    with suppress(MqttProtocolError):
        parse_packet(first_byte, body, level)


@given(leveled_packets, st.data())
def test_a_damaged_packet_raises_nothing_but_protocol_errors(case: tuple[int, Packet], data: st.DataObject) -> None:
    level, packet = case
    wire = bytearray(render_packet(packet, level))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    start = 1 + next(i for i in range(1, len(wire) + 1) if i == len(wire) or wire[i] < 0x80)
    with suppress(MqttProtocolError):
        parse_packet(wire[0], bytes(wire[start:]), level)


@given(leveled_packets)
def test_a_packet_that_lacks_its_last_byte_is_refused(case: tuple[int, Packet]) -> None:
    """Body consumed exactly: no byte short. A payload, a list of codes and an optional reason may just be shorter."""
    level, packet = case
    first_byte, body = cut(render_packet(packet, level))
    may_be_shorter = first_byte >> 4 in (PacketType.PUBLISH, PacketType.SUBACK) or (
        level == 5 and (first_byte >> 4 == PacketType.UNSUBACK or (hasattr(packet, "properties") and len(body) <= 3))
    )
    if body and not may_be_shorter:
        with pytest.raises(MqttProtocolError):
            parse_packet(first_byte, body[:-1], level)


@given(leveled_packets)
def test_a_packet_with_a_byte_left_over_is_refused(case: tuple[int, Packet]) -> None:
    """Body consumed exactly: none left over."""
    level, packet = case
    first_byte, body = cut(render_packet(packet, level))
    if first_byte >> 4 != PacketType.PUBLISH:
        with pytest.raises(MqttProtocolError):
            parse_packet(first_byte, body + b"\xff", level)


# -- fixed header ---------------------------------------------------------------------------------------------------

RIGHT_FLAGS = dict.fromkeys(PacketType, 0) | {
    PacketType.PUBREL: 2,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
}


@pytest.mark.parametrize("packet_type", [t for t in PacketType if t is not PacketType.PUBLISH])
def test_2_2_2_1_and_2_2_2_2_reserved_flags_must_be_right(packet_type: PacketType) -> None:
    """[MQTT-2.2.2-1] [MQTT-2.2.2-2]: all sixteen nibbles of every type."""
    bodies = {PacketType.SUBSCRIBE: b"\0\1\0\1a\0", PacketType.UNSUBSCRIBE: b"\0\1\0\1a", PacketType.CONNACK: b"\0\0"}
    bodies |= {PacketType.SUBACK: b"\0\1\0", PacketType.CONNECT: b"\0\4MQTT\4\2\0\0\0\0"}
    bodies |= dict.fromkeys((PacketType.PINGREQ, PacketType.PINGRESP, PacketType.DISCONNECT), b"")
    for flags in range(16):
        first_byte = packet_type << 4 | flags
        if flags != RIGHT_FLAGS[packet_type]:
            with pytest.raises(MalformedPacket, match="reserved flags"):
                parse_packet(first_byte, bodies.get(packet_type, b"\0\1"))
        elif packet_type is not PacketType.AUTH:
            parse_packet(first_byte, bodies.get(packet_type, b"\0\1"))


@pytest.mark.parametrize("carrier", [c for c in CARRIERS if c not in (WILL, PacketType.PUBLISH)])
def test_mqtt_2_1_3_1_reserved_flags_must_be_right(carrier: PacketType) -> None:
    """H12: all sixteen nibbles of every type with properties."""
    right, body = packet_with(carrier, b"\0")
    parse_packet(right, body, 5)
    for first_byte in {carrier << 4 | flags for flags in range(16)} - {right}:
        with pytest.raises(MalformedPacket, match="reserved flags") as caught:
            parse_packet(first_byte, body, 5)
        assert caught.value.reason_code == 0x81


def test_type_0_and_auth_do_not_exist_in_3_1_1() -> None:
    """Table 2.1."""
    for first_byte, text in ((0x00, "reserved"), (0xF0, "AUTH")):
        with pytest.raises(MqttProtocolError, match=text) as caught:
            parse_packet(first_byte, b"")
        assert caught.value.reason_code == 0x82


# -- CONNECT --------------------------------------------------------------------------------------------------------


def connect_body(
    name: bytes = b"MQTT", level: int = 4, flags: int = 0x02, keep_alive: int = 60, payload: bytes = b"\0\1a"
) -> bytes:
    return len(name).to_bytes(2, "big") + name + bytes((level, flags)) + keep_alive.to_bytes(2, "big") + payload


@pytest.mark.parametrize("name", [b"", b"mqtt", b"MQTT\0", b"MQTTX", b"MQIsdP", b"HTTP"])
def test_3_1_2_1_the_protocol_name_must_be_mqtt(name: bytes) -> None:
    """[MQTT-3.1.2-1]"""
    with pytest.raises(MalformedPacket, match="protocol name"):
        parse_packet(0x10, connect_body(name))


@pytest.mark.parametrize(
    ("name", "level"), [(b"MQTT", 0), (b"MQTT", 3), (b"MQIsdp", 5), (b"MQTT", 6), (b"MQTT", 0x84), (b"MQIsdp", 4)]
)
def test_3_1_2_2_other_levels_are_not_spoken(name: bytes, level: int) -> None:
    """[MQTT-3.1.2-2]"""
    with pytest.raises(UnacceptableProtocol) as caught:
        parse_packet(0x10, connect_body(name, level))
    assert caught.value.level == level
    assert caught.value.reason_code == 0x84
    assert all(version in str(caught.value) for version in ("3.1 ", "3.1.1", "5.0"))


@pytest.mark.parametrize(("name", "level"), [(b"MQTT", 4), (b"MQIsdp", 3)])
def test_3_1_1_and_its_predecessor_are_spoken(name: bytes, level: int) -> None:
    packet = parse_packet(0x10, connect_body(name, level))
    assert packet == Connect("a", level=ProtocolLevel(level))


@pytest.mark.parametrize(
    ("clause", "flags"),
    [
        ("reserved flag [MQTT-3.1.2-3]", 0x03),
        ("will QoS without will [MQTT-3.1.2-13]", 0x0A),
        ("will QoS 3 [MQTT-3.1.2-14]", 0x1E),
        ("will retain without will [MQTT-3.1.2-15]", 0x22),
        ("password without user name [MQTT-3.1.2-22]", 0x42),
    ],
)
def test_3_1_2_impossible_connect_flags(clause: str, flags: int) -> None:
    """[MQTT-3.1.2-3] and the clauses named."""
    with pytest.raises(MalformedPacket):
        parse_packet(0x10, connect_body(flags=flags, payload=b"\0\1a\0\1b\0\1c\0\1d"))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\2a", b"\0\1a\0\1t\0\1w"])
def test_3_1_3_1_payload_follows_the_flags(payload: bytes) -> None:
    """[MQTT-3.1.3-1]: what the flags announce must be there, and nothing else."""
    with pytest.raises(MalformedPacket):
        parse_packet(0x10, connect_body(payload=payload))


@pytest.mark.parametrize("topic", [b"", b"a/+", b"#", b"a\0"])
def test_a_will_topic_is_a_topic_name(topic: bytes) -> None:
    payload = b"\0\1a" + len(topic).to_bytes(2, "big") + topic + b"\0\0"
    with pytest.raises(MalformedPacket):
        parse_packet(0x10, connect_body(flags=0x06, payload=payload))


def test_a_password_does_not_show_in_a_representation() -> None:
    assert "hush" not in repr(Connect("a", username="u", password=b"hush"))


# -- PUBLISH --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "first_byte", "body"),
    [
        ("[MQTT-3.3.1-4] QoS 3", 0x36, b"\0\1a\0\1"),
        ("[MQTT-3.3.1-2] DUP with QoS 0", 0x38, b"\0\1a"),
        ("[MQTT-2.3.1-1] packet identifier 0", 0x32, b"\0\1a\0\0"),
        ("[MQTT-2.3.1-1] no packet identifier", 0x32, b"\0\1a"),
        ("[MQTT-2.3.1-1] half a packet identifier", 0x34, b"\0\1a\1"),
        ("[MQTT-4.7.3-1] empty topic", 0x30, b"\0\0payload"),
        ("[MQTT-3.3.2-2] wildcard +", 0x30, b"\0\3a/+"),
        ("[MQTT-3.3.2-2] wildcard #", 0x30, b"\0\1#"),
        ("no topic", 0x30, b""),
        ("half a topic length", 0x30, b"\0"),
        ("topic beyond the packet", 0x30, b"\0\5abcd"),
    ],
)
def test_a_publish_that_the_specification_forbids(clause: str, first_byte: int, body: bytes) -> None:
    """The clause stands beside each input."""
    with pytest.raises(MalformedPacket):
        parse_packet(first_byte, body)


# -- SUBSCRIBE, UNSUBSCRIBE and their answers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "first_byte", "body"),
    [
        ("[MQTT-3.8.3-3] no filter", 0x82, b"\0\1"),
        ("[MQTT-3.8.3-4] QoS 3", 0x82, b"\0\1\0\1a\3"),
        ("[MQTT-3.8.3-4] reserved bits", 0x82, b"\0\1\0\1a\x41"),
        ("[MQTT-2.3.1-1] identifier 0", 0x82, b"\0\0\0\1a\0"),
        ("no QoS byte", 0x82, b"\0\1\0\1a"),
        ("[MQTT-3.10.3-2] no filter", 0xA2, b"\0\1"),
        ("[MQTT-2.3.1-1] identifier 0", 0xA2, b"\0\0\0\1a"),
        ("[MQTT-3.9.3-2] return code 3", 0x90, b"\0\1\3"),
        ("SUBACK without a code", 0x90, b"\0\1"),
        ("CONNACK with reserved flags", 0x20, b"\2\0"),
        ("PINGREQ with a body", 0xC0, b"\0"),
        ("DISCONNECT with a body", 0xE0, b"\0"),
        ("PUBACK with a reason code, which is of MQTT 5", 0x40, b"\0\1\0"),
    ],
)
def test_other_packets_that_the_specification_forbids(clause: str, first_byte: int, body: bytes) -> None:
    """The clause stands beside each input."""
    with pytest.raises(MalformedPacket):
        parse_packet(first_byte, body)


# -- MQTT 5.0 -------------------------------------------------------------------------------------------------------


def refusal(first_byte: int, body: bytes, limits: PropertyLimits = DEFAULT_LIMITS) -> MqttProtocolError:
    with pytest.raises(MqttProtocolError) as caught:
        parse_packet(first_byte, body, 5, limits=limits)
    return caught.value


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
def test_each_packet_holds_the_properties_of_its_own(carrier: Carrier) -> None:
    """H9 through whole packets: each of the 27 properties in each packet, once and, where it is single, twice."""
    for row in ROWS:
        company = in_company(row)
        if carrier is PacketType.AUTH and row.identifier is not PropertyId.AUTHENTICATION_METHOD:
            company = b"\x15\x00\x01m" + row.wire
        packet = packet_with(carrier, section(company))
        if carrier not in row.carriers:
            assert refusal(*packet).reason_code == 0x82
            continue
        parsed = parse_packet(*packet, 5)
        holder = parsed.will if carrier == WILL and isinstance(parsed, Connect) else parsed
        assert holder.properties[row.identifier] == row.value  # type: ignore[union-attr]
        if row.identifier not in (PropertyId.USER_PROPERTY, PropertyId.SUBSCRIPTION_IDENTIFIER):
            assert refusal(*packet_with(carrier, section(company + row.wire))).reason_code == 0x82


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize(
    ("section_bytes", "code"),
    [
        ("80 80 80 80 01", 0x81),  # H5
        ("80 00", 0x81),  # H6
        ("ff 7f", 0x81),  # H7: beyond the packet
        ("03 26 00 01", 0x81),  # H7: cut in the middle
        ("02 7f 00", 0x81),  # H7: unknown
    ],
)
def test_damaged_properties_are_malformed_in_every_packet(carrier: Carrier, section_bytes: str, code: int) -> None:
    assert refusal(*packet_with(carrier, bytes.fromhex(section_bytes))).reason_code == code


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
def test_too_many_user_properties_are_refused_in_every_packet(carrier: Carrier) -> None:
    """H8"""
    wire = b"\xe0\xa7\x12" + b"\x26\0\0\0\0" * 60_000
    assert refusal(*packet_with(carrier, wire)).reason_code == 0x97
    two = packet_with(carrier, section(b"\x26\0\0\0\0" * 2))
    assert refusal(*two, limits=PropertyLimits(max_user_properties=1)).reason_code == 0x97


def test_connect_names_its_own_level() -> None:
    for level in (3, 4, 5):
        packet = parse_packet(0x10, connect_body(level=5, payload=b"\0\0\1a"), level)
        assert packet == Connect("a", level=ProtocolLevel.V5)


def test_a_password_alone_is_allowed_in_5_0() -> None:
    """Section 3.1.2.9."""
    packet = parse_packet(0x10, connect_body(level=5, flags=0x42, payload=b"\0\0\1a\0\1p"))
    assert packet == Connect("a", password=b"p", level=ProtocolLevel.V5)


def test_a_will_has_properties_of_its_own() -> None:
    payload = bytes.fromhex("05 11 ffffffff 0001 61 05 18 00000001 0001 74 0000")
    packet = parse_packet(0x10, connect_body(level=5, flags=0x26, keep_alive=0xFFFF, payload=payload))
    will = Will("t", b"", 0, True, {PropertyId.WILL_DELAY_INTERVAL: 1})
    properties = {PropertyId.SESSION_EXPIRY_INTERVAL: 0xFFFFFFFF}
    assert packet == Connect("a", True, 0xFFFF, None, None, will, ProtocolLevel.V5, properties)


@pytest.mark.parametrize(
    ("clause", "flags", "payload"),
    [
        ("[MQTT-3.1.2-3] reserved flag", 0x03, "00 0001 61"),
        ("[MQTT-3.1.2-11] will QoS without will", 0x0A, "00 0001 61"),
        ("[MQTT-3.1.2-12] will QoS 3", 0x1E, "00 0001 61 00 0001 74 0000"),
        ("[MQTT-3.1.2-13] will retain without will", 0x22, "00 0001 61"),
        ("[MQTT-3.1.3-1] no properties", 0x02, ""),
        ("[MQTT-3.1.3-1] no will", 0x06, "00 0001 61"),
        ("[MQTT-3.1.3-1] no will payload", 0x06, "00 0001 61 00 0001 74"),
        ("[MQTT-4.7.3-1] empty will topic", 0x06, "00 0001 61 00 0000 0000"),
        ("[MQTT-4.7.1-1] will topic with +", 0x06, "00 0001 61 00 0001 2b 0000"),
        ("[MQTT-4.7.1-1] will topic with #", 0x06, "00 0001 61 00 0003 612f23 0000"),
        ("[MQTT-1.5.4-1] client id that is no UTF-8", 0x02, "00 0001 ff"),
    ],
)
def test_a_connect_that_5_0_forbids(clause: str, flags: int, payload: str) -> None:
    """H35; the clause stands beside each input."""
    error = refusal(0x10, connect_body(level=5, flags=flags, payload=bytes.fromhex(payload)))
    assert error.reason_code == 0x81


def test_a_publish_with_an_alias_may_have_no_topic() -> None:
    packet = parse_packet(0x30, bytes.fromhex("0000 03 23 0001 78"), 5)
    assert packet == Publish("", b"x", properties={PropertyId.TOPIC_ALIAS: 1})


def test_a_byte_order_mark_is_kept() -> None:
    """[MQTT-1.5.4-3], H16"""
    packet = parse_packet(0x30, b"\0\4\xef\xbb\xbft\0", 5)
    assert packet == Publish("\ufefft", b"")


@pytest.mark.parametrize(
    ("clause", "first_byte", "body", "code"),
    [
        ("[MQTT-3.3.1-4] QoS 3 (H13)", 0x36, "0001 74 0001 00", 0x81),
        ("[MQTT-3.3.1-2] DUP with QoS 0 (H13)", 0x38, "0001 74 00", 0x81),
        ("[MQTT-2.2.1-3] packet identifier 0 (H13)", 0x32, "0001 74 0000 00", 0x82),
        ("no packet identifier (H13)", 0x32, "0001 74", 0x81),
        ("no properties", 0x32, "0001 74 0001", 0x81),
        ("3.3.2.1 neither topic nor alias (H14)", 0x30, "0000 00 78", 0x82),
        ("topic beyond the packet (H14)", 0x30, "0005 74 00", 0x81),
        ("[MQTT-3.3.2-2] topic with + (H16)", 0x30, "0001 2b 00", 0x81),
        ("[MQTT-3.3.2-2] topic with # and alias (H16)", 0x30, "0001 23 03 230001", 0x81),
        ("[MQTT-1.5.4-2] topic with NUL (H16)", 0x30, "0001 00 00", 0x81),
        ("[MQTT-1.5.4-1] topic with U+D800 (H16)", 0x30, "0003 eda080 00", 0x81),
        ("[MQTT-1.5.4-1] topic with an overlong form (H16)", 0x30, "0002 c080 00", 0x81),
        ("[MQTT-1.5.4-1] topic with truncated UTF-8 (H16)", 0x30, "0001 c3 00", 0x81),
        ("[MQTT-3.8.3-2] SUBSCRIBE without filter (H18)", 0x82, "0001 00", 0x82),
        ("[MQTT-2.2.1-3] SUBSCRIBE with identifier 0 (H18)", 0x82, "0000 00 0001 74 00", 0x82),
        ("3.8.3.1 QoS 3 (H18)", 0x82, "0001 00 0001 74 03", 0x82),
        ("3.8.3.1 retain handling 3", 0x82, "0001 00 0001 74 30", 0x82),
        ("[MQTT-3.8.3-5] reserved option bit 6 (H18)", 0x82, "0001 00 0001 74 40", 0x81),
        ("[MQTT-3.8.3-5] reserved option bit 7 (H18)", 0x82, "0001 00 0001 74 83", 0x81),
        ("[MQTT-3.8.3-4] No Local on shared (H19)", 0x82, "0001 00 000a 24736861 72652f67 2f74 04", 0x82),
        ("3.8.2.1.2 Subscription Identifier 0", 0x82, "0001 02 0b00 0001 74 00", 0x82),
        ("3.8.2.1.2 Subscription Identifier twice", 0x82, "0001 04 0b01 0b01 0001 74 00", 0x82),
        ("[MQTT-3.10.3-2] UNSUBSCRIBE without filter", 0xA2, "0001 00", 0x82),
        ("[MQTT-2.2.1-3] UNSUBSCRIBE with identifier 0", 0xA2, "0000 00 0001 74", 0x82),
        ("[MQTT-2.2.1-3] PUBACK with identifier 0", 0x40, "0000", 0x82),
        ("PUBACK of one byte", 0x40, "00", 0x81),
        ("PUBACK with reason code of PUBCOMP", 0x40, "0001 92", 0x82),
        ("PUBREC with an unknown reason code", 0x50, "0001 ff", 0x82),
        ("PUBREL with reason code of PUBACK", 0x62, "0001 10", 0x82),
        ("PUBCOMP with reason code of SUBACK", 0x70, "0001 01", 0x82),
        ("PUBACK with bytes left over", 0x40, "0001 00 00 00", 0x81),
        ("CONNACK with reserved flags", 0x20, "02 00 00", 0x81),
        ("CONNACK with a return code of 3.1.1", 0x20, "00 05 00", 0x82),
        ("SUBACK without a code", 0x90, "0001 00", 0x81),
        ("SUBACK with an impossible code", 0x90, "0001 00 03", 0x82),
        ("UNSUBACK without a code", 0xB0, "0001 00", 0x81),
        ("UNSUBACK with an impossible code", 0xB0, "0001 00 01", 0x82),
        ("PINGREQ with a body", 0xC0, "00", 0x81),
        ("DISCONNECT with an impossible reason", 0xE0, "01", 0x82),
        ("DISCONNECT with bytes left over (H41)", 0xE0, "00 00 00", 0x81),
        ("DISCONNECT with a property of CONNECT", 0xE0, "00 03 21 0001", 0x82),
        ("AUTH with an impossible reason", 0xF0, "04", 0x82),
        ("3.15.2.2.2 AUTH without method (H11)", 0xF0, "18", 0x82),
        ("3.15.2.2.2 AUTH with data alone (H11)", 0xF0, "00 04 16 0001 64", 0x82),
        ("type 0", 0x00, "", 0x82),
    ],
)
def test_packets_that_5_0_forbids(clause: str, first_byte: int, body: str, code: int) -> None:
    """The clause stands beside each input."""
    assert refusal(first_byte, bytes.fromhex(body)).reason_code == code


@pytest.mark.parametrize(
    ("first_byte", "body", "packet"),
    [
        (0x40, "0001", Acknowledgement(PacketType.PUBACK, 1)),
        (0x50, "0001 10", Acknowledgement(PacketType.PUBREC, 1, 0x10)),
        (0x62, "0001 92 00", Acknowledgement(PacketType.PUBREL, 1, 0x92)),
        (0x70, "0001 00 00", Acknowledgement(PacketType.PUBCOMP, 1)),
        (0xE0, "", Disconnect()),
        (0xE0, "04", Disconnect(4)),
        (0xE0, "00 00", Disconnect()),
        (0xF0, "", Auth()),
        (0xF0, "00", Auth()),
        (0x82, "0001 00 0001 74 2e", Subscribe(1, (Subscription("t", 2, True, True, 2),))),
    ],
)
def test_what_may_be_left_out_may_also_be_there(first_byte: int, body: str, packet: Packet) -> None:
    assert parse_packet(first_byte, bytes.fromhex(body), 5) == packet


def test_of_many_filters_only_so_many_are_read() -> None:
    body = b"\0\1\0" + b"\0\1t\0" * 10_000
    packet = parse_packet(0x82, body, 5, max_filters=2)
    assert packet == Subscribe(1, (Subscription("t", 0),) * 2, unread=9_998)


@pytest.mark.parametrize("topic", [b"/" * 65_535, b"+/" * 32_767 + b"+"])
def test_the_deepest_topics_are_read_without_recursion(topic: bytes) -> None:
    """H15: how deep is too deep is not for the codec to say."""
    length = len(topic).to_bytes(2, "big")
    packet = parse_packet(0x82, b"\0\1\0" + length + topic + b"\0", 5)
    assert packet == Subscribe(1, (Subscription(topic.decode(), 0),))
    assert refusal(0x30, length + topic + b"\0").reason_code == 0x81  # the wildcards, or 65,536 levels
