"""The broker: who is connected, as whom, and what becomes of them when rights, limits or the server change."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest

from gated_store import until
from headwater.model.principal import Grant
from headwater.mqtt.packets import SUBACK_FAILURE, Acknowledgement, Connack, Disconnect, PacketType, Publish
from headwater.registry.entities import AccountToken, ApiKey
from headwater.registry.keys import hash_secret
from headwater.services.ingest import IngestLimits

from .client import Client
from .house import (
    ADA,
    BOB,
    CELLAR,
    PORCH,
    READER,
    SENSOR,
    WHEN,
    House,
    as_account,
    as_device,
    as_nobody,
    write_key_of,
)

Build = Callable[..., Any]
PUBLISH_TOPIC = f"channels/{PORCH}/publish"
FIELD_TOPIC = f"channels/{PORCH}/subscribe/fields/field1"


# -- one client id --------------------------------------------------------------------------------------------------


async def test_3_1_4_2_a_newer_connection_takes_over(house: House) -> None:
    """[MQTT-3.1.4-2]"""
    older = await house.connect(as_device(SENSOR))
    assert await older.subscribe(FIELD_TOPIC) == 0
    newer = await house.connect(as_device(SENSOR))
    assert await older.expect_closed() == []
    await house.only(newer)
    await newer.publish(PUBLISH_TOPIC, b"field1=1")
    newest = await house.connect(as_device(SENSOR))
    assert await newer.expect_closed() == []
    await newest.ping()


async def test_another_principal_with_the_same_client_id_is_another_client(house: House) -> None:
    """Nobody ends or hears another's session by knowing its name."""
    ada = await house.connect(as_account(ADA, "same"))
    assert await ada.subscribe("#") == 0
    bob = await house.connect(as_account(BOB, "same"))
    nobody = await house.connect(as_nobody("same"))
    nobody_else = await house.connect(as_nobody("same"))
    await bob.publish("t", b"bob's")
    for client in (ada, bob, nobody, nobody_else):
        await client.ping()
    assert ada.received == []


async def test_clients_of_one_account_without_an_id_do_not_take_over(house: House) -> None:
    clients = [await house.connect(as_account(ADA, "")) for _ in range(2)]
    for client in clients:
        await client.ping()


async def test_a_take_over_duel_leaves_nothing_behind(house: House) -> None:
    clients = []
    for _ in range(30):
        clients.append(await house.connect(as_account(ADA, "twin")))
        await clients[-1].subscribe("t/#")
    await house.only(clients[-1])
    await clients[-1].ping()
    await house.check_others_are_served()


# -- accounts -------------------------------------------------------------------------------------------------------


async def test_accounts_never_see_each_others_topics(house: House) -> None:
    ada, bob = await house.connect(as_account(ADA, "a")), await house.connect(as_account(BOB, "b"))
    for client in (ada, bob):
        for topic_filter in ("#", "+/light", "room/light"):
            assert await client.subscribe(topic_filter, 1) == 1
    await ada.publish("room/light", b"ada's", qos=0)
    await bob.publish("room/light", b"bob's", qos=0)
    for client, payload in ((ada, b"ada's"), (bob, b"bob's")):
        await client.ping()
        assert [message.payload for message in client.received] == [payload]


async def test_another_accounts_channel_is_closed_to_publish_and_subscribe(house: House) -> None:
    bob, reader = await house.connect(as_account(BOB, "b")), await house.connect(as_device(READER))
    assert await bob.subscribe(FIELD_TOPIC) == SUBACK_FAILURE
    assert await bob.subscribe("channels/#") == SUBACK_FAILURE
    assert await reader.subscribe(FIELD_TOPIC) == 0
    assert await reader.subscribe(f"channels/{CELLAR}/subscribe") == SUBACK_FAILURE
    assert await reader.subscribe("room/light") == SUBACK_FAILURE
    await bob.publish(PUBLISH_TOPIC, b"field1=1")
    await reader.publish(PUBLISH_TOPIC, b"field1=2")
    assert await house.stored() == []
    refusal = house.refusals.of_device(READER)
    assert refusal is not None
    assert "Allow Publish" in refusal.reason


