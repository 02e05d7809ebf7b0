"""QoS 2 from clients whose sessions are stored, where the message goes into another store than the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gated_store import until
from headwater.errors import StorageError
from headwater.mqtt.packets import Acknowledgement, PacketType, Publish

from .house import PORCH, SENSOR, House, as_device, as_lasting

Build = Callable[..., Any]
ENTRY = Publish(f"channels/{PORCH}/publish", b"field1=1", 2, 7)
AGAIN = replace(ENTRY, dup=True)
PUBREC = Acknowledgement(PacketType.PUBREC, 7)


async def test_an_entry_that_could_not_be_stored_is_taken_when_it_comes_again(house: House) -> None:
    device = await house.connect(as_lasting(as_device(SENSOR)))
    house.store.failures = [StorageError("the disk is full")]
    device.send(ENTRY)
    await device.expect_closed()
    back = await house.connect(as_lasting(as_device(SENSOR)))
    for _ in range(2):
        back.send(AGAIN)
        await back.expect(PUBREC)
        assert await house.stored() == ["1"]


async def test_an_entry_that_fails_after_its_client_was_cut_off_is_taken_when_it_comes_again(house: House) -> None:
    house.store.shut()
    device = await house.connect(as_lasting(as_device(SENSOR)))
    device.send(ENTRY)
    await until(lambda: house.store.appended, "the entry to be on its way")
    device.reset()
    await until(lambda: not house.broker.connections, "the connection to be gone")
    house.store.failures = [StorageError("the disk is full")]
    house.store.open()
    await until(lambda: not house.store.failures, "the disk to refuse")
    back = await house.connect(as_lasting(as_device(SENSOR)))
    back.send(AGAIN)
    await back.expect(PUBREC)
    assert await house.stored() == ["1"]


async def test_the_same_again_waits_for_the_same_entry(house: House) -> None:
    """Also on another connection: PUBREC means that the entry is on disk, and it is there once."""
    house.store.shut()
    device = await house.connect(as_lasting(as_device(SENSOR)))
    device.send(ENTRY)
    await until(lambda: house.store.appended, "the entry to be on its way")
    back = await house.connect(as_lasting(as_device(SENSOR)))
    back.send(AGAIN)
    await house.check_others_are_served()
    assert not back.received
    house.store.open()
    await back.expect(PUBREC)
    assert await house.stored() == ["1"]


async def test_a_crash_before_the_entry_is_stored_forgets_that_it_was_received(house: House, build: Build) -> None:
    house.store.shut()
    device = await house.connect(as_lasting(as_device(SENSOR)))
    device.send(ENTRY)
    await until(lambda: house.store.appended, "the entry to be on its way")
    kept = await house.kept_at_a_crash()
    house.store.open()
    await house.close()
    after = await build(kept=kept)
    back = await after.connect(as_lasting(as_device(SENSOR)))
    back.send(AGAIN)
    await back.expect(PUBREC)
    assert await after.stored() == ["1"]


async def test_a_release_that_comes_again_is_answered_when_the_first_is_on_disk(house: House) -> None:
    """Otherwise the client could use the identifier for another message, and a crash would make us overlook that."""
    device = await house.connect(as_lasting(as_device(SENSOR)))
    device.send(ENTRY)
    await device.expect(PUBREC)
    await house.journal.drain()
    release = Acknowledgement(PacketType.PUBREL, 7)
    device.send(release, release)
    await device.expect(Acknowledgement(PacketType.PUBCOMP, 7))
    assert house.kept.load().received == []
    await device.expect(Acknowledgement(PacketType.PUBCOMP, 7))
