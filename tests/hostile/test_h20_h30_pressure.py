"""H20 to H30: well-formed packets, too many of them; clients that do not read, acknowledge or come back."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.client import Client
from broker.house import ADA, BOB, House, as_account, as_lasting
from gated_store import until
from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    PacketType,
    PropertyId,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Will,
)
from headwater.mqtt.topic_tree import MAX_CACHED_COPIES, Grant, TopicTree

from .attack import as_level, attacker, check_served, expect_end, lasting, strike

Build = Callable[..., Any]
LEVELS = pytest.mark.parametrize("level", [4, 5])
QUOTA_EXCEEDED, TAKEN_OVER, RECEIVE_MAXIMUM_EXCEEDED = 0x97, 0x8E, 0x93


async def many_filters(client: Client, filters: list[str], qos: int = 0) -> None:
    for first in range(0, len(filters), 50):
        client.send(Subscribe(1, tuple(Subscription(f, qos) for f in filters[first : first + 50])))
    for _ in range(0, len(filters), 50):
        while not isinstance(answer := await client.read(), Suback):
            assert isinstance(answer, Publish)
            client.received.append(answer)
        assert max(answer.reason_codes) < 0x80


async def test_h20_wildcards_by_the_thousand(house: House) -> None:
    """20 clients with 100 filters each, of 16 levels with up to 8 wildcards, instead of 1,000: what one message costs
    grows with the places in the tree, of which there are the same number for each client. Topics that are all new find
    no answer that is known already."""
    places = [c for n in (1, 2, 4, 8) for c in itertools.islice(itertools.combinations(range(15), n), 500)]
    filters = ["/".join("+" if level in wild else "a" for level in range(16)) for wild in places]
    for number in range(20):
        client = await attacker(house, client_id=f"subscriber-{number}")
        await many_filters(client, filters[number * 75 : number * 75 + 75])
    publisher = await attacker(house)
    publisher.send(*[Publish("a/" * 15 + f"b{n}", b"x") for n in range(300)])
    await check_served(house)
    await publisher.ping()
    await check_served(house)


def test_h20_known_answers_are_bounded() -> None:
    """A thousand subscribers of everything are in the answer for each of ten thousand topics."""
    tree: TopicTree[int] = TopicTree()
    for subscriber in range(1_000):
        tree.subscribe("#", subscriber, Grant(0))
    for number in range(1_000):
        tree.match(f"t{number}")
    assert sum(found.fan_out for found in tree.known.values()) <= MAX_CACHED_COPIES


@LEVELS
async def test_h21_everything_retained_again_and_again(build: Build, level: int) -> None:
    """3,000 retained messages instead of 100,000; the client asks for them 200 times and reads nothing."""
    house: House = await build(max_write_buffer_bytes=100_000, write_timeout_s=1.0)
    publisher = await attacker(house, client_id="publisher")
    for n in range(3_000):
        publisher.send(Publish(f"r/{n % 50}/{n}", b"x" * 2_000, retain=True))
    await publisher.ping()
    greedy = await house.connect(as_level(level, "greedy"), receive_buffer_bytes=4_096)
    greedy.send(*[Subscribe(1 + n, (Subscription(f, 0),)) for n in range(100) for f in ("#", "+/#")])
    await until(lambda: house.connection("greedy").protocol.is_congested, "the client to be waited for")
    connection = house.connection("greedy")
    assert connection.protocol.waiting_retained <= 2
    await check_served(house)
    assert sum(map(len, connection.protocol._output)) < 100_000
    await until(lambda: not connection.is_here, "the client to be given up")
    await check_served(house)


@LEVELS
async def test_h21_retained_messages_do_not_deafen(build: Build, level: int) -> None:
    """While more subscriptions wait for their retained messages than fit, acknowledgements are still heard."""
    house: House = await build(max_subscriptions=400, max_in_flight=5)
    publisher = await attacker(house, client_id="publisher")
    for n in range(300):
        await publisher.publish(f"r/{n}", b"x", retain=True)
    client = await attacker(house, level)
    client.send(*[Subscribe(1 + n, (Subscription(f"r/{n}", 1),)) for n in range(300)])
    topics: set[str] = set()
    while len(topics) < 300:
        packet = await client.read()
        if isinstance(packet, Publish):
            assert packet.packet_id is not None
            topics.add(packet.topic)
            client.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
    await check_served(house)


async def test_h21_what_was_unsubscribed_is_not_sent(build: Build) -> None:
    house: House = await build(max_in_flight=1)
    publisher = await attacker(house, client_id="publisher")
    for n in range(10):
        await publisher.publish(f"r/{n}", b"x", retain=True)
    client = await attacker(house)
    assert await client.subscribe("#", 1) == 1
    await client.message()
    await client.unsubscribe("#")
    assert house.connection("attacker").protocol.waiting_retained == 0


@LEVELS
async def test_h22_retained_messages_for_ever(build: Build, level: int) -> None:
    """Beyond the limit, MQTT 5 is told; an older client's message goes to subscribers and is not kept."""
    house: House = await build(max_retained_messages_per_account=20, max_retained_bytes=100_000)
    client = await attacker(house, level)
    codes = [await client.publish(f"{n}", b"x", retain=True) for n in range(50)]
    assert codes == [0] * 20 + [QUOTA_EXCEEDED if level == 5 else 0] * 30
    assert house.broker.retained.messages == 20
    for n in range(20):  # one for another is no more
        assert await client.publish(f"{n}", b"y" * 10_000, retain=True) in (0, QUOTA_EXCEEDED)
    assert house.broker.retained.bytes <= 100_000
    for n in range(20):
        assert await client.publish(f"{n}", b"", retain=True) == 0
    assert house.broker.retained.messages == house.broker.retained.bytes == 0
    await check_served(house)


