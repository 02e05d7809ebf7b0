"""H9 to H19: packets that are wrong in themselves."""

from __future__ import annotations

import pytest

from broker.client import Client
from broker.house import House
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
    PacketType,
    PropertyId,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from mqtt.property_table import ROWS

from .attack import MALFORMED, PROTOCOL_ERROR, attacker, check_served, expect_end, frame, refused, strike, text

LEVELS = pytest.mark.parametrize("level", [4, 5])
FILTER_INVALID, QUOTA_EXCEEDED, TOPIC_INVALID, NOT_AUTHORIZED = 0x8F, 0x97, 0x90, 0x87
FROM_CLIENTS = {
    PacketType.PUBLISH: (0x30, text("t"), b"x"),
    PacketType.SUBSCRIBE: (0x82, b"\0\1", text("t") + b"\0"),
    PacketType.UNSUBSCRIBE: (0xA2, b"\0\1", text("t")),
    PacketType.PUBACK: (0x40, b"\0\1\0", b""),
    PacketType.DISCONNECT: (0xE0, b"\0", b""),
}
"""First byte, what stands before the properties and what after them."""


def with_properties(kind: PacketType, section: bytes) -> bytes:
    first_byte, before, after = FROM_CLIENTS[kind]
    return frame(first_byte, before + bytes((len(section),)) + section + after)


def publish(topic: bytes, level: int, flags: int = 0, packet_id: bytes = b"") -> bytes:
    return frame(0x30 | flags, text(topic) + packet_id + (b"\0" if level == 5 else b"") + b"x")


async def ends(house: House, level: int, packets: list[bytes], *codes: int) -> None:
    """Each of many packets ends a connection of its own."""
    clients: list[Client] = [await attacker(house, level, f"attacker-{n}") for n in range(len(packets))]
    for client, packet in zip(clients, packets, strict=True):
        client.send(packet)
    for client in clients:
        await expect_end(client, *codes)
    await check_served(house)


@pytest.mark.parametrize("kind", FROM_CLIENTS)
async def test_h09_properties_twice_or_out_of_place(house: House, kind: PacketType) -> None:
    twice = [row.wire * 2 for row in ROWS if kind in row.carriers and row.identifier != PropertyId.USER_PROPERTY]
    misplaced = [row.wire for row in ROWS if kind not in row.carriers]
    packets = [with_properties(kind, section) for section in twice + misplaced]
    assert len(packets) > 20
    await ends(house, 5, packets, PROTOCOL_ERROR)


async def test_h09_properties_of_connect_twice_or_out_of_place(house: House) -> None:
    for row in ROWS:
        section = row.wire * 2 if PacketType.CONNECT in row.carriers else row.wire
        if row.identifier != PropertyId.USER_PROPERTY:
            connect = b"\0\4MQTT\5\2\0\0" + bytes((len(section),)) + section + b"\0\0"
            client = await house.connect()
            client.send(frame(0x10, connect))
            assert await client.expect_closed() == [], row.identifier
    await check_served(house)


@LEVELS
async def test_h10_packets_that_only_servers_send(house: House, level: int) -> None:
    packets = [
        *(render_packet(packet, level) for packet in (Connack(False, 0), Suback(1, (0,)))),
        *([] if level == 4 else [render_packet(Connack(False, 0, {PropertyId.REASON_STRING: "x"}), 5)]),
        *(frame(kind << 4, body) for kind in (2, 9, 11, 13) for body in (b"", b"\0\1", b"\0\1\0\0")),
    ]
    await ends(house, level, packets, MALFORMED, PROTOCOL_ERROR)


@LEVELS
async def test_h11_reserved_types_and_auth(house: House, level: int) -> None:
    method = {PropertyId.AUTHENTICATION_METHOD: "x"}
    packets = [b"\x00\x00", frame(0x00, b"x"), b"\xf0\x00", render_packet(Auth(0x18, method), 5)]
    await ends(house, level, packets, MALFORMED, PROTOCOL_ERROR)
    for packet in packets:
        assert await refused(house, packet) == []


@LEVELS
async def test_h12_reserved_flags(house: House, level: int) -> None:
    """Every nibble of every type that has only one; PUBLISH is H13."""
    right = {kind: 2 if kind in (6, 8, 10) else 0 for kind in range(2, 16) if kind != 3}
    packets = [
        frame(kind << 4 | flags, b"\0\1\0\1a\0" if kind in (8, 10) else b"\0\1" if 4 <= kind <= 7 else b"")
        for kind, wanted in right.items()
        for flags in range(16)
        if flags != wanted
    ]
    assert len(packets) == 13 * 15
    await ends(house, level, packets, MALFORMED, PROTOCOL_ERROR)


