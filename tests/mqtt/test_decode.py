"""Bytes to packets: everything well formed comes back, everything else is refused by the clause that forbids it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.errors import MalformedPacket, MqttProtocolError, UnacceptableProtocol
from headwater.mqtt.packets import Connect, Packet, PacketType, ProtocolLevel
from headwater.mqtt.session import parse_frame_length

from .strategies import packets


def parse(wire: bytes) -> Packet:
    """One whole packet with its fixed header."""
    header = parse_frame_length(wire, 0, len(wire))
    assert header is not None
    start, length = header
    assert len(wire) == start + length
    return parse_packet(wire[0], wire[start:])


@given(packets)
def test_every_packet_survives_the_wire(packet: Packet) -> None:
    assert parse(render_packet(packet)) == packet


@given(st.integers(0, 255), st.binary(max_size=64))
@example(0x10, b"")
@example(0x10, b"\x00\x04MQTT\x04")
@example(0x30, b"\xff\xff")
@example(0x82, b"\x00\x01\x00\x00")
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(first_byte: int, body: bytes) -> None:
    with suppress(MqttProtocolError):
        parse_packet(first_byte, body)


@given(packets, st.data())
def test_a_damaged_packet_raises_nothing_but_protocol_errors(packet: Packet, data: st.DataObject) -> None:
    wire = bytearray(render_packet(packet))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    start = 1 + next(i for i in range(1, len(wire) + 1) if i == len(wire) or wire[i] < 0x80)
    with suppress(MqttProtocolError):
        parse_packet(wire[0], bytes(wire[start:]))


@given(packets)
def test_a_packet_that_lacks_its_last_byte_is_refused(packet: Packet) -> None:
    """Body consumed exactly: no byte short. A PUBLISH payload, a SUBACK and a SUBSCRIBE may just be shorter."""
    wire = render_packet(packet)
    header = parse_frame_length(wire, 0, len(wire))
    assert header is not None
    if header[1] and wire[0] >> 4 not in (PacketType.PUBLISH, PacketType.SUBACK):
        with pytest.raises(MqttProtocolError):
            parse_packet(wire[0], wire[header[0] : -1])


@given(packets)
def test_a_packet_with_a_byte_left_over_is_refused(packet: Packet) -> None:
    """Body consumed exactly: none left over."""
    wire = render_packet(packet)
    header = parse_frame_length(wire, 0, len(wire))
    assert header is not None
    if wire[0] >> 4 != PacketType.PUBLISH:
        with pytest.raises(MqttProtocolError):
            parse_packet(wire[0], wire[header[0] :] + b"\xff")


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


def test_type_0_and_auth_do_not_exist_in_3_1_1() -> None:
    """Table 2.1."""
    with pytest.raises(MalformedPacket, match="reserved"):
        parse_packet(0x00, b"")
    with pytest.raises(MqttProtocolError, match="AUTH"):
        parse_packet(0xF0, b"")


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
    ("name", "level"), [(b"MQTT", 0), (b"MQTT", 3), (b"MQTT", 5), (b"MQTT", 6), (b"MQTT", 0x84), (b"MQIsdp", 4)]
)
def test_3_1_2_2_other_levels_are_not_spoken(name: bytes, level: int) -> None:
    """[MQTT-3.1.2-2]"""
    with pytest.raises(UnacceptableProtocol) as caught:
        parse_packet(0x10, connect_body(name, level))
    assert caught.value.level == level


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