async def test_h22_levels_count_as_memory(build: Build) -> None:
    """One byte in a topic of 32 levels takes ten kilobytes: it is these that the limit is about."""
    house: House = await build(max_retained_bytes=1_000_000)
    client = await attacker(house)
    codes = [await client.publish(f"{n}/" * 31 + "x", b"x", retain=True) for n in range(100)]
    assert codes[0] == 0
    assert codes[-1] == QUOTA_EXCEEDED
    assert house.broker.retained.bytes < 1_020_000


@LEVELS
async def test_h23_messages_that_are_never_released(build: Build, level: int) -> None:
    house: House = await build(receive_maximum=20, max_unreleased=20)
    client = await attacker(house, level)
    client.send(*[Publish("t", b"x", 2, n) for n in range(1, 22)])
    await expect_end(client, RECEIVE_MAXIMUM_EXCEEDED)
    await check_served(house)


@LEVELS
async def test_h23_the_same_identifier_for_ever(house: House, level: int) -> None:
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("t", 0) == 0
    client = await attacker(house, level)
    for _ in range(500):
        client.send(Publish("t", b"once", 2, 7))
        await client.expect(Acknowledgement(PacketType.PUBREC, 7))
    await client.publish("t", b"end", 0)
    assert [(await listener.message()).payload for _ in range(2)] == [b"once", b"end"]
    session = house.session("attacker")
    assert session.unreleased == {7}


@pytest.mark.parametrize("qos", [1, 2])
async def test_h23_an_honest_client_may_use_all_of_it(house: House, qos: int) -> None:
    """The other side of the limit: as many as were announced, while none of their answers is out (they wait for the
    disk), and a SUBSCRIBE in between, are no offence."""
    client = await lasting(house, "honest")
    await many_filters(client, ["t"], 1)
    most = house.settings.mqtt.receive_maximum
    client.send(Subscribe(60_000, (Subscription("u", 1),)))
    client.send(*[Publish("t", b"x", qos, n) for n in range(1, most + 1)])
    kind = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
    waited: set[int] = set()
    while len(waited) < most:
        packet = await client.read()
        if isinstance(packet, Acknowledgement) and packet.type is kind:
            waited.add(packet.packet_id)
    await strike(house, 5, b"\xf1\x00")