async def test_h12_reserved_flags_of_connect(house: House) -> None:
    connect = b"\0\4MQTT\4\2\0\0\0\0"
    for flags in range(1, 16):
        client = await house.connect()
        client.send(frame(0x10 | flags, connect))
        assert await client.expect_closed() == []
    assert await refused(house, frame(0x10, connect[:7] + b"\3" + connect[8:])) == []


@LEVELS
async def test_h13_flags_and_identifiers_of_publish(house: House, level: int) -> None:
    packets = [publish(b"t", level, flags, b"\0\1") for flags in (0x06, 0x07, 0x0E, 0x0F)]
    packets += [publish(b"t", level, 0x08)]
    packets += [publish(b"t", level, flags, b"\0\0") for flags in (0x02, 0x04, 0x0A, 0x0C)]
    packets += [frame(0x30 | flags, text(b"t") + rest) for flags in (2, 4) for rest in (b"", b"\1")]
    await ends(house, level, packets, MALFORMED)


@LEVELS
async def test_h14_length_of_the_topic(house: House, level: int) -> None:
    packets = [b"\x30\x00", b"\x30\x01\x00", frame(0x30, b"\xff\xffab"), frame(0x32, b"\0\5ab\0\1")]
    packets += [publish(b"", level), publish(b"", level, 2, b"\0\1")]
    await ends(house, level, packets, MALFORMED, PROTOCOL_ERROR)


@LEVELS
async def test_h15_thousands_of_levels(house: House, level: int) -> None:
    await ends(
        house, level, [publish(topic, level) for topic in (b"/" * 65_535, b"a/" * 31 + b"/a")], MALFORMED, TOPIC_INVALID
    )
    client = await attacker(house, level)
    for topic_filter in ("/" * 60_000, "+/" * 30_000 + "+", "+/" * 9 + "+"):
        assert await client.subscribe(topic_filter) >= 0x80
    await client.ping()
    await check_served(house)


@LEVELS
async def test_h16_what_is_no_text(house: House, level: int) -> None:
    """U+0001 to U+001F, U+007F to U+009F and non-characters are refused too, which the standard allows."""
    bad = [
        *(b"a+", b"+", b"#", b"a/#", b"a\0b", b"\xed\xa0\x80", b"\xc0\x80", b"\xe2\x82", b"\xff", b"\x1b[2J", b"\x7f"),
        *("\x85".encode(), "\ufffe".encode(), "\U0010ffff".encode(), b"\xf4\x90\x80\x80"),
    ]
    await ends(house, level, [publish(topic, level) for topic in bad], MALFORMED, TOPIC_INVALID)
    await ends(
        house, level, [frame(0x82, b"\0\1" + b"\0" * (level == 5) + text(t) + b"\0") for t in bad[4:]], MALFORMED
    )


async def test_h16_a_byte_order_mark_is_kept(house: House) -> None:
    client = await attacker(house)
    assert await client.subscribe("\ufeffa") == 0
    await client.publish("\ufeffa", b"x")
    assert (await client.message()).topic == "\ufeffa"


@LEVELS
async def test_h17_topics_that_begin_with_a_dollar(house: House, level: int) -> None:
    """Refused: MQTT 5 is told, an older client gets a plain PUBACK (or it would send it for ever). Nothing is kept."""
    client = await attacker(house, level)
    assert await client.subscribe("#") == 0
    for topic in ("$SYS/broker/uptime", "$share/g/t", "$CONTROL/x", "$foo", "$", "$share", "$SYS"):
        for qos in (0, 1, 2):
            code = await client.publish(topic, b"x", qos, retain=True)
            assert code == (NOT_AUTHORIZED if level == 5 and qos else 0), (topic, qos)
    await client.publish("end", b"x", 0)
    assert (await client.message()).topic == "end"
    assert house.broker.retained.messages == 0
    await check_served(house)


@LEVELS
async def test_h18_malformed_subscribe(house: House, level: int) -> None:
    no_properties = b"\0" * (level == 5)
    empty = [frame(first, b"\0\1" + no_properties) for first in (0x82, 0xA2)]
    await ends(house, level, empty, MALFORMED, PROTOCOL_ERROR)
    bad = [(b"\0\0", b"\0"), (b"\0\1", b"\3"), (b"\0\1", b"\xc0"), (b"\0\1", b"\x40"), (b"\0\1", b"\x30")]
    bad += [(b"\0\1", b"\4")] if level == 4 else []
    packets = [frame(0x82, packet_id + no_properties + text("t") + options) for packet_id, options in bad]
    await ends(house, level, packets, MALFORMED, PROTOCOL_ERROR)


