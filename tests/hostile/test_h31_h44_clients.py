"""H31 to H44: names, passwords, wills, properties, and ends in the middle of something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.client import Client
from broker.house import ADA, PORCH, SENSOR, House, as_account, as_device, as_lasting, as_nobody, token_of, write_key_of
from gated_store import until
from headwater.errors import NotAuthenticated
from headwater.model.principal import Grant, Principal
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscribe,
    Subscription,
    Will,
)

from .attack import (
    PROTOCOL_ERROR,
    as_level,
    attacker,
    check_served,
    drain,
    expect_end,
    frame,
    lasting,
    refused,
    strike,
    text,
)

Build = Callable[..., Any]
P = PropertyId
LEVELS = pytest.mark.parametrize("level", [4, 5])
ALIAS_INVALID, BANNED, NOT_AUTHORIZED, TOO_LARGE = 0x94, 0x8A, 0x87, 0x95


@pytest.mark.parametrize("name", ["+", "#", "/", "../x", "$SYS", "a b", "é", "%s", "'; --", "x" * 128])
async def test_h31_odd_client_ids_are_only_names(house: House, name: str) -> None:
    """Client ids are never part of a topic or a file name, so they are matched literally and may be anything."""
    client = await house.connect(as_account(ADA, name))
    await client.ping()
    other = await lasting(house, name)
    await expect_end(client)
    await other.close()
    await until(lambda: house.broker.sessions.offline == 1, "the session to be kept")
    assert [stored.client_id for stored in house.kept.load().sessions] in ([name], [])
    await check_served(house)


@LEVELS
async def test_h31_names_that_are_refused(house: House, level: int) -> None:
    for name in ("x" * 129, "x" * 60_000):
        [answer] = await refused(house, as_level(level, name))
        assert isinstance(answer, Connack)
    connect = render_packet(as_level(level, "abc"), level)
    for bad in (b"a\0c", b"a\x1bc", b"\xed\xa0\x80", b"a\x7fc"):
        assert await refused(house, connect.replace(b"abc", bad)) == []
    for username in ("+", "#", "../ada", "ada/x", "x" * 50_000, "ADA"):
        connection = Connect("x", username=username, password=b"wrong", level=ProtocolLevel(level))
        assert len(await refused(house, connection)) == 1


async def test_h32_wrong_passwords(build: Build) -> None:
    """One client id: refused without a look at the password after the limit, also with the right one. Another client
    of the same address is let in: the machine's own addresses are exempt from the limit for an address."""
    house: House = await build(max_failures_per_minute=5)
    codes = []
    for password in [b"wrong"] * 20 + [token_of(ADA).encode()]:
        client = await house.connect()
        client.send(Connect("x", username="ada", password=password, level=ProtocolLevel.V5))
        [answer] = await client.expect_closed()
        assert isinstance(answer, Connack)
        codes.append(answer.reason_code)
    assert codes == [NOT_AUTHORIZED] * 5 + [BANNED] * 16
    await house.connect(as_account(ADA, "y"))
    await check_served(house)