async def test_h25_a_subscriber_that_stops_reading(build: Build) -> None:
    """20,000 messages of 1 KB: what does not fit is dropped and counted, then the subscriber is closed; the publisher
    is not slowed down by it."""
    house: House = await build(max_write_buffer_bytes=100_000, write_timeout_s=0.5)
    deaf = await house.connect(as_account(ADA, "deaf"), receive_buffer_bytes=4_096)
    assert await deaf.subscribe("t", 0) == 0
    publisher = await attacker(house, client_id="publisher")
    session = house.session("deaf")
    started_s = time.monotonic()
    for _ in range(20):
        publisher.send(*[Publish("t", b"x" * 1_000)] * 1_000)
        await publisher.ping()
        if session.link is not None:
            assert sum(map(len, house.connection("deaf").protocol._output)) < 200_000
    assert time.monotonic() - started_s < 10
    assert session.dropped is not None
    assert session.dropped["max_write_buffer_bytes"] > 5_000
    await check_served(house)
    await until(lambda: session.link is None, "the subscriber to be given up")
    await check_served(house)


@LEVELS
async def test_h26_a_subscriber_that_never_acknowledges(build: Build, level: int) -> None:
    house: House = await build(max_queued_messages=50)
    client = await attacker(house, level)
    await many_filters(client, ["t"], 1)
    publisher = await attacker(house, client_id="publisher")
    for n in range(200):
        await publisher.publish("t", str(n).encode())
    for n in range(house.settings.mqtt.max_in_flight):
        assert (await client.message()).payload == str(n).encode()
    await client.ping()
    session = house.session("attacker")
    assert (session.in_flight, session.queued) == (20, 50)
    assert session.dropped == {"max_queued_messages": 130}
    assert house.broker.sessions.budget.messages == 20 + 50, "what is in flight takes its room, too"
    await check_served(house)


@LEVELS
async def test_h27_a_session_that_nobody_comes_back_to(build: Build, level: int) -> None:
    """500 messages at full rate instead of days of them; the queue is full after 30."""
    house: House = await build(max_queued_messages=30, session_expiry_s=1)
    client = await lasting(house, "gone", level, expiry_s=1)
    await many_filters(client, ["t"], 1)
    await client.close()
    publisher = await attacker(house, client_id="publisher")
    publisher.send(*[Publish("t", str(n).encode(), 1, n) for n in range(1, 91)])
    for _ in range(90):
        await publisher.read()
    session = house.session("gone")
    assert session.queued == 30
    assert [outgoing.message.payload for outgoing in session.outgoing][-1] == b"90"
    await until(lambda: len(house.broker.sessions) == 1, "the session to end")
    assert house.broker.sessions.budget.bytes == 0
    await until(lambda: len(house.kept.load().sessions) == 0, "the session to be gone from disk")
    await check_served(house)


async def test_h28_ever_new_client_ids(build: Build) -> None:
    """200 instead of 10,000, with a limit of 50; another account has its own."""
    house: House = await build(max_sessions_per_account=50)
    for number in range(200):
        client = await house.connect()
        client.send(as_lasting(as_account(ADA, f"throw-away-{number}"), level=5))
        answer = await client.read()
        assert isinstance(answer, Connack)
        assert answer.reason_code == (0 if number < 50 else QUOTA_EXCEEDED)
        await client.close()
    assert len(house.broker.sessions) == 50
    await house.connect(as_lasting(as_account(BOB, "another"), level=5))
    await check_served(house)


async def test_h29_two_clients_with_one_id(build: Build) -> None:
    """Each is told why it goes; each leaves its will once; and then the one that is there may stay."""
    house: House = await build(max_takeovers_per_minute=6)
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("wills/+", 0) == 0
    will = Will("wills/duel", b"gone", 0, False)
    duellist = await attacker(house, client_id="duel", will=will)
    for _ in range(6):
        newer = await attacker(house, client_id="duel", will=will)
        await expect_end(duellist, TAKEN_OVER)
        assert (await listener.message()).payload == b"gone"
        duellist = newer
    refused = await house.connect()
    refused.send(as_level(5, "duel"))
    [answer] = await refused.expect_closed()
    assert isinstance(answer, Connack)
    assert answer.reason_code == 0x89  # server busy
    await duellist.ping()
    await check_served(house)


@LEVELS
async def test_h29_the_will_of_who_took_over_is_not_lost(house: House, level: int) -> None:
    """The older connection's will goes out when the newer one is there already, and must not take its will along."""
    listener = await attacker(house, client_id="listener")
    assert await listener.subscribe("wills/+", 0) == 0
    for number in range(5):
        connect = as_lasting(as_account(ADA, "duel", will=Will("wills/x", str(number).encode(), 0, False)), level=level)
        client = await house.connect(connect)
        if number:
            assert (await listener.message()).payload == str(number - 1).encode()
    client.reset()
    assert (await listener.message()).payload == b"4"