async def test_anonymous_clients_share_a_tree_where_they_are_allowed(build: Build) -> None:
    house: House = await build(allow_anonymous=True)
    first, second = await house.connect(as_nobody("first")), await house.connect(as_nobody("second"))
    ada = await house.connect(as_account(ADA, "ada"))
    for client in (second, ada):
        assert await client.subscribe("#", 1) == 1
    assert await first.subscribe(FIELD_TOPIC) == SUBACK_FAILURE
    await first.publish("room/light", b"on", qos=0)
    assert await second.message() == Publish("room/light", b"on")
    await first.publish(PUBLISH_TOPIC, b"field1=1")
    await ada.ping()
    assert ada.received == []
    assert await house.stored() == []


async def test_clients_without_credentials_are_let_in_only_if_the_operator_wants(build: Build) -> None:
    house: House = await build(allow_topic_keys=False)
    nobody = await house.connect()
    nobody.send(as_nobody("nobody"))
    assert await nobody.expect_closed() == [Connack(False, 5)]


# -- rights that change while a client is there ----------------------------------------------------------------------


@pytest.mark.parametrize("change", ["disabled", "new password", "deleted"])
async def test_a_device_that_may_no_longer_sign_in_goes_at_once(house: House, change: str) -> None:
    device, other = await house.connect(as_device(SENSOR)), await house.connect(as_device(READER))
    if change == "disabled":
        house.put_device(SENSOR, Grant(PORCH, True, True), is_enabled=False)
    elif change == "new password":
        house.put_device(SENSOR, Grant(PORCH, True, True), password="newer")
    else:
        house.access.drop_device(SENSOR)
    assert await device.expect_closed() == []
    await other.ping()
    again = await house.connect()
    again.send(as_device(SENSOR))
    assert await again.expect_closed() == [Connack(False, 5)]


async def test_a_renamed_device_stays(house: House) -> None:
    device = await house.connect(as_device(SENSOR))
    house.put_device(SENSOR, Grant(PORCH, True, True))
    await device.publish(PUBLISH_TOPIC, b"field1=1")
    assert await house.stored() == ["1"]


async def test_a_grant_that_is_taken_away_bites_at_once_and_one_that_is_given_serves_at_once(house: House) -> None:
    """Subscriptions end and publishes are refused on the connection that is open."""
    writer, reader = await house.connect(as_account(ADA, "writer")), await house.connect(as_device(SENSOR))
    assert await reader.subscribe(FIELD_TOPIC) == 0
    await reader.publish(PUBLISH_TOPIC, b"field1=1")
    assert (await reader.message()).payload == b"1"
    house.put_device(SENSOR)
    await writer.publish(PUBLISH_TOPIC, b"field1=2")
    await reader.publish(PUBLISH_TOPIC, b"field1=3")
    await reader.ping()
    assert reader.received == []
    assert await reader.subscribe(FIELD_TOPIC) == SUBACK_FAILURE
    assert await house.stored() == ["1", "2"]
    house.put_device(SENSOR, Grant(PORCH, allow_publish=True, allow_subscribe=True))
    assert await reader.subscribe(FIELD_TOPIC) == 0
    await reader.publish(PUBLISH_TOPIC, b"field1=4")
    assert (await reader.message()).payload == b"4"


async def test_a_message_under_way_when_the_right_ends_is_not_delivered(build: Build) -> None:
    """Rights count at delivery, not when the message came."""
    house: House = await build(limits=IngestLimits(flush_interval_s=0.0))
    writer, reader = await house.connect(as_account(ADA, "writer")), await house.connect(as_device(READER))
    assert await reader.subscribe(FIELD_TOPIC) == 0
    house.store.shut()
    writer.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    await until(lambda: house.store.appended)
    house.put_device(READER)
    house.store.open()
    await writer.expect(Acknowledgement(PacketType.PUBACK, 1))
    await reader.ping()
    assert reader.received == []


