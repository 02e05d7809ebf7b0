"""Sessions between connections: take-over, expiry, clean starts, limits, rights, restarts, shared groups."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from gated_store import until
from headwater.broker import router
from headwater.model.principal import Grant
from headwater.mqtt.packets import (
    SUBACK_FAILURE,
    Acknowledgement,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    PacketType,
    PropertyId,
    ProtocolLevel,
    Publish,
)
from headwater.mqtt.reason_codes import ReasonCode

from .house import (
    ADA,
    BOB,
    CELLAR,
    PORCH,
    READER,
    SENSOR,
    House,
    as_account,
    as_device,
    as_lasting,
    as_nobody,
    write_key_of,
)

Build = Callable[..., Any]
PUBLISH_TOPIC = f"channels/{PORCH}/publish"
FIELD_TOPIC = f"channels/{PORCH}/subscribe/fields/field1"
LEVELS = pytest.mark.parametrize("level", [4, 5])


def lasting(client_id: str, level: int = 4, account_id: int = ADA, expiry_s: int = 3_600) -> Connect:
    return as_lasting(as_account(account_id, client_id), level=level, expiry_s=expiry_s)


async def leave(house: House, client: Any) -> None:
    """Vanish, and wait until the broker knows."""
    before = house.broker.connections
    client.reset()
    await until(lambda: house.broker.connections < before, "the connection to be gone")


# -- away and back --------------------------------------------------------------------------------------------------


@LEVELS
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_comes_while_a_client_is_away_waits_for_it(house: House, level: int, qos: int) -> None:
    """[MQTT-3.1.2-5]: subscriptions and QoS 1 and 2 messages stay, QoS 0 does not."""
    client = await house.connect(lasting("c", level))
    assert client.connack is not None
    assert not client.connack.session_present
    assert await client.subscribe("t", qos) == qos
    await leave(house, client)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"0", qos=0)
    for payload in (b"1", b"2"):
        await publisher.publish("t", payload, qos=2)
    client = await house.connect(lasting("c", level))
    assert client.connack is not None
    assert client.connack.session_present
    got = [await client.message(acknowledge=True) for _ in range(2)]
    assert [(message.payload, message.qos, message.dup) for message in got] == [(b"1", qos, False), (b"2", qos, False)]
    await client.ping()
    assert house.session("c").in_flight == 0
    assert house.broker.sessions.budget.messages == 0


@LEVELS
async def test_a_clean_start_forgets_everything(house: House, level: int) -> None:
    """[MQTT-3.1.2-4] of 5.0, [MQTT-3.1.2-6] of 3.1.1"""
    client = await house.connect(lasting("c", level))
    await client.subscribe("t", 1)
    await leave(house, client)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"1")
    client = await house.connect(as_account(ADA, "c", level=ProtocolLevel(level)))
    assert client.connack is not None
    assert not client.connack.session_present
    await publisher.publish("t", b"2")
    await client.ping()
    assert client.received == []
    await leave(house, client)
    assert [entry.session.client_id for entry in house.broker.sessions] == ["p"]


async def test_a_session_ends_with_its_connection_or_after_its_time(house: House) -> None:
    """[MQTT-4.1.0-2] and section 3.1.2.11.2"""
    short = await house.connect(as_account(ADA, "short"))
    brief = await house.connect(lasting("brief", 5, expiry_s=1))
    longer = await house.connect(lasting("longer", 5, expiry_s=1_000))
    for client in (short, brief, longer):
        await client.subscribe("t", 1)
        await leave(house, client)
    assert house.broker.router.subscriptions == 2
    assert house.broker.sessions.offline == 2
    await until(lambda: len(house.broker.sessions) == 1, "the brief session to end")
    assert house.broker.router.subscriptions == 1
    kept = await house.kept_at_a_crash()
    assert [stored.client_id for stored in kept.load().sessions] == ["longer"]


async def test_disconnect_may_end_a_session_at_once(house: House) -> None:
    """Section 3.14.2.2.2"""
    client = await house.connect(lasting("c", 5))
    await client.subscribe("t", 1)
    client.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0}))
    assert await client.expect_closed() == []
    await house.only()
    assert len(house.broker.sessions) == 0


async def test_expiry_is_granted_up_to_a_limit_and_the_client_is_told(build: Build) -> None:
    """Section 3.2.2.3.2"""
    house: House = await build(session_expiry_s=50, max_session_expiry_s=100)
    for expiry_s, told in ((10, None), (100, None), (5_000, 100), (0xFFFF_FFFF, 100)):
        client = await house.connect(lasting("c", 5, expiry_s=expiry_s))
        assert client.connack is not None
        assert client.connack.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL) == told
        assert house.session("c").expiry_s == (told or expiry_s)
    await house.connect(lasting("old", 4))
    assert house.session("old").expiry_s == 50


# -- one id ---------------------------------------------------------------------------------------------------------


@LEVELS
async def test_3_1_4_3_a_newer_connection_takes_over_with_what_is_in_flight(house: House, level: int) -> None:
    """[MQTT-3.1.4-3] [MQTT-4.4.0-1]"""
    older = await house.connect(lasting("c", level))
    await older.subscribe("t", 1)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"1")
    await older.message()
    newer = await house.connect(lasting("c", level))
    if level == 5:
        await older.expect_disconnect(ReasonCode.SESSION_TAKEN_OVER)
    else:
        assert await older.expect_closed() == []
    again = await newer.message(acknowledge=True)
    assert (again.payload, again.dup, again.packet_id) == (b"1", True, 1)


async def test_two_clients_with_one_id_do_not_fight_for_ever(build: Build) -> None:
    """The one that is here stays, and the newcomer is told to look at its id."""
    house: House = await build(max_takeovers_per_minute=3)
    for _ in range(4):
        holder = await house.connect(as_account(ADA, "twin", level=ProtocolLevel.V5))
    for level, code in ((5, ReasonCode.SERVER_BUSY), (4, ConnectReturnCode.SERVER_UNAVAILABLE)):
        twin = await house.connect()
        twin.send(as_account(ADA, "twin", level=ProtocolLevel(level)))
        [connack] = await twin.expect_closed()
        assert isinstance(connack, Connack)
        assert connack.reason_code == code
    await holder.ping()
    await house.connect(as_account(ADA, "another"))
    await holder.close()
    await until(lambda: house.broker.connections == 1)
    await house.connect(as_account(ADA, "twin"))


async def test_a_session_is_its_principals_own(house: House) -> None:
    """Nobody gets what waits for another by knowing its client id."""
    client = await house.connect(lasting("same", 5))
    await client.subscribe("t", 1)
    await leave(house, client)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"secret")
    for connect in (lasting("same", 5, BOB), as_lasting(as_nobody("same"), level=5)):
        stranger = await house.connect(connect)
        assert stranger.connack is not None
        assert not stranger.connack.session_present
        await stranger.ping()
        assert stranger.received == []


async def test_keys_in_topics_leave_no_session(house: House) -> None:
    nobody = await house.connect(as_lasting(as_nobody("n"), level=4))
    await nobody.publish(f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}", b"field1=1")
    await leave(house, nobody)
    assert len(house.broker.sessions) == 0
    nobody = await house.connect(as_lasting(as_nobody("n"), level=4))
    assert nobody.connack == Connack(False, 0)


# -- limits ---------------------------------------------------------------------------------------------------------


async def test_an_account_has_so_many_sessions(build: Build) -> None:
    house: House = await build(max_sessions_per_account=2)
    first = await house.connect(lasting("1", 5))
    await house.connect(lasting("2", 5))
    for level, code in ((5, ReasonCode.QUOTA_EXCEEDED), (4, ConnectReturnCode.SERVER_UNAVAILABLE)):
        refused = await house.connect()
        refused.send(lasting("3", level))
        [connack] = await refused.expect_closed()
        assert isinstance(connack, Connack)
        assert connack.reason_code == code
    await house.connect(as_account(ADA, "without a session"))
    await house.connect(lasting("of another account", 5, BOB))
    await leave(house, first)
    again = await house.connect(lasting("1", 5))
    assert again.connack is not None
    assert again.connack.session_present, "one of its own is no further one"
    again.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0}))
    await again.expect_closed()
    await until(lambda: len(house.broker.sessions) == 3)
    await house.connect(lasting("3", 5))


async def test_what_waits_for_one_that_is_away_is_bounded(build: Build) -> None:
    house: House = await build(max_queued_messages=3)
    client = await house.connect(lasting("c"))
    await client.subscribe("t", 1)
    await leave(house, client)
    publisher = await house.connect(as_account(ADA, "p"))
    for number in range(10):
        await publisher.publish("t", b"%d" % number)
    assert house.session("c").dropped == {"max_queued_messages": 7}
    client = await house.connect(lasting("c"))
    assert [(await client.message()).payload for _ in range(3)] == [b"7", b"8", b"9"]


# -- rights ---------------------------------------------------------------------------------------------------------


async def test_who_may_not_come_back_leaves_nothing(house: House) -> None:
    device, account = as_lasting(as_device(READER), level=4), lasting("c")
    for connect, topic in ((device, FIELD_TOPIC), (account, "t")):
        client = await house.connect(connect)
        assert await client.subscribe(topic, 1) == 1
        await leave(house, client)
    house.access.drop_device(READER)
    assert [entry.session.client_id for entry in house.broker.sessions] == ["c"]
    house.access.drop_account(ADA)
    assert len(house.broker.sessions) == 0
    assert house.broker.router.subscriptions == 0
    assert (await house.kept_at_a_crash()).load().sessions == []


async def test_a_withdrawn_right_reaches_what_waits_for_a_client_that_is_away(house: House) -> None:
    client = await house.connect(as_lasting(as_device(READER), level=4))
    assert await client.subscribe(FIELD_TOPIC, 1) == 1
    await leave(house, client)
    writer = await house.connect(as_account(ADA, "w"))
    await writer.publish(PUBLISH_TOPIC, b"field1=1")
    await until(lambda: house.session(f"device{READER}").queued)
    house.put_device(READER)
    assert house.session(f"device{READER}").queued == 0
    house.put_device(READER, Grant(PORCH, allow_publish=False, allow_subscribe=True))
    await writer.publish(PUBLISH_TOPIC, b"field1=2")
    client = await house.connect(as_lasting(as_device(READER), level=4))
    await client.ping()
    assert client.received == [], "neither the message nor the subscription"


async def test_a_new_password_ends_the_connection_and_not_the_session(house: House) -> None:
    """The device is still the same; whoever holds the old password is not let in again."""
    connect = as_lasting(as_device(SENSOR), level=4)
    device = await house.connect(connect)
    assert await device.subscribe(FIELD_TOPIC, 1) == 1
    house.put_device(SENSOR, Grant(PORCH, True, True), password="newer")
    assert await device.expect_closed() == []
    again = await house.connect(as_lasting(as_device(SENSOR, "newer"), level=4))
    assert again.connack == Connack(True, 0)


# -- shared groups ---------------------------------------------------------------------------------------------------


@LEVELS
async def test_a_member_that_goes_hands_over_what_it_was_not_sent(build: Build, level: int) -> None:
    """Section 4.8.2: what is under way to it stays its own."""
    house: House = await build(max_in_flight=1)
    slow = await house.connect(lasting("slow", level))
    await slow.subscribe("$share/g/t", 1)
    publisher = await house.connect(as_account(ADA, "p"))
    for number in range(4):
        await publisher.publish("t", b"%d" % number)
    assert (await slow.message()).payload == b"0"
    quick = await house.connect(as_account(ADA, "quick", level=ProtocolLevel(level)))
    await quick.subscribe("$share/g/t", 1)
    await leave(house, slow)
    got = [(await quick.message(acknowledge=True)).payload for _ in range(3)]
    assert got == [b"1", b"2", b"3"]
    await publisher.publish("t", b"4")
    assert (await quick.message(acknowledge=True)).payload == b"4", "while the other is away"
    slow = await house.connect(lasting("slow", level))
    again = await slow.message(acknowledge=True)
    assert (again.payload, again.dup) == (b"0", True)


async def test_a_group_of_members_that_are_all_away_keeps_its_messages(house: House) -> None:
    for client_id in ("a", "b"):
        client = await house.connect(lasting(client_id))
        await client.subscribe("$share/g/t", 1)
        await leave(house, client)
    publisher = await house.connect(as_account(ADA, "p"))
    for number in range(6):
        await publisher.publish("t", b"%d" % number)
    got = []
    for client_id in ("a", "b"):
        client = await house.connect(lasting(client_id))
        queued = house.session(client_id).in_flight
        got += [(await client.message(acknowledge=True)).payload for _ in range(queued)]
    assert sorted(got) == [b"%d" % number for number in range(6)]


async def test_unsubscribing_hands_over_too(build: Build) -> None:
    house: House = await build(max_in_flight=1)
    slow = await house.connect(as_account(ADA, "slow"))
    await slow.subscribe("$share/g/t", 1)
    publisher = await house.connect(as_account(ADA, "p"))
    for number in range(3):
        await publisher.publish("t", b"%d" % number)
    other = await house.connect(as_account(ADA, "other"))
    await other.subscribe("$share/g/t", 1)
    await slow.unsubscribe("$share/g/t")
    assert [(await other.message(acknowledge=True)).payload for _ in range(2)] == [b"1", b"2"]


@LEVELS
async def test_a_session_that_ends_leaves_its_messages_to_those_that_are_away(build: Build, level: int) -> None:
    """Section 4.8.2: also what it was sent and has not acknowledged, if that was QoS 1; in order."""
    house: House = await build(max_in_flight=2)
    heir = await house.connect(lasting("heir", level))
    await heir.subscribe("$share/g/t", 2)
    await leave(house, heir)
    ending = await house.connect(as_account(ADA, "ending", level=ProtocolLevel(level)))
    await ending.subscribe("$share/g/t", 2)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"0", qos=2)
    for payload in (b"1", b"2", b"3"):
        await publisher.publish("t", payload, qos=1)
    assert [(await ending.message()).payload for _ in range(2)] == [b"0", b"1"]
    own = house.session("ending")
    assert (own.in_flight, own.queued) == (2, 2)
    await leave(house, ending)
    assert house.session("heir").queued == 3
    heir = await house.connect(lasting("heir", level))
    assert [(await heir.message(acknowledge=True)).payload for _ in range(3)] == [b"1", b"2", b"3"]


async def test_what_nobody_is_left_for_is_counted(build: Build) -> None:
    house: House = await build(max_in_flight=1)
    alone = await house.connect(as_account(ADA, "alone"))
    await alone.subscribe("$share/g/t", 1)
    await alone.subscribe("own", 1)
    publisher = await house.connect(as_account(ADA, "p"))
    for topic in ("t", "t", "t", "own"):
        await publisher.publish(topic, b"x")
    await alone.message()
    await leave(house, alone)
    assert house.broker.figures.totals().dropped["session_ended"] == 3


async def test_unsubscribing_leaves_to_members_that_are_away(build: Build) -> None:
    """What is under way still comes [MQTT-3.10.4-3]."""
    house: House = await build(max_in_flight=1)
    slow = await house.connect(as_account(ADA, "slow"))
    await slow.subscribe("$share/g/t", 1)
    publisher = await house.connect(as_account(ADA, "p"))
    for number in range(3):
        await publisher.publish("t", b"%d" % number)
    other = await house.connect(lasting("other"))
    await other.subscribe("$share/g/t", 1)
    await leave(house, other)
    await slow.unsubscribe("$share/g/t")
    assert house.session("slow").in_flight == 1
    assert house.session("slow").queued == 0
    other = await house.connect(lasting("other"))
    assert [(await other.message(acknowledge=True)).payload for _ in range(2)] == [b"1", b"2"]


async def test_what_a_group_owes_is_known_after_a_restart(build: Build) -> None:
    house: House = await build(max_in_flight=1)
    away = await house.connect(lasting("away"))
    await away.subscribe("$share/g/t", 1)
    await leave(house, away)
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"x")
    later: House = await build(kept=await house.kept_at_a_crash())
    heir = await later.connect(as_account(ADA, "heir"))
    await heir.subscribe("$share/g/t", 1)
    await later.connect(as_account(ADA, "away"))  # a clean start ends the old session
    assert (await heir.message(acknowledge=True)).payload == b"x"


# -- restarts -------------------------------------------------------------------------------------------------------


@LEVELS
@pytest.mark.parametrize("is_crash", [False, True])
async def test_a_session_survives_a_restart(build: Build, level: int, *, is_crash: bool) -> None:
    """Subscriptions with their options, what is owed with its identifiers, what was received and not released."""
    house: House = await build()
    client = await house.connect(lasting("c", level))
    await client.subscribe("a/+", 2)
    await client.subscribe("b", 1)
    client.send(Publish("elsewhere", b"x", 2, 77))
    await client.expect(Acknowledgement(PacketType.PUBREC, 77))
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("a/1", b"sent", qos=1)
    assert (await client.message()).packet_id == 1
    await publisher.publish("a/2", b"received", qos=2)
    second = await client.message()
    client.send(Acknowledgement(PacketType.PUBREC, second.packet_id or 0))
    await client.expect(Acknowledgement(PacketType.PUBREL, second.packet_id or 0))
    await leave(house, client)
    await publisher.publish("b", b"waited", qos=1)
    kept = house.kept
    if is_crash:
        kept = await house.kept_at_a_crash()
    else:
        await house.close()
    later: House = await build(kept=kept)
    assert later.broker.sessions.offline == 1
    assert later.broker.router.subscriptions == 2
    client = await later.connect(lasting("c", level))
    assert client.connack is not None
    assert client.connack.session_present
    seen = [await client.read() for _ in range(3)]
    assert Acknowledgement(PacketType.PUBREL, second.packet_id or 0) in seen
    messages = [packet for packet in seen if isinstance(packet, Publish)]
    assert [(m.payload, m.dup, m.packet_id) for m in messages] == [(b"sent", True, 1), (b"waited", False, 3)]
    publisher = await later.connect(as_account(ADA, "p"))
    heard = await later.connect(as_account(ADA, "h"))
    await heard.subscribe("elsewhere", 1)
    client.send(Publish("elsewhere", b"x", 2, 77, dup=True))
    await client.expect(Acknowledgement(PacketType.PUBREC, 77))
    await heard.ping()
    assert heard.received == [], "it was taken in before"
    client.send(Acknowledgement(PacketType.PUBCOMP, second.packet_id or 0))
    await publisher.publish("a/3", b"new", qos=2)
    assert (await client.message()).payload == b"new"


async def test_the_identifier_of_a_subscription_survives_too(build: Build) -> None:
    house: House = await build()
    client = await house.connect(lasting("c", 5))
    await client.subscribe("t", 1, subscription_id=9, retain_as_published=True, no_local=True)
    later: House = await build(kept=await house.kept_at_a_crash())
    client = await later.connect(lasting("c", 5))
    await client.publish("t", b"own")
    publisher = await later.connect(as_account(ADA, "p", level=ProtocolLevel.V5))
    await publisher.publish("t", b"x", retain=True)
    message = await client.message()
    assert (message.payload, message.retain) == (b"x", True)
    assert message.properties == {PropertyId.SUBSCRIPTION_IDENTIFIER: (9,)}


async def test_quotas_that_are_lower_after_a_restart_are_for_new_subscriptions(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels of an account, subscriptions of a client, groups of a filter: what was granted stays."""
    stored = [*(f"+/{number}/b/c/d" for number in range(30)), "$share/one/t", "$share/other/t"]
    house: House = await build()
    client = await house.connect(lasting("c"))
    for topic_filter in stored:
        assert await client.subscribe(topic_filter, 1) == 1
    await leave(house, client)
    monkeypatch.setattr(router, "MAX_GROUPS_PER_FILTER", 1)
    lower = {"max_subscription_levels_per_account": 1_000, "max_subscriptions": 31}
    later: House = await build(kept=await house.kept_at_a_crash(), **lower)
    assert later.broker.router.subscriptions == len(stored)
    client = await later.connect(lasting("c"))
    for topic_filter in stored:
        assert await client.subscribe(topic_filter, 1) == 1, "made anew, it is the same one"
    assert await client.subscribe("new") == SUBACK_FAILURE
    other = await later.connect(as_account(ADA, "other"))
    assert await other.subscribe("new") == SUBACK_FAILURE, "the account has too many levels"
    await later.journal.drain()
    assert {row.topic_filter for row in later.kept.load().subscriptions} == set(stored)


