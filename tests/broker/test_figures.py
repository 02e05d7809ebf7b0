"""What the broker counts and who it says is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gated_store import until
from headwater.broker.figures import DROP_LIMITS, END_REASONS
from headwater.mqtt.message import Message
from headwater.mqtt.packets import Connect, Disconnect, ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode

from .house import ADA, BOB, SENSOR, House, as_account, as_device, as_lasting, as_nobody

Build = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"


def counted(numbers: Mapping[str, int]) -> dict[str, int]:
    """Without what has not happened."""
    return {name: number for name, number in numbers.items() if number}


async def test_who_is_there(house: House) -> None:
    device = await house.connect(as_device(SENSOR, keep_alive_s=30))
    account = await house.connect(as_lasting(as_account(ADA, "c"), level=5))
    await account.subscribe("t", 1)
    await house.connect()  # has not signed in
    await account.publish("t", b"x")
    await device.ping()
    first, second = house.presence.clients()
    assert (first.device_id, first.account_id, first.client_id, first.keep_alive_s) == (SENSOR, ADA, "device21", 30)
    assert (first.protocol, first.transport, first.address) == ("3.1.1", "tcp", "127.0.0.1")
    assert (second.protocol, second.is_persistent, second.subscriptions) == ("5.0", True, 1)
    assert (second.messages_in, second.messages_out, second.in_flight) == (1, 1, 1)
    assert second.bytes_in > 0 < second.bytes_out
    assert first.connected_at_ns <= second.connected_at_ns
    assert house.presence.client(second.number) is not None
    assert house.presence.client(second.number, BOB) is None
    assert [client.client_id for client in house.presence.clients(BOB)] == []


async def test_counts_outlive_their_connections(house: House) -> None:
    for _ in range(3):
        client = await house.connect(as_account(ADA, "c"))
        await client.publish("t", b"x")
        client.send(Disconnect())
        await client.expect_closed()
    await house.only()
    bob = await house.connect(as_account(BOB, "b"))
    totals = house.presence.totals()
    assert totals is not None
    assert (totals.connections, totals.max_connections, totals.connections_total) == (1, 1, 4)
    assert totals.messages_in == 3
    by_account = {of.account_id: of for of in house.presence.account_totals()}
    assert (by_account[ADA].messages_in, by_account[ADA].connections) == (3, 0)
    assert (by_account[BOB].messages_in, by_account[BOB].connections) == (0, 1)
    house.broker.figures.forget_old({BOB})
    await bob.ping()
    assert {of.account_id: of.messages_in for of in house.presence.account_totals()} == {None: 3, BOB: 0}


async def test_drops_are_counted_by_limit_and_account(build: Build) -> None:
    house: House = await build(max_in_flight=1, max_queued_messages=1)
    lazy = await house.connect(as_account(ADA, "lazy"))
    await lazy.subscribe("t", 1)
    for _ in range(5):
        await lazy.publish("t", b"x")
    totals = house.presence.totals()
    assert totals is not None
    assert counted(totals.dropped) == {"max_queued_messages": 3}
    assert (totals.queued_messages, totals.sessions, totals.subscriptions) == (2, 1, 1), "one is in flight"
    [of] = [of for of in house.presence.account_totals() if of.account_id == ADA]
    assert of.dropped == 3
    [client] = house.presence.clients()
    assert client.dropped == {"max_queued_messages": 3}


async def test_a_person_ends_a_connection(house: House) -> None:
    client = await house.connect(as_account(ADA, "c", level=ProtocolLevel.V5))
    [info] = house.presence.clients()
    assert not house.presence.disconnect(info.number, BOB)
    assert house.presence.disconnect(info.number, ADA)
    await client.expect_disconnect(ReasonCode.ADMINISTRATIVE_ACTION)
    assert not house.presence.disconnect(info.number)
    await house.only()
    totals = house.presence.totals()
    assert totals is not None
    assert counted(totals.refused) == {}, "it was no fault"


async def test_reasons_are_few_whatever_strangers_send(house: House) -> None:
    for level in range(6, 40):
        client = await house.connect()
        client.level = 5
        client.send(b"\x10\x0d\x00\x04MQTT" + bytes((level,)) + b"\x02\x00\x00\x00\x01c")
        await client.expect_closed()
    totals = house.presence.totals()
    assert totals is not None
    assert counted(totals.refused) == {"unsupported protocol version": 34}


async def test_only_clients_that_have_signed_in_are_counted(house: House) -> None:
    await house.connect()
    older = await house.connect(as_account(ADA, "c"))
    await house.connect(as_account(ADA, "c"))
    await older.expect_closed()
    stranger = await house.connect()
    stranger.send(Connect("d", username="ada", password=b"wrong"))
    await stranger.expect_closed()
    totals = house.presence.totals()
    assert totals is not None
    assert (totals.connections, totals.max_connections, totals.connections_total) == (1, 1, 2)
    assert counted(totals.refused) == {"not authorized": 1}, "the one that was taken over is no fault"


async def test_what_is_kept_is_counted(house: House) -> None:
    client = await house.connect(as_lasting(as_account(ADA, "c"), level=4))
    await client.subscribe("t", 1)
    await client.publish("r", b"x", retain=True)
    client.reset()
    await until(lambda: not house.broker.connections)
    other = await house.connect(as_nobody())
    await other.ping()
    totals = house.presence.totals()
    assert totals is not None
    assert (totals.sessions, totals.sessions_offline, totals.retained_messages) == (1, 1, 1)
    assert totals.retained_bytes > 0


async def test_every_reason_and_limit_is_counted_from_the_start(house: House) -> None:
    """`House` checks of every test that nothing else is counted."""
    totals = house.presence.totals()
    assert totals is not None
    assert totals.refused == dict.fromkeys(END_REASONS, 0)
    assert totals.dropped == dict.fromkeys(DROP_LIMITS, 0)


def test_the_page_on_monitoring_names_every_reason_and_limit() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in END_REASONS + DROP_LIMITS if f"`{name}`" not in page] == []


async def test_drops_are_told_of_accounts_whose_clients_are_all_away(build: Build) -> None:
    earlier: House = await build()
    await earlier.connect(as_lasting(as_account(ADA, "c"), level=4))
    house: House = await build(kept=await earlier.kept_at_a_crash())
    house.broker.figures.count_drop(house.session("c"), "max_queued_messages", Message("t", b"t", b"x", 1))
    assert {of.account_id: of.dropped for of in house.presence.account_totals()} == {ADA: 1}
    house.broker.figures.forget_old({BOB})
    assert {of.account_id: of.dropped for of in house.presence.account_totals()} == {None: 1}
