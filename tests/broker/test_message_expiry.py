"""`mqtt.max_message_expiry_s`: no message lasts longer, whichever way it waits and whatever its publisher said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gated_store import until
from headwater.mqtt.packets import Properties, PropertyId, ProtocolLevel, Publish, Will

from .house import ADA, PORCH, House, as_account, as_lasting, write_key_of

Build = Callable[..., Any]
EXPIRY = PropertyId.MESSAGE_EXPIRY_INTERVAL
ASKED = pytest.mark.parametrize(("asked_s", "expected_s"), [(None, 100), (5_000, 100), (50, 50)])


def asking(expiry_s: int | None) -> Properties:
    return {} if expiry_s is None else {EXPIRY: expiry_s}


def check_expiry(message: Publish, expected_s: int) -> None:
    """What is left of the time, after some of it was spent here."""
    assert expected_s - 30 <= message.properties[EXPIRY] <= expected_s


async def sender(house: House, level: int = 5, **options: Any) -> Any:
    return await house.connect(as_account(ADA, "sender", level=ProtocolLevel(level), **options))


async def absent(house: House) -> Any:
    """The CONNECT of somebody who has subscribed to everything and is away."""
    connect = as_lasting(as_account(ADA, "absent"), level=5)
    client = await house.connect(connect)
    assert await client.subscribe("#", 1) == 1
    await client.close()
    await until(lambda: house.session("absent").link is None, "the client to be away")
    return connect


@ASKED
async def test_of_a_queued_message(build: Build, asked_s: int | None, expected_s: int) -> None:
    house: House = await build(max_message_expiry_s=100)
    connect = await absent(house)
    await (await sender(house)).publish("t", b"m", 1, properties=asking(asked_s))
    check_expiry(await (await house.connect(connect)).message(acknowledge=True), expected_s)


@ASKED
async def test_of_a_retained_message(build: Build, asked_s: int | None, expected_s: int) -> None:
    house: House = await build(max_message_expiry_s=100)
    await (await sender(house)).publish("t", b"m", 1, retain=True, properties=asking(asked_s))
    client = await house.connect(as_account(ADA, "late", level=ProtocolLevel.V5))
    await client.subscribe("t")
    check_expiry(await client.message(), expected_s)


@ASKED
async def test_of_a_will(build: Build, asked_s: int | None, expected_s: int) -> None:
    house: House = await build(max_message_expiry_s=100)
    connect = await absent(house)
    will = Will("gone", b"w", 1, retain=True, properties=asking(asked_s))
    (await sender(house, will=will)).reset()
    await until(lambda: bool(house.session("absent").queued), "the will to be queued")
    check_expiry(await (await house.connect(connect)).message(acknowledge=True), expected_s)
    client = await house.connect(as_account(ADA, "late", level=ProtocolLevel.V5))
    await client.subscribe("gone")
    check_expiry(await client.message(), expected_s)


async def test_of_what_older_clients_publish_and_of_entries(build: Build) -> None:
    house: House = await build(max_message_expiry_s=100)
    connect = as_lasting(as_account(ADA, "absent"), level=5)
    client = await house.connect(connect)
    assert await client.subscribe("t", 1) == 1
    assert await client.subscribe(f"channels/{PORCH}/subscribe", 1) == 1
    await client.close()
    await until(lambda: house.session("absent").link is None, "the client to be away")
    older = await sender(house, 4)
    await older.publish("t", b"m", 1)
    await older.publish(f"channels/{PORCH}/publish/{write_key_of(PORCH)}", b"field1=7", 1)
    await until(lambda: house.session("absent").queued == 2, "both to be queued")
    client = await house.connect(connect)
    for _ in range(2):
        check_expiry(await client.message(acknowledge=True), 100)


async def test_what_has_waited_too_long_is_dropped(build: Build) -> None:
    house: House = await build(max_message_expiry_s=1)
    connect = await absent(house)
    client = await sender(house, 4)
    await client.publish("t", b"old", 1, retain=True)
    [owed] = house.session("absent").outgoing
    await until(lambda: owed.message.is_expired(house.broker.loop.time()), "its time to be over")
    back = await house.connect(connect)
    await client.publish("t", b"new", 1)
    assert (await back.message(acknowledge=True)).payload == b"new"
    late = await house.connect(as_account(ADA, "late"))
    await late.subscribe("t")
    await late.ping()
    assert late.received == []


async def test_as_they_come_publishers_decide(house: House) -> None:
    """[MQTT-3.3.2-6]"""
    connect = await absent(house)
    client = await sender(house)
    await client.publish("t", b"a", 1, properties=asking(0xFFFF_FFFF))
    await client.publish("t", b"b", 1)
    back = await house.connect(connect)
    assert (await back.message(acknowledge=True)).properties[EXPIRY] > 0xFFFF_FF00
    assert EXPIRY not in (await back.message(acknowledge=True)).properties