async def test_a_change_reaches_only_those_whom_it_concerns(house: House) -> None:
    device, key_only = await house.connect(as_device(SENSOR)), await house.connect(as_nobody())
    await device.publish(PUBLISH_TOPIC, b"field1=1")
    await key_only.publish(f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}", b"field1=2")
    protocols = [connection.protocol for connection in house.broker.each_connection()]
    channel = house.access.channel(PORCH)
    assert channel is not None
    house.put_device(READER)
    assert all(protocol._targets for protocol in protocols), "another device"
    key = ApiKey(PORCH, "N" * 16, True, "", WHEN)
    house.access.put_channel(dataclasses.replace(channel, api_keys=(key,)))
    await key_only.publish(f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}", b"field1=3")
    await key_only.publish(f"{PUBLISH_TOPIC}/{key.key}", b"field1=4")
    await device.publish(PUBLISH_TOPIC, b"field1=5")
    assert await house.stored() == ["1", "2", "4", "5"]


async def test_a_deleted_channel_ends_its_subscriptions_and_nobodys_connection(house: House) -> None:
    device, owner = await house.connect(as_device(SENSOR)), await house.connect(as_account(ADA, "owner"))
    for client in (device, owner):
        assert await client.subscribe(FIELD_TOPIC) == 0
    house.access.drop_channel(PORCH)
    await device.publish(PUBLISH_TOPIC, b"field1=1")
    assert await device.subscribe(FIELD_TOPIC) == SUBACK_FAILURE
    await owner.ping()
    assert house.refusals.total == 2
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    expected = f'no right to subscribe to channel {PORCH}: "Allow Subscribe" is not set for this device'
    assert refusal.reason == f"{expected} (topic filter {FIELD_TOPIC})", "SUBACK of 3.1.1 does not say why"


async def test_a_removed_token_ends_the_accounts_connections_but_not_its_devices(house: House) -> None:
    token = AccountToken(9, ADA, "second", WHEN)
    house.access.put_token(token, hash_secret("second token"))
    account, device = await house.connect(as_account(ADA, "account")), await house.connect(as_device(SENSOR))
    other = await house.connect(as_account(BOB, "other"))
    house.access.drop_token(token)
    assert await account.expect_closed() == []
    await device.ping()
    await other.ping()
    await house.connect(as_account(ADA, "account"))


async def test_a_removed_account_takes_everything_of_it_along(house: House) -> None:
    ada, device = await house.connect(as_account(ADA, "a")), await house.connect(as_device(SENSOR))
    bob, nobody = await house.connect(as_account(BOB, "b")), await house.connect(as_nobody())
    house.access.drop_account(ADA)
    assert await ada.expect_closed() == []
    assert await device.expect_closed() == []
    await bob.ping()
    await nobody.ping()
    await house.only(bob, nobody)


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_more_clients_than_allowed(build: Build, limit: str) -> None:
    house: House = await build(**{limit: 3})
    clients = [await house.connect(as_nobody()) for _ in range(3)]
    for _ in range(5):
        refused = await house.connect()
        refused.send(as_nobody())
        assert await refused.expect_closed() == []
    for client in clients:
        await client.ping()
    clients.pop().send(Disconnect())
    await house.only(*clients)
    clients.append(await house.connect(as_nobody()))
    await clients[-1].ping()


async def test_more_subscriptions_than_allowed(build: Build) -> None:
    house: House = await build(max_subscriptions=3)
    client = await house.connect(as_account(ADA, "a"))
    assert [await client.subscribe(f"t{number}") for number in range(5)] == [0, 0, 0, SUBACK_FAILURE, SUBACK_FAILURE]
    assert await client.subscribe("t0", 1) == 1, "the same filter again is no further one"


async def test_limits_reach_the_session(build: Build) -> None:
    house: House = await build(
        max_packet_bytes=1_024, max_topic_bytes=64, max_topic_levels=4, max_wildcard_levels=2, max_client_id_bytes=23
    )
    rude = await house.connect()
    rude.send(as_nobody("x" * 24))
    assert await rude.expect_closed() == [Connack(False, 2)]
    wild = await house.connect(as_account(ADA, "wild"))
    assert [await wild.subscribe(topic_filter) for topic_filter in ("+/+", "+/+/+")] == [0, SUBACK_FAILURE]
    await wild.close()
    for packet in (Publish("t", b"x" * 1_024), Publish("t" * 65, b""), Publish("a/b/c/d/e", b"")):
        client = await house.connect(as_account(ADA, "a"))
        client.send(packet)
        assert await client.expect_closed() == []
    await house.check_others_are_served()


