"""The largest packets of each kind, as settings: what is as long is served, a byte more ends the connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headwater.mqtt.encode import render_packet
from headwater.mqtt.errors import PacketTooLarge
from headwater.mqtt.fields import render_variable_int
from headwater.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PropertyId,
    ProtocolLevel,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)

from .client import Closed
from .house import ADA, House, as_account

Build = Callable[..., Any]
LEVELS = pytest.mark.parametrize("level", [4, 5])
MOST = 2_000
"""Every limit here, in bytes."""


def length_of(packet: Packet, level: int) -> int:
    """Its Remaining Length, of two bytes."""
    return len(render_packet(packet, level)) - 3


def connect_of(length: int, level: int) -> Connect:
    def with_will(payload: bytes) -> Connect:
        return as_account(ADA, "c", level=ProtocolLevel(level), will=Will("t", payload, 0, retain=False))

    return with_will(bytes(length - length_of(with_will(bytes(200)), level) + 200))


def subscribe_of(length: int, level: int) -> Subscribe:
    def with_filters(last: str) -> Subscribe:
        return Subscribe(1, tuple(Subscription(topic_filter, 0) for topic_filter in ("a" * 900, last)))

    return with_filters("b" * (length - length_of(with_filters("b"), level) + 1))


def unsubscribe_of(length: int, level: int) -> Unsubscribe:
    def with_filters(last: str) -> Unsubscribe:
        return Unsubscribe(1, ("a" * 900, last))

    return with_filters("b" * (length - length_of(with_filters("b"), level) + 1))


def acknowledgement_of(length: int, _level: int) -> Acknowledgement:
    def with_reason(text: str) -> Acknowledgement:
        return Acknowledgement(PacketType.PUBREL, 9, 0x92, {PropertyId.REASON_STRING: text})

    return with_reason("r" * (length - length_of(with_reason("r" * 200), 5) + 200))


@LEVELS
async def test_connect(build: Build, level: int) -> None:
    house: House = await build(max_connect_bytes=MOST)
    await house.connect(connect_of(MOST, level))
    client = await house.connect()
    client.send(connect_of(MOST + 1, level))
    assert await client.expect_closed() == [], "nobody knows yet who it is"
    await house.check_others_are_served()


@LEVELS
@pytest.mark.parametrize("packet_of", [subscribe_of, unsubscribe_of])
async def test_subscribe_and_unsubscribe(build: Build, level: int, packet_of: Callable[[int, int], Packet]) -> None:
    house: House = await build(max_subscribe_bytes=MOST, max_topic_bytes=MOST)
    client = await house.connect(as_account(ADA, "c", level=ProtocolLevel(level)))
    client.send(packet_of(MOST, level))
    await client.read()
    client.send(packet_of(MOST + 1, level))
    await expect_too_large(client, level)
    await house.check_others_are_served()


async def test_acknowledgements_and_disconnect(build: Build) -> None:
    house: House = await build(max_control_bytes=MOST)
    client = await house.connect(as_account(ADA, "c", level=ProtocolLevel.V5))
    client.send(acknowledgement_of(MOST, 5))
    await client.expect(Acknowledgement(PacketType.PUBCOMP, 9, 0x92))
    client.send(acknowledgement_of(MOST + 1, 5))
    await expect_too_large(client, 5)
    for first_byte in (0x40, 0x50, 0x70, 0xE0, 0xF0):
        client = await house.connect(as_account(ADA, "c", level=ProtocolLevel.V5))
        client.send(bytes((first_byte,)) + render_variable_int(MOST + 1))  # nothing of it is waited for
        await expect_too_large(client, 5)


async def expect_too_large(client: Any, level: int) -> None:
    packets = await client.expect_closed()
    if level == 5:
        [disconnect] = packets
        assert isinstance(disconnect, Disconnect)
        assert disconnect.reason_code == PacketTooLarge.reason_code
    else:
        assert packets == []


async def test_a_publish_has_the_limit_of_every_packet(build: Build) -> None:
    house: House = await build(max_control_bytes=128, max_subscribe_bytes=1_024, max_packet_bytes=100_000)
    client = await house.connect(as_account(ADA, "c"))
    assert await client.publish("t", bytes(99_000)) == 0
    with pytest.raises(Closed):
        await client.publish("t", bytes(100_000))