async def test_h32_slow_password_checks_hold_up_nobody(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 clients whose password takes long to check, and who go away meanwhile. They are not read from, so it is the
    deadline of CONNECT that ends them."""
    house: House = await build(connect_timeout_s=1.0)
    started = 0

    async def check() -> Principal:
        nonlocal started
        started += 1
        await asyncio.sleep(30)
        raise NotAuthenticated("too late")

    real = house.access.authenticate_mqtt
    monkeypatch.setattr(
        house.access, "authenticate_mqtt", lambda i, u, p: check() if i.startswith("slow") else real(i, u, p)
    )
    clients = [await house.connect() for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(Connect(f"slow-{number}", username="ada", password=b"x"))
    await until(lambda: started == 100, "the checks to begin")
    await check_served(house)
    for client in clients:
        client.reset()
    await house.only()
    await check_served(house)


@LEVELS
async def test_h35_wills_that_cannot_be(house: House, level: int) -> None:
    for topic in ("a/+", "#", "", "$SYS/x", "$share/g/t", "a/" * 40 + "b", "x" * 2_000):
        await refused(house, as_level(level, will=Will(topic, b"x", 0, False)))
    head = b"\0\4MQTT" + bytes((level,))
    rest = b"\0\0" + b"\0" * (level == 5) + text("x")
    for flags in (0x1E, 0x0A, 0x12, 0x22, 0x2A):  # will QoS 3; will QoS, will retain or both without a will
        assert await refused(house, frame(0x10, head + bytes((flags,)) + rest + b"\0" * 8)) == []
    await refused(house, as_level(level, will=Will("t", bytes(65_535), 0, False)))


@pytest.mark.parametrize("section", [b"\x02\x01\x02", b"\x04\x01\x01\x01\x01", b"\x03\x23\x00\x01", b"\x02\x7f\x00"])
async def test_h35_wills_with_bad_properties(house: House, section: bytes) -> None:
    connect = b"\0\4MQTT\5\6\0\0\0" + text("x") + section + text("t") + text("p")
    for _ in range(20):
        assert await refused(house, frame(0x10, connect)) == []


async def test_h36_a_thousand_wills_at_once(house: House) -> None:
    """1,000 clients instead of 10,000, cut in one moment: they go out a few in each turn of the loop."""
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("wills/+", 0) == 0
    clients: list[Client] = []
    for number in range(1_000):
        will = Will(f"wills/{number}", b"gone", 0, False)
        clients.append(await house.connect(as_account(ADA, f"c{number}", will=will)))
    for client in clients:
        client.reset()
    await check_served(house)
    assert {(await listener.message()).topic for _ in range(1_000)} == {f"wills/{n}" for n in range(1_000)}
    await house.only(listener)


async def test_h37_topic_aliases(house: House) -> None:
    most = house.settings.mqtt.topic_alias_maximum

    def publish(topic: str, alias: int) -> bytes:
        return frame(0x30, text(topic) + b"\x03\x23" + alias.to_bytes(2, "big") + b"x")

    for alias in (0, most + 1, 65_535):
        await strike(house, 5, publish("t", alias), ALIAS_INVALID)
    await strike(house, 5, publish("", 1), PROTOCOL_ERROR, ALIAS_INVALID)
    client = await attacker(house)
    assert await client.subscribe("#", 0) == 0
    client.send(publish("one", 1), publish("", 1), publish("two", 1), publish("", 1), publish("three", most))
    assert [(await client.message()).topic for _ in range(5)] == ["one", "one", "two", "two", "three"]
    client.send(Disconnect())
    await client.expect_closed()
    again = await lasting(house, "attacker")
    again.send(publish("", 1))  # they end with the connection
    await expect_end(again, PROTOCOL_ERROR, ALIAS_INVALID)


async def test_h38_numbers_at_the_edge(house: House) -> None:
    def connect(section: bytes, keep_alive: bytes = b"\0\0") -> bytes:
        name, password = text("ada"), text(token_of(ADA))
        head = b"\0\4MQTT\5\xc2" + keep_alive + bytes((len(section),)) + section
        return frame(0x10, head + text("x") + name + password)

    assert await refused(house, connect(b"\x21\0\0")) == []
    assert await refused(house, connect(b"\x27\0\0\0\0")) == []
    for most in (1, 2, 3, 4, 5):  # there is room for no answer
        assert await refused(house, connect(b"\x27\0\0\0" + bytes((most,)))) == []
    client = await house.connect()
    client.level = 5
    client.send(connect(b"\x11\xff\xff\xff\xff", b"\xff\xff"))
    answer = await client.read()
    assert isinstance(answer, Connack)
    settings = house.settings.mqtt
    assert answer.properties[P.SESSION_EXPIRY_INTERVAL] == settings.max_session_expiry_s
    assert answer.properties[P.SERVER_KEEP_ALIVE] == settings.max_keep_alive_s
    await check_served(house)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_h39_messages_that_are_too_large_for_one(house: House, qos: int) -> None:
    publisher = await attacker(house, client_id="publisher")
    await publisher.publish("kept", b"x" * 500, retain=True)
    small = await attacker(house, client_id="small", properties={P.MAXIMUM_PACKET_SIZE: 100})
    large = await attacker(house, client_id="large")
    for client in (small, large):
        assert await client.subscribe("#", qos) == qos
    for _ in range(50):
        await publisher.publish("t", b"x" * 500, qos)
    await publisher.publish("t", b"small", qos)
    assert (await small.message(acknowledge=True)).payload == b"small"
    assert len((await large.message(acknowledge=True)).payload) == 500
    session = house.session("small")
    assert session.dropped == {"maximum_packet_size": 51}
    await until(lambda: not session.in_flight, "nothing to be in flight")
    await check_served(house)


async def test_h40_messages_that_expire(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that nobody sets: stepping the time of day changes nothing."""
    away = await lasting(house, "away")
    assert await away.subscribe("t", 1) == 1
    await away.close()
    await until(lambda: house.broker.sessions.offline == 1, "the client to be away")
    publisher = await attacker(house, client_id="publisher")
    for expiry_s in (0, 1, 0xFFFFFFFF):
        expires = {P.MESSAGE_EXPIRY_INTERVAL: expiry_s}
        await publisher.publish("t", str(expiry_s).encode(), retain=True, properties=expires)
    await publisher.publish("u", b"1", retain=True, properties={P.MESSAGE_EXPIRY_INTERVAL: 1})
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 10**18)
    await asyncio.sleep(1.1)
    back = await lasting(house, "away")
    message = await back.message()
    assert message.payload == b"4294967295"
    assert 0 < message.properties[P.MESSAGE_EXPIRY_INTERVAL] < 0xFFFFFFFF
    assert await back.subscribe("u", 1) == 1
    await back.ping()
    assert not back.received
    await check_served(house)