# -- listeners, and the end -----------------------------------------------------------------------------------------


async def test_several_listeners(house: House) -> None:
    assert house.listeners.port(tls=False) == house.port
    assert house.listeners.port(tls=True) is None
    host, port = await house.listeners.listen("127.0.0.1", 0)
    assert host == "127.0.0.1"
    assert port not in (0, house.port)
    assert house.listeners.port(tls=False) == house.port, "the first one is shown"
    client = await Client.open(port)
    await client.sign_in(as_nobody())
    await client.close()


async def test_a_port_that_is_taken(house: House) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the text is the system's
        await house.listeners.listen("127.0.0.1", house.port)


async def test_stop_listening_keeps_those_who_are_there(house: House) -> None:
    client = await house.connect(as_device(SENSOR))
    await house.listeners.stop_listening()

    async def is_refused() -> bool:
        try:
            late = await Client.open(house.port)
        except ConnectionError:
            return True
        await late.close()
        return False

    for _ in range(100):  # uvloop closes a listener at the end of its turn
        if await is_refused():
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("it still listens")
    await client.publish(PUBLISH_TOPIC, b"field1=1")


async def test_closing_tells_what_is_stored_before_it_ends(build: Build) -> None:
    house: House = await build(limits=IngestLimits(flush_interval_s=3_600))
    device, idle = await house.connect(as_device(SENSOR)), await house.connect(as_nobody())
    device.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1), Publish(PUBLISH_TOPIC, b"field1=2", 1, 2))
    await device.ping()
    await house.broker.close()
    assert await device.expect_closed() == [Acknowledgement(PacketType.PUBACK, number) for number in (1, 2)]
    assert await idle.expect_closed() == []
    assert await house.stored() == ["1", "2"]
    assert house.broker.connections == 0


async def test_closing_does_not_wait_for_a_client_that_does_not_read(build: Build) -> None:
    house: House = await build()
    slow = await house.connect(as_account(ADA, "slow"), receive_buffer_bytes=4_096)
    assert await slow.subscribe("flood") == 0
    slow.writer.transport.pause_reading()
    [connection] = house.broker.each_connection()
    transport = connection._transport
    assert transport is not None
    busy = await house.connect(as_account(ADA, "busy"))
    while not transport.get_write_buffer_size():
        await busy.publish("flood", b"x" * 50_000)
    await asyncio.wait_for(house.broker.close(), 5)
    await until(lambda: not house.broker.connections)


async def test_closing_without_clients(house: House) -> None:
    await house.broker.close()
    assert house.broker.connections == 0


class UnusedTransport:
    """A socket of a given address, which nothing comes from."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_aborted = False

    def get_extra_info(self, name: str) -> Any:
        return (self.address, 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True


async def test_the_addresses_that_one_host_may_have_count_as_one(build: Build) -> None:
    house: House = await build(max_connections_per_address=2)
    connections, transports = [], []
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"):
        transport, connection = UnusedTransport(address), house.broker.new_connection("tcp")
        connection.connection_made(cast(Any, transport))
        connections.append(connection)
        transports.append(transport)
    assert [transport.is_aborted for transport in transports] == [False, False, True, False]
    for connection in connections:
        connection.connection_lost(None)


async def test_a_fault_in_one_round_is_not_the_end_of_deadlines(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house: House = await build(connect_timeout_s=0.3)
    failures: list[str] = []

    def fail(*_: object) -> None:
        failures.append("failed")
        raise RuntimeError("a fault")

    with monkeypatch.context() as faulty:
        faulty.setattr(house.broker.wills, "sweep", fail)
        await until(lambda: failures, "a round that fails")
    victim, silent = await house.connect(as_account(ADA, "victim")), await house.connect()
    connection = house.connection("victim")
    with monkeypatch.context() as faulty:
        faulty.setattr(connection.protocol, "keep_alive_s", "no number")
        await victim.expect_closed()
    await silent.expect_closed()
    assert "deadlines could not be looked at" in [record.getMessage() for record in caplog.records]