async def test_who_lost_its_rights_while_the_server_was_down(build: Build) -> None:
    """What is kept for somebody who is not there any more goes, also from disk."""
    house: House = await build()
    house.put_device(99, Grant(PORCH, allow_publish=False, allow_subscribe=True))
    for connect in (as_lasting(as_device(99), level=4), as_lasting(as_device(READER), level=4)):
        client = await house.connect(connect)
        assert await client.subscribe(FIELD_TOPIC, 1) == 1
    later: House = await build(kept=await house.kept_at_a_crash())  # where nobody has heard of device 99
    assert [entry.session.client_id for entry in later.broker.sessions] == [f"device{READER}"]
    assert later.broker.router.subscriptions == 1
    await later.journal.drain()
    assert [stored.client_id for stored in later.kept.load().sessions] == [f"device{READER}"]


async def test_a_right_that_was_withdrawn_while_the_server_was_down(build: Build) -> None:
    """The subscription goes, also from disk, and with it what it has brought."""
    house: House = await build()
    house.put_device(READER, Grant(PORCH, False, True), Grant(CELLAR, False, True))
    cellar_topic = f"channels/{CELLAR}/subscribe/fields/field1"
    client = await house.connect(as_lasting(as_device(READER), level=4))
    for topic_filter in (FIELD_TOPIC, cellar_topic):
        assert await client.subscribe(topic_filter, 1) == 1
    await leave(house, client)
    writer = await house.connect(as_account(ADA, "w"))
    for channel_id in (PORCH, CELLAR):
        await writer.publish(f"channels/{channel_id}/publish", b"field1=1")
    await until(lambda: house.session(f"device{READER}").queued == 2)
    later: House = await build(kept=await house.kept_at_a_crash())  # where it may only read the porch
    client = await later.connect(as_lasting(as_device(READER), level=4))
    assert (await client.message(acknowledge=True)).topic == FIELD_TOPIC
    await client.ping()
    assert client.received == []
    await later.journal.drain()
    assert [stored.topic_filter for stored in later.kept.load().subscriptions] == [FIELD_TOPIC]


async def test_what_ran_out_while_the_server_was_down_is_over(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    house: House = await build()
    for client_id, expiry_s in (("brief", 1), ("longer", 3_000)):
        client = await house.connect(lasting(client_id, 5, expiry_s=expiry_s))
        await client.subscribe("t", 1)
    await house.close()
    at_ns = time.time_ns() + 60 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: at_ns)
    later: House = await build(kept=house.kept)
    assert [entry.session.client_id for entry in later.broker.sessions] == ["longer"]
    assert later.broker.router.subscriptions == 1


async def test_a_session_ages_from_the_crash_on_whatever_restarts_there_are(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house: House = await build()
    await house.connect(lasting("c", 5, expiry_s=100))
    kept = await house.kept_at_a_crash()
    begin_ns = time.time_ns()
    for later_s, sessions in ((60, 1), (120, 1), (180, 0)):
        at_ns = begin_ns + later_s * 1_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda at_ns=at_ns: at_ns)
        later: House = await build(kept=kept)
        assert len(later.broker.sessions) == sessions
        kept = await later.kept_at_a_crash()
    assert kept.load().sessions == []
