"""Messages that the server publishes in an account's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gated_store import until
from headwater.broker.publisher import BrokerPublisher
from headwater.services.outbound import OutboundFailed, PublisherSlot

from .house import ADA, BOB, CELLAR, PORCH, READER, House, as_account, as_device, as_lasting, write_key_of


def publisher_of(house: House, **options: Any) -> BrokerPublisher:
    return BrokerPublisher(house.broker, house.access, **options)


async def failure(publisher: BrokerPublisher, account_id: int, topic: str, payload: bytes = b"x", **how: Any) -> str:
    with pytest.raises(OutboundFailed) as raised:
        await publisher.publish(account_id, topic, payload, **how)
    return str(raised.value)


async def test_a_message_reaches_the_accounts_own_clients_and_nobody_elses(house: House) -> None:
    ada, bob = await house.connect(as_account(ADA, "ada")), await house.connect(as_account(BOB, "bob"))
    for client in (ada, bob):
        await client.subscribe("lamp/#", 1)
    publisher = publisher_of(house)
    await publisher.publish(ADA, "lamp/power", b"ON")
    await publisher.publish(BOB, "lamp/other", b"OFF", qos=1, retain=True)
    assert (await ada.message()).topic == "lamp/power"
    assert (await bob.message(acknowledge=True)).payload == b"OFF"
    later = await house.connect(as_account(BOB, "later"))
    await later.subscribe("lamp/#", 1)
    retained = await later.message(acknowledge=True)
    assert (retained.topic, retained.retain) == ("lamp/other", True)


async def test_an_entry_is_on_disk_when_it_is_taken(house: House) -> None:
    reader = await house.connect(as_device(READER))
    await reader.subscribe(f"channels/{PORCH}/subscribe/fields/field1")
    await publisher_of(house).publish(ADA, f"channels/{PORCH}/publish", b"field1=21.5", qos=1)
    assert house.store.commits == 1
    assert await house.stored() == ["21.5"]
    assert (await reader.message()).payload == b"21.5"


async def test_what_a_client_could_not_do_is_refused(house: House) -> None:
    publisher = publisher_of(house)
    assert "another account" in await failure(publisher, BOB, f"channels/{PORCH}/publish", b"field1=1")
    assert "no channel 999" in await failure(publisher, BOB, "channels/999/publish", b"field1=1")
    assert "$" in await failure(publisher, ADA, "$SYS/broker/uptime")
    assert "only the broker" in await failure(publisher, ADA, "$SYS/x")
    assert await failure(publisher, ADA, f"channels/{PORCH}/publish", b"nothing")
    assert await house.stored() == []
    assert "the account is gone" in await failure(publisher, 999, "lamp")


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\x00b", "a\nb", "a\ud800", "/".join("a" * 40), "a" * 70_000])
async def test_what_is_no_topic_is_refused(house: House, topic: str) -> None:
    assert "cannot be published" in await failure(publisher_of(house), ADA, topic)


async def test_what_is_too_large_is_refused(build: Callable[..., Any]) -> None:
    house: House = await build(max_packet_bytes=2048)
    assert "mqtt.max_packet_bytes" in await failure(publisher_of(house), ADA, "lamp", b"x" * 2048)
    assert "QoS" in await failure(publisher_of(house), ADA, "lamp", qos=3)


async def test_it_waits_for_the_disk_but_not_for_ever(house: House) -> None:
    house.store.shut()
    publisher = publisher_of(house, timeout_s=0.2, max_waiting=1)
    topic = f"channels/{CELLAR}/publish"
    waiting = asyncio.create_task(failure(publisher, ADA, topic, b"field1=1", qos=1))
    await until(lambda: publisher._waiting == 1, "the first to wait")
    assert "too many messages" in await failure(publisher, ADA, topic, b"field1=2", qos=1)
    assert "0.2 s" in await waiting
    # Nobody is waited for without a promise.
    await publisher.publish(ADA, topic, b"field1=3", qos=0)
    house.store.open()
    await until(lambda: house.store.commits > 0, "a commit")
    await publisher.publish(ADA, topic, b"field1=4", qos=1)
    assert await house.stored(CELLAR) == ["1", "3", "4"]


async def test_it_waits_for_room(house: House) -> None:
    house.ingest.is_full = True
    publishing = asyncio.create_task(publisher_of(house).publish(ADA, f"channels/{PORCH}/publish", b"field1=5", qos=1))
    await until(lambda: bool(house.ingest._room_listeners), "it to wait")
    assert not publishing.done()
    house.ingest._make_room()
    await publishing
    assert await house.stored() == ["5"]


async def test_a_stored_session_is_owed_it_when_it_is_taken(house: House) -> None:
    away = await house.connect(as_lasting(as_account(ADA, "away")))
    await away.subscribe("lamp", 1)
    await away.close()
    await until(lambda: house.broker.connections == 0, "the client to go")
    await publisher_of(house).publish(ADA, "lamp", b"ON", qos=1)
    assert not house.journal.pending_bytes
    back = await house.connect(as_lasting(as_account(ADA, "away")))
    assert (await back.message(acknowledge=True)).payload == b"ON"


async def test_nothing_is_published_while_there_is_no_broker(house: House) -> None:
    slot = PublisherSlot()
    with pytest.raises(OutboundFailed, match="not running"):
        await slot.publish(ADA, "lamp", b"ON")
    with slot.connected(publisher_of(house)):
        await slot.publish(ADA, "lamp", b"ON", qos=1, retain=True)
    with pytest.raises(OutboundFailed, match="not running"):
        await slot.publish(ADA, "lamp", b"OFF")


async def test_the_key_of_a_channel_opens_it(house: House) -> None:
    await publisher_of(house).publish(BOB, f"channels/{PORCH}/publish/{write_key_of(PORCH)}", b"field1=7", qos=1)
    assert await house.stored() == ["7"]