async def test_h41_disconnects(house: House) -> None:
    lasts = {P.SESSION_EXPIRY_INTERVAL: 100}
    client = await attacker(house)
    client.send(Disconnect(0, lasts))
    await expect_end(client, PROTOCOL_ERROR)
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("will", 0) == 0
    will = Will("will", b"x", 0, False)
    for sent in (frame(0xE1, b""), frame(0xE0, b"\0\0\0"), frame(0xE0, b"\x04"), frame(0xE0, b"\0" + b"\x7f")):
        client = await attacker(house, will=will)
        client.send(sent)
        await client.expect_closed()
        assert (await listener.message()).payload == b"x", sent
    client = await attacker(house, will=will)
    client.send(Disconnect(), Publish("will", b"after"), Pingreq())
    assert await client.expect_closed() == []
    await listener.ping()
    assert not listener.received
    await check_served(house)


@LEVELS
async def test_h42_a_second_connect(house: House, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    connect = render_packet(as_level(level), level)
    client = await house.connect()
    client.level = level
    client.send(connect + connect)
    await expect_end(client, PROTOCOL_ERROR)
    go_on = asyncio.Event()
    real = house.access.authenticate_mqtt

    async def check(*who: Any) -> Principal:
        await go_on.wait()
        principal = real(*who)
        assert isinstance(principal, Principal)
        return principal

    monkeypatch.setattr(house.access, "authenticate_mqtt", lambda *who: check(*who))
    pending = await house.connect()
    pending.level = level
    pending.send(connect)
    await until(lambda: any(c._signing_in for c in house.broker.each_connection()), "the check to begin")
    pending.send(connect)
    go_on.set()
    await expect_end(pending, PROTOCOL_ERROR)
    monkeypatch.undo()
    await house.only()
    assert not len(house.broker.sessions)


@pytest.mark.parametrize("is_right", [True, False])
async def test_h43_megabytes_before_the_answer(house: House, monkeypatch: pytest.MonkeyPatch, is_right: bool) -> None:
    """While a password is checked little is read; what was sent is taken in afterwards, or forgotten."""
    go_on = asyncio.Event()
    real = house.access.authenticate_mqtt
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("t", 0) == 0

    async def check(*who: Any) -> Principal:
        await go_on.wait()
        if not is_right:
            raise NotAuthenticated("wrong")
        principal = real(*who)
        assert isinstance(principal, Principal)
        return principal

    monkeypatch.setattr(house.access, "authenticate_mqtt", lambda *who: check(*who))
    client = await house.connect()
    client.send(render_packet(as_level(4)), render_packet(Publish("t", b"x" * 1_000)) * 5_000)
    await until(lambda: any(c._signing_in for c in house.broker.each_connection()), "the check to begin")
    await asyncio.sleep(0.1)
    [waiting] = [c for c in house.broker.each_connection() if c._signing_in]
    assert len(waiting._held) + len(waiting.protocol._tail or b"") < 1_000_000
    monkeypatch.undo()
    await check_served(house)
    go_on.set()
    if is_right:
        await client.expect(Connack(False, 0))
        for _ in range(5_000):
            await listener.message()
    else:
        assert len(await client.expect_closed()) == 1
        await listener.ping()
        assert not listener.received
    await check_served(house)


@pytest.mark.parametrize("how", ["reset", "half close"])
async def test_h44_gone_in_the_middle(house: House, how: str) -> None:
    publisher = await attacker(house, client_id="publisher")
    for n in range(500):
        publisher.send(Publish(f"r/{n}", b"x" * 2_000, retain=True))
    await publisher.ping()
    for number in range(30):
        client = await house.connect(as_account(ADA, f"c{number}"), receive_buffer_bytes=4_096)
        client.send(Subscribe(1, (Subscription("#", number % 3),)))
        if how == "reset":
            if number % 2:
                await client.read()
            client.reset()
        else:
            client.writer.write_eof()
            await drain(client, 0.05)
            await client.close()
    await house.only(publisher)
    await check_served(house)


async def test_h47_rights_that_are_withdrawn(house: House) -> None:
    """While subscribed, with messages queued, and while connected: nothing more is delivered or kept."""
    topic = f"channels/{PORCH}/subscribe/fields/field1"
    device = await house.connect(as_lasting(as_device(SENSOR)))
    assert await device.subscribe(topic, 1) == 1
    house.put_device(SENSOR, Grant(PORCH, allow_publish=True, allow_subscribe=False))
    await device.publish(f"channels/{PORCH}/publish", b"field1=1")
    await device.ping()
    assert not device.received
    house.put_device(SENSOR, Grant(PORCH, allow_publish=True, allow_subscribe=True))
    assert await device.subscribe(topic, 1) == 1
    await device.close()
    await until(lambda: house.broker.sessions.offline == 1, "the device to be away")
    writer = await house.connect(as_nobody())
    await writer.publish(f"channels/{PORCH}/publish/{write_key_of(PORCH)}", b"field1=2")
    await until(lambda: house.session("device21").queued == 1, "the message to be queued")
    house.put_device(SENSOR, Grant(PORCH, allow_publish=True, allow_subscribe=False))
    assert house.session("device21").queued == 0
    back = await house.connect(as_lasting(as_device(SENSOR)))
    await back.ping()
    assert not back.received
    house.put_device(SENSOR, is_enabled=False)
    assert await back.expect_closed() == []
    assert not len(house.broker.sessions)
    await check_served(house)
