"""From CONNECT to a session: what a client is told, limits, blocks, certificates, and names that are given."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from gated_store import until
from headwater.broker import connection as connection_module
from headwater.mqtt.packets import Connack, Connect, ConnectReturnCode, PropertyId, ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode
from headwater.services.connect_limits import claimed_client

from .client import Client, Closed
from .house import ADA, BOB, SENSOR, House, as_account, as_device, as_nobody

Build = Callable[..., Any]
V5 = ProtocolLevel.V5


async def refused(house: House, connect: Connect) -> int:
    client = await house.connect()
    client.send(connect)
    [connack] = await client.expect_closed()
    assert isinstance(connack, Connack)
    assert not connack.session_present
    return connack.reason_code


async def why_refused(house: House, connect: Connect) -> str:
    client = await house.connect()
    client.send(connect)
    [connack] = await client.expect_closed()
    assert isinstance(connack, Connack)
    words: str = connack.properties[PropertyId.REASON_STRING]
    return words


def connack_of(client: Client) -> Connack:
    assert client.connack is not None
    return client.connack


async def test_mqtt_5_is_told_what_is_limited_here(build: Build) -> None:
    """Section 3.2.2.3"""
    house: House = await build(receive_maximum=7, max_packet_bytes=5_000, topic_alias_maximum=3, max_keep_alive_s=100)
    client = await house.connect(as_account(ADA, "c", level=V5, keep_alive_s=60))
    assert connack_of(client).properties == {
        PropertyId.RECEIVE_MAXIMUM: 7,
        PropertyId.MAXIMUM_PACKET_SIZE: 5_000,
        PropertyId.TOPIC_ALIAS_MAXIMUM: 3,
    }
    for keep_alive_s in (0, 101):
        client = await house.connect(as_account(ADA, "c", level=V5, keep_alive_s=keep_alive_s))
        assert connack_of(client).properties[PropertyId.SERVER_KEEP_ALIVE] == 100  # [MQTT-3.1.2-21]


async def test_a_client_without_an_id_gets_one(house: House) -> None:
    """[MQTT-3.1.3-6] [MQTT-3.2.2-16]"""
    names = set()
    for _ in range(2):
        client = await house.connect(as_account(ADA, "", level=V5))
        names.add(connack_of(client).properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER])
    old = await house.connect(as_account(ADA, ""))
    assert connack_of(old).properties == {}
    assert len(names) == 2
    assert names < {entry.session.client_id for entry in house.broker.sessions}


@pytest.mark.parametrize("level", [4, 5])
async def test_failed_sign_ins_block_their_client_and_nobody_else(build: Build, level: int) -> None:
    house: House = await build(max_failures_per_minute=3, failures_block_s=1_000)
    wrong = as_device(SENSOR, "guess", level=ProtocolLevel(level))
    denied = ReasonCode.NOT_AUTHORIZED if level == 5 else ConnectReturnCode.NOT_AUTHORIZED
    banned = ReasonCode.BANNED if level == 5 else ConnectReturnCode.NOT_AUTHORIZED
    assert [await refused(house, wrong) for _ in range(5)] == [denied] * 3 + [banned] * 2
    assert await refused(house, as_device(SENSOR, level=ProtocolLevel(level))) == banned, "guessing has come to an end"
    await house.connect(as_account(ADA, "another", level=ProtocolLevel(level)))
    other = Connect(wrong.client_id, username="somebody", password=b"guess", level=ProtocolLevel(level))
    assert await refused(house, other) == denied, "another account's device may have the same id"
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    assert "guess" not in refusal.reason


async def test_who_is_blocked_is_told_for_how_long(build: Build) -> None:
    house: House = await build(max_failures_per_minute=1, failures_block_s=1_000)
    for connect in (as_device(SENSOR, "guess", level=V5), Connect("no such", username="x", password=b"y", level=V5)):
        assert await refused(house, connect) == ReasonCode.NOT_AUTHORIZED
        assert re.fullmatch(
            "limit max_failures_per_minute: too many failed sign-ins, try again in (1000|9[0-9]{2}) s; "
            "a device's owner can lift it with a new password",
            await why_refused(house, connect),
        )


@pytest.mark.parametrize("client_id", ["", "mosq-1"])
async def test_a_forgotten_client_id_is_told_to_the_owner_only(
    house: House, caplog: pytest.LogCaptureFixture, client_id: str
) -> None:
    name = f"device{SENSOR}"
    right = Connect(client_id, username=name, password=b"secret", level=V5)
    wrong = Connect("mosq-2", username="nobody", password=b"guess", level=V5)
    answers = []
    with caplog.at_level("INFO"):
        for connect in (right, wrong):
            client = await house.connect()
            client.send(connect)
            answers += await client.expect_closed()
    assert answers == [Connack(False, ReasonCode.NOT_AUTHORIZED)] * 2
    cause = f"user name and password are right, but the client ID has to be {name}, as on the device's page"
    noted = house.refusals.of_device(SENSOR)
    assert noted is not None
    assert [refusal.reason for refusal in noted.reasons] == [f"sign-in refused: {cause} (from 127.0.0.1)"]
    assert any(cause in str(record.__dict__) for record in caplog.records)


async def test_a_client_id_that_is_too_long_is_told_the_limit(build: Build) -> None:
    house: House = await build(max_client_id_bytes=30)
    words = "the client id is longer than 30 bytes (setting mqtt.max_client_id_bytes)"
    assert await why_refused(house, as_account(ADA, "x" * 31, level=V5)) == words
    assert await refused(house, as_account(ADA, "x" * 31)) == ConnectReturnCode.IDENTIFIER_REJECTED


async def test_an_account_has_so_many_connections(build: Build) -> None:
    house: House = await build(max_connections_per_account=2)
    first = await house.connect(as_account(ADA, "1"))
    await house.connect(as_device(SENSOR))
    assert await refused(house, as_account(ADA, "3", level=V5)) == ReasonCode.QUOTA_EXCEEDED
    assert await refused(house, as_account(ADA, "3")) == ConnectReturnCode.SERVER_UNAVAILABLE
    await house.connect(as_account(BOB, "1"))
    await house.connect(as_nobody("1"))
    await first.close()
    await until(lambda: house.broker.connections == 3)
    await house.connect(as_account(ADA, "3"))


async def test_at_the_limit_a_client_may_take_its_own_place(build: Build) -> None:
    house: House = await build(max_connections_per_account=2)
    await house.connect(as_account(ADA, "1"))
    older = await house.connect(as_account(ADA, "2"))
    await house.connect(as_account(ADA, "2"))
    assert await older.expect_closed() == []
    assert await refused(house, as_account(ADA, "3")) == ConnectReturnCode.SERVER_UNAVAILABLE


async def test_many_sign_ins_at_once_are_not_taken_for_failures(build: Build) -> None:
    house: House = await build(max_failures_per_minute=3)
    client, limits = as_device(SENSOR, level=V5), house.broker.sign_in.limits
    claimed = f"{client.username}/{client.client_id}"
    for _ in range(3):
        assert limits.check("127.0.0.1", claimed) is None
    assert await refused(house, client) == ReasonCode.SERVER_BUSY
    limits.succeeded("127.0.0.1", claimed)
    await house.connect(client)


async def test_an_address_may_connect_so_often(build: Build) -> None:
    house: House = await build(max_connects_per_second_per_address=3)
    clients = [await house.connect() for _ in range(8)]
    answered = 0
    for client in clients:
        client.send(as_nobody())
        answered += bool(isinstance((await first_or_none(client)), Connack))
    assert 3 <= answered < 8


async def first_or_none(client: Client) -> object:
    try:
        return await client.read()
    except (Closed, ConnectionError):
        return None


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_certificate_signs_in_where_it_may(
    build: Build, monkeypatch: pytest.MonkeyPatch, *, is_allowed: bool
) -> None:
    """The name in a verified certificate is the device; that it is verified is the listener's part."""
    monkeypatch.setattr(connection_module, "common_name", lambda _: f"device{SENSOR}")
    house: House = await build(certificate_sign_in=is_allowed, allow_topic_keys=False)
    connect = Connect(f"device{SENSOR}")
    if is_allowed:
        await house.connect(connect)
        assert house.connection(f"device{SENSOR}").principal.device_id == SENSOR
        assert await refused(house, Connect("another id")) == ConnectReturnCode.NOT_AUTHORIZED
    else:
        assert await refused(house, connect) == ConnectReturnCode.NOT_AUTHORIZED


