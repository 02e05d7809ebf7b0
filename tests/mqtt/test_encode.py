"""Packets to bytes, beside bytes written out by hand from the specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from headwater.mqtt.encode import MAX_REMAINING_LENGTH, render_packet, render_publish, render_remaining_length
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

from .strategies import publishes

EXAMPLES = [
    (Connect("a", keep_alive_s=10), "10 0d 0004 4d515454 04 02 000a 0001 61"),
    (
        Connect("", clean_session=False, keep_alive_s=0, level=ProtocolLevel.V31),
        "10 0e 0006 4d5149736470 03 00 0000 0000",
    ),
    (
        Connect("a", True, 60, "u", b"p\x00", Will("t", b"gone", 1, True)),
        "10 1d 0004 4d515454 04 ee 003c 0001 61 0001 74 0004 676f6e65 0001 75 0002 7000",
    ),
    (Connack(False, 0), "20 02 00 00"),
    (Connack(True, 0), "20 02 01 00"),
    (Connack(False, 5), "20 02 00 05"),
    (Publish("a/b", b"x"), "30 06 0003 612f62 78"),
    (Publish("a/b", b"", 1, 10), "32 07 0003 612f62 000a"),
    (Publish("a", b"x", 2, 65_535, retain=True, dup=True), "3d 06 0001 61 ffff 78"),
    (Acknowledgement(PacketType.PUBACK, 1), "40 02 0001"),
    (Acknowledgement(PacketType.PUBREC, 2), "50 02 0002"),
    (Acknowledgement(PacketType.PUBREL, 3), "62 02 0003"),
    (Acknowledgement(PacketType.PUBCOMP, 4), "70 02 0004"),
    (Subscribe(10, (Subscription("a/b", 1), Subscription("c/d", 2))), "82 0e 000a 0003 612f62 01 0003 632f64 02"),
    (Suback(10, (0, 1, 2, 0x80)), "90 06 000a 00 01 02 80"),
    (Unsubscribe(10, ("a/b", "c/d")), "a2 0c 000a 0003 612f62 0003 632f64"),
    (Unsuback(10), "b0 02 000a"),
    (Pingreq(), "c0 00"),
    (Pingresp(), "d0 00"),
    (Disconnect(), "e0 00"),
]

WHY = {PropertyId.REASON_STRING: "no"}
EXAMPLES5 = [
    (Connect("a", keep_alive_s=10, level=ProtocolLevel.V5), "10 0e 0004 4d515454 05 02 000a 00 0001 61"),
    (
        Connect(
            "a",
            False,
            60,
            None,
            b"p",
            Will("t", b"gone", 2, False, {PropertyId.WILL_DELAY_INTERVAL: 5}),
            ProtocolLevel.V5,
            {PropertyId.SESSION_EXPIRY_INTERVAL: 300, PropertyId.RECEIVE_MAXIMUM: 10},
        ),
        "10 28 0004 4d515454 05 54 003c 08 11 0000012c 21 000a 0001 61 05 18 00000005 0001 74 0004 676f6e65 0001 70",
    ),
    (Connack(True, 0), "20 03 01 00 00"),
    (Connack(False, 0x87, {PropertyId.MAXIMUM_QOS: 1}), "20 05 00 87 02 24 01"),
    (Publish("a/b", b"x"), "30 07 0003 612f62 00 78"),
    (Publish("", b"", 1, 10, properties={PropertyId.TOPIC_ALIAS: 3}), "32 08 0000 000a 03 23 0003"),
    (Acknowledgement(PacketType.PUBACK, 1), "40 02 0001"),
    (Acknowledgement(PacketType.PUBACK, 1, 0x10), "40 03 0001 10"),
    (Acknowledgement(PacketType.PUBREC, 2, 0x80, WHY), "50 09 0002 80 05 1f 0002 6e6f"),
    (Acknowledgement(PacketType.PUBREL, 3, 0, WHY), "62 09 0003 00 05 1f 0002 6e6f"),
    (Acknowledgement(PacketType.PUBCOMP, 4, 0x92), "70 03 0004 92"),
    (
        Subscribe(
            10,
            (Subscription("a/b", 1, True, True, 2), Subscription("c", 2)),
            {PropertyId.SUBSCRIPTION_IDENTIFIER: (128,)},
        ),
        "82 10 000a 03 0b 8001 0003 612f62 2d 0001 63 02",
    ),
    (Suback(10, (0, 0x87)), "90 05 000a 00 00 87"),
    (Unsubscribe(10, ("a",)), "a2 06 000a 00 0001 61"),
    (Unsuback(10, (0, 0x11)), "b0 05 000a 00 00 11"),
    (Pingreq(), "c0 00"),
    (Pingresp(), "d0 00"),
    (Disconnect(), "e0 00"),
    (Disconnect(4), "e0 01 04"),
    (Disconnect(0, {PropertyId.SESSION_EXPIRY_INTERVAL: 1}), "e0 07 00 05 11 00000001"),
    (Auth(), "f0 00"),
    (Auth(0x18, {PropertyId.AUTHENTICATION_METHOD: "m"}), "f0 06 18 04 15 0001 6d"),
]
CASES = [(4, *example) for example in EXAMPLES] + [(5, *example) for example in EXAMPLES5]


@pytest.mark.parametrize(("level", "packet", "wire"), CASES, ids=lambda value: type(value).__name__)
def test_each_packet_has_the_bytes_of_the_specification(level: int, packet: Packet, wire: str) -> None:
    assert render_packet(packet, level) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (Connack(False, 0, {PropertyId.MAXIMUM_QOS: 1}), "20 02 00 00"),
        (Publish("a", b"", properties={PropertyId.PAYLOAD_FORMAT_INDICATOR: 1}), "30 03 0001 61"),
        (Acknowledgement(PacketType.PUBACK, 1, 0x87, WHY), "40 02 0001"),
        (Subscribe(1, (Subscription("a", 1, True, True, 2),)), "82 06 0001 0001 61 01"),
        (Suback(1, (0, 0x87, 0x8F), WHY), "90 05 0001 00 80 80"),
        (Unsuback(1, (0x11,), WHY), "b0 02 0001"),
        (Disconnect(0x8B, WHY), "e0 00"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_3_1_1_has_no_room_for_is_left_out(packet: Packet, wire: str) -> None:
    assert render_packet(packet) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("length", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (MAX_REMAINING_LENGTH, "ffffff7f"),
    ],
)
def test_remaining_length_at_the_edges_of_table_2_4(length: int, wire: str) -> None:
    """Section 2.2.3."""
    assert render_remaining_length(length) == bytes.fromhex(wire)


def test_a_remaining_length_of_five_bytes_does_not_exist() -> None:
    """Section 2.2.3."""
    with pytest.raises(ValueError, match="variable byte integer"):
        render_remaining_length(MAX_REMAINING_LENGTH + 1)


@given(publishes())
def test_the_short_way_to_a_publish_gives_the_same_bytes(packet: Publish) -> None:
    parts = packet.topic.encode(), packet.payload, packet.qos, packet.packet_id or 0
    assert render_publish(*parts, retain=packet.retain, dup=packet.dup) == render_packet(packet)


UNSPEAKABLE: list[Any] = [
    Publish("t" * 65_536, b""),
    Publish("t", b"", qos=1),  # [MQTT-2.3.1-1]
    Publish("t", b"", qos=1, packet_id=0),
    Publish("t", b"", qos=2, packet_id=65_536),
    Publish("t", b"", qos=3, packet_id=1),  # [MQTT-3.3.1-4]
    Publish("t", b"", qos=0, dup=True),  # [MQTT-3.3.1-2]
    Acknowledgement(PacketType.PUBACK, 0),
    Unsuback(70_000),
    Connect("a", keep_alive_s=65_536),
    Connect("a", keep_alive_s=-1),
    Connect("a", password=b"p"),  # [MQTT-3.1.2-22]
    Connect("a", username="u", password=b"p" * 65_536),
    Connack(False, 0x87),
    Auth(),
    Suback(1, (256,)),
]


@pytest.mark.parametrize("packet", UNSPEAKABLE, ids=lambda packet: type(packet).__name__)
def test_what_cannot_be_said_in_3_1_1_is_a_value_error(packet: Packet) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        render_packet(packet)


UNSPEAKABLE5: list[Any] = [
    Acknowledgement(PacketType.PUBACK, 1, 256),
    Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 1 << 32}),
    Publish("t", b"", properties={PropertyId.TOPIC_ALIAS: 65_536}),
    Publish("t", b"", properties={PropertyId.SUBSCRIPTION_IDENTIFIER: (1 << 28,)}),
    Publish("t", b"", properties={PropertyId.CORRELATION_DATA: bytes(65_536)}),
    Subscribe(1, (Subscription("t", 0, retain_handling=16),)),
]


@pytest.mark.parametrize("packet", UNSPEAKABLE5, ids=lambda packet: type(packet).__name__)
def test_what_cannot_be_said_in_5_0_is_a_value_error(packet: Packet) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        render_packet(packet, 5)


def test_what_is_no_packet_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="str is not a packet"):
        render_packet("PINGREQ")  # type: ignore[arg-type]