@pytest.mark.parametrize("is_clean", [True, False])
async def test_h30_another_account_with_the_same_client_id(house: House, is_clean: bool) -> None:
    victim = await lasting(house, "victim")
    await many_filters(victim, ["secret"], 1)
    await victim.close()
    await until(lambda: house.broker.sessions.offline == 1, "the victim to be away")
    publisher = await attacker(house, client_id="publisher")
    await publisher.publish("secret", b"for Ada")
    thief = await house.connect(as_account(BOB, "victim", clean_session=is_clean))
    assert thief.connack == Connack(False, 0)
    await thief.ping()
    back = await house.connect(as_lasting(as_account(ADA, "victim"), level=5))
    assert back.connack is not None
    assert back.connack.session_present
    assert (await back.message()).payload == b"for Ada"
    await thief.ping()
    await check_served(house)


async def test_a_smaller_window_after_coming_back(house: House) -> None:
    """Not on the list: 20 messages are in flight when the client comes back and takes 2 at a time."""
    client = await lasting(house, "narrow")
    await many_filters(client, ["t"], 1)
    publisher = await attacker(house, client_id="publisher")
    for n in range(30):
        await publisher.publish("t", str(n).encode())
    for _ in range(20):
        await client.message()
    client.reset()
    await until(lambda: house.session("narrow").link is None, "the client to be gone")
    connect = as_lasting(as_account(ADA, "narrow"), level=5)
    receive_maximum = {**connect.properties, PropertyId.RECEIVE_MAXIMUM: 2}
    narrow = await house.connect(dataclasses.replace(connect, properties=receive_maximum))
    seen = []
    for _ in range(15):
        both = [await narrow.message(), await narrow.message()]
        await narrow.ping()
        assert not narrow.received, "more than its window"
        seen += [(message.payload, message.dup) for message in both]
        narrow.send(*[Acknowledgement(PacketType.PUBACK, message.packet_id or 0) for message in both])
    assert seen == [(str(n).encode(), n < 20) for n in range(30)]
    await until(lambda: not house.session("narrow").in_flight, "everything to be acknowledged")
    await check_served(house)


def test_h20_the_places_in_a_tree_are_counted() -> None:
    tree: TopicTree[int] = TopicTree()
    for subscriber in range(3):
        tree.subscribe("a/b/c", subscriber, Grant(0))
        tree.subscribe(f"a/b/{subscriber}/+", subscriber, Grant(0), "group")
    assert tree.nodes == 3 + 3 + 30 + 3, "levels, those at a '+' tenfold, and groups"
    for subscriber in range(3):
        tree.unsubscribe("a/b/c", subscriber)
        tree.unsubscribe(f"a/b/{subscriber}/+", subscriber, "group")
    assert tree.nodes == 0


async def test_h20_one_account_s_filters_are_limited(house: House) -> None:
    """By the places that they take in the tree; one that is there already may be had again."""
    router = house.broker.router
    router._max_nodes_per_tree = 100
    client = await attacker(house)
    codes = [await client.subscribe(f"{n}/" * 9 + "x") for n in range(12)]
    assert codes == [0] * 10 + [QUOTA_EXCEEDED] * 2
    assert await client.subscribe("0/" * 9 + "x", 1) == 1
    await check_served(house)


async def test_a_shared_group_of_thousands_who_are_away(house: House) -> None:
    """Not on the list: 3,000 members who are away and one who is here; a message does not look at all of them, and
    nobody else waits."""
    sessions, router = house.broker.sessions, house.broker.router
    client = await lasting(house, "member-0")
    assert await client.subscribe("$share/g/t", 1) == 1
    connection = house.connection("member-0")
    for number in range(1, 3_000):
        session, _ = sessions.open(connection.principal, f"member-{number}", is_clean=True, expiry_s=100, will=None)
        assert sessions.subscribe(session, connection.principal, Subscription("$share/g/t", 1), 0) is None
        sessions.disconnected(session, connection.principal)
    assert router.subscriptions == 3_000
    publisher = await attacker(house, client_id="publisher")
    publisher.send(*[Publish("t", b"x")] * 200)
    await check_served(house)
    await publisher.ping()
    await client.close()
    await check_served(house)