@LEVELS
async def test_h18_an_empty_filter(house: House, level: int) -> None:
    subscribe = Subscribe(1, (Subscription("t", 0), Subscription("", 0)))
    await ends(house, level, [render_packet(subscribe, level)], MALFORMED)


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a+", "#a", "a#", "+a", "a/+b", "##", "++"])
async def test_h18_malformed_filters(house: House, topic_filter: str) -> None:
    """3.1.1: the connection is closed. MQTT 5: this filter is refused, the others are not."""
    subscribe = Subscribe(1, (Subscription("t", 0), Subscription(topic_filter, 0)))
    await strike(house, 4, render_packet(subscribe, 4))
    client = await attacker(house)
    client.send(subscribe)
    answer = await client.read()
    assert isinstance(answer, Suback)
    assert answer.reason_codes == (0, FILTER_INVALID)
    await check_served(house)


@LEVELS
async def test_h18_ten_thousand_filters(house: House, level: int) -> None:
    """Only as many as a session may have are made; in one packet there may be 50."""
    client = await attacker(house, level)
    client.send(Subscribe(1, tuple(Subscription(f"{n}", 0) for n in range(7_000))))
    answer = await client.read()
    assert isinstance(answer, Suback)
    assert len(answer.reason_codes) == 7_000
    assert sum(code < 0x80 for code in answer.reason_codes) == house.settings.mqtt.max_filters_per_subscribe
    for first in range(7):
        client.send(Subscribe(1, tuple(Subscription(f"{first}-{n}", 0) for n in range(50))))
    answers = [await client.read() for _ in range(7)]
    granted = sum(code < 0x80 for answer in answers if isinstance(answer, Suback) for code in answer.reason_codes)
    assert 50 + granted == house.settings.mqtt.max_subscriptions
    await check_served(house)


async def test_h19_malformed_shared_subscriptions(house: House) -> None:
    for topic_filter in ("$share//t", "$share/g", "$share/+/t", "$share/#/t", "$share/g/", "$share/", "$share/g+/t"):
        subscribe = Subscribe(1, (Subscription("t", 0), Subscription(topic_filter, 0)))
        await strike(house, 5, render_packet(subscribe, 5), PROTOCOL_ERROR)
    client = await attacker(house)
    assert await client.subscribe("$share") >= 0x80
    await strike(
        house, 5, render_packet(Subscribe(1, (Subscription("$share/g/t", 0, no_local=True),)), 5), PROTOCOL_ERROR
    )


@LEVELS
async def test_h24_a_flood_of_answers_to_nothing(house: House, level: int) -> None:
    """PUBREL for unknown identifiers is answered, packet for packet, so that a client whose memory is older can finish;
    the others are overlooked and make no room."""
    client = await attacker(house, level)
    code = 0x92 if level == 5 else 0
    client.send(*[Acknowledgement(PacketType.PUBREL, n) for n in range(1, 2_001)])
    for number in range(1, 2_001):
        await client.expect(Acknowledgement(PacketType.PUBCOMP, number, code))
    for kind in (PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBCOMP):
        client.send(*[Acknowledgement(kind, n) for n in range(1, 2_001)])
    await client.ping()
    await check_served(house)


async def test_h24_the_wrong_answer_for_the_quality(house: House) -> None:
    for qos, kind in ((2, PacketType.PUBACK), (1, PacketType.PUBREC), (1, PacketType.PUBCOMP), (2, PacketType.PUBCOMP)):
        client = await attacker(house)
        assert await client.subscribe("t", qos) == qos
        await client.publish("t", b"x", qos)
        message = await client.message()
        assert message.packet_id is not None
        client.send(Acknowledgement(kind, message.packet_id))
        await expect_end(client, PROTOCOL_ERROR)
    await check_served(house)


async def test_publish_of_every_flag_with_every_length(house: House) -> None:
    """Not on the list: all 16 flags with bodies from nothing to a few bytes, as the two fast paths see them."""
    for level in (4, 5):
        for flags in range(16):
            for body in (
                b"",
                b"\0",
                b"\0\0",
                b"\0\1",
                b"\0\1t",
                b"\0\1t\0",
                b"\0\1t\0\1",
                b"\0\1t\0\1\0",
                b"\0\0\0\1\0",
            ):
                client = await attacker(house, level)
                client.send(frame(0x30 | flags, body), Publish("end", b""), frame(0xE0, b""))
                await client.expect_closed()
    await check_served(house)