async def test_failures_with_a_certificate_count_for_the_device_that_it_names(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house: House = await build(certificate_sign_in=True, max_failures_per_minute=3)
    limits, named = house.broker.sign_in.limits, f"device{SENSOR}"
    monkeypatch.setattr(connection_module, "common_name", lambda _: named)
    denied = [await refused(house, Connect(f"another {number}", level=V5)) for number in range(4)]
    assert denied == [ReasonCode.NOT_AUTHORIZED] * 3 + [ReasonCode.BANNED]
    assert await refused(house, Connect(named, level=V5)) == ReasonCode.BANNED
    (block,) = limits.blocks_of(claimed_client(named, named)).last
    assert (block.network, block.refused) == ("127.0.0.1", 2)
    named = "ada/porch"
    denied = [await refused(house, Connect("porch", level=V5)) for _ in range(4)]
    assert denied == [ReasonCode.NOT_AUTHORIZED] * 3 + [ReasonCode.BANNED], "that one is counted for itself"
    named = "bob/porch"
    assert await refused(house, Connect("porch", level=V5)) == ReasonCode.NOT_AUTHORIZED, "another account's"
    named = f"device{SENSOR}"
    limits.lift(claimed_client(named, named))
    await house.connect(Connect(named, level=V5))


async def test_a_password_comes_before_a_certificate(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "common_name", lambda _: f"device{SENSOR}")
    house: House = await build(certificate_sign_in=True)
    await house.connect(as_account(ADA, "c"))
    assert house.connection("c").principal.account_id == ADA
    assert await refused(house, as_device(SENSOR, "wrong")) == ConnectReturnCode.NOT_AUTHORIZED
