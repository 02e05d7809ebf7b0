"""Retained messages: what is kept, what a subscription gets of it, limits, expiry, restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headwater.broker.journal import Journal, JournalLimits
from headwater.broker.records import Clocks
from headwater.broker.retained import SYS_TREE, Retained, RetainedLimits
from headwater.mqtt.message import Message
from headwater.mqtt.packets import PropertyId, ProtocolLevel, Publish
from headwater.mqtt.publishing import Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.retained_tree import NODE_BYTES
from headwater.persistence import ChangeKind, StoredRetained
from headwater.persistence.memory import MemorySessionStore

from .house import ADA, BOB, House, as_account, as_lasting

Build = Callable[..., Any]
LEVELS = pytest.mark.parametrize("level", [4, 5])


def account(account_id: int, client_id: str, level: int = 5) -> Any:
    return as_account(account_id, client_id, level=ProtocolLevel(level))


class Shelf:
    """Retained messages by themselves, with a clock in the test's hand."""

    def __init__(self, **limits: int) -> None:
        self.now_s = 100.0
        self.kept = MemorySessionStore()
        self.journal = Journal(self.kept, JournalLimits())
        self.clocks = Clocks(lambda: self.now_s, lambda: int(self.now_s * 1_000_000_000))
        generous = {"max_messages": 1_000, "max_messages_per_account": 1_000, "max_bytes": 1_000_000}
        self.retained = Retained(self.journal, self.clocks, RetainedLimits(**(generous | limits)))

    def keep(self, tree: str, topic: str, payload: bytes = b"x", expires_at_s: float | None = None) -> Refused | None:
        return self.retained.keep(tree, Message(topic, topic.encode(), payload, 1, True, b"", expires_at_s))

    def topics(self, tree: str, topic_filter: str = "#") -> list[str]:
        messages = self.retained.matching(tree, topic_filter)
        return [] if messages is None else sorted(message.topic for message in messages())

    async def stored(self) -> list[tuple[str, str]]:
        await self.journal.drain()
        return sorted((row.tree, row.topic) for row in self.kept.load().retained)


async def test_one_message_a_topic_and_none_without_payload() -> None:
    """[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]"""
    shelf = Shelf()
    for payload in (b"1", b"2"):
        assert shelf.keep("account:1", "a", payload) is None
    assert shelf.keep("account:1", "b") is None
    assert shelf.topics("account:1") == ["a", "b"]
    assert shelf.keep("account:1", "a", b"") is None
    assert shelf.keep("account:1", "never", b"") is None
    assert shelf.keep("account:2", "never", b"") is None
    assert shelf.topics("account:1") == ["b"]
    assert await shelf.stored() == [("account:1", "b")]
    await shelf.journal.close()


async def test_limits_count_what_is_new() -> None:
    shelf = Shelf(max_messages=3, max_messages_per_account=2)
    assert shelf.keep("account:1", "a") is None
    assert shelf.keep("account:1", "b") is None
    refused = shelf.keep("account:1", "c")
    assert refused is not None
    assert refused.reason_code == ReasonCode.QUOTA_EXCEEDED
    assert shelf.keep("account:1", "a", b"another") is None, "in place of the one before"
    assert shelf.keep("account:2", "a") is None
    assert shelf.keep("account:2", "b") is not None, "all trees together"
    assert shelf.keep("account:1", "a", b"") is None
    assert shelf.keep("account:2", "b") is None
    assert shelf.retained.messages == 3
    await shelf.journal.close()


async def test_bytes_are_limited_too() -> None:
    shelf = Shelf(max_bytes=2 * NODE_BYTES + 1_000)
    assert shelf.keep("account:1", "a", b"x" * 900) is None
    assert shelf.keep("account:1", "b", b"x" * 900) is not None
    assert shelf.keep("account:1", "a", b"x" * 5_000) is not None
    assert shelf.topics("account:1") == ["a"]
    assert shelf.keep("account:1", "a", b"") is None
    assert shelf.retained.bytes == 0
    assert shelf.keep("account:1", "b", b"x" * 900) is None
    await shelf.journal.close()


async def test_what_the_broker_makes_itself_counts_for_nobody_and_is_not_written() -> None:
    shelf = Shelf(max_messages=1)
    for number in range(10):
        shelf.retained.keep_in_memory(SYS_TREE, Message(f"$SYS/{number}", b"", b"x", 0, True))
    assert (shelf.retained.messages, shelf.retained.bytes) == (0, 0)
    assert shelf.keep("account:1", "a") is None
    assert await shelf.stored() == [("account:1", "a")]
    await shelf.journal.close()


async def test_what_has_expired_is_let_go_and_so_is_what_an_account_leaves() -> None:
    shelf = Shelf()
    shelf.keep("account:1", "brief", expires_at_s=110.0)
    shelf.keep("account:1", "longer", expires_at_s=1_000.0)
    shelf.keep("account:2", "other")
    shelf.now_s = 111.0
    shelf.retained.forget_expired()
    assert shelf.topics("account:1") == ["longer"]
    shelf.retained.forget_tree("account:1")
    shelf.retained.forget_tree("account:9")
    assert await shelf.stored() == [("account:2", "other")]
    assert shelf.retained.messages == 1
    await shelf.journal.close()


async def test_expiry_goes_on_while_the_server_is_down() -> None:
    shelf = Shelf()
    shelf.keep("account:1", "brief", expires_at_s=160.0)
    await shelf.journal.drain()
    [row] = shelf.kept.load().retained
    later = Shelf()
    later.clocks = Clocks(lambda: 5.0, lambda: 130 * 1_000_000_000)  # 30 s on, and another zero of the clock
    later.retained = Retained(
        later.journal, later.clocks, RetainedLimits(max_messages=1, max_messages_per_account=1, max_bytes=1_000)
    )
    later.retained.restore(row)
    messages = later.retained.matching("account:1", "#")
    assert messages is not None
    [message] = messages()
    assert message.expires_at_s == pytest.approx(35.0)
    await shelf.journal.close()
    await later.journal.close()


# -- with clients ---------------------------------------------------------------------------------------------------


@LEVELS
async def test_3_3_1_8_a_new_subscription_gets_what_is_retained(house: House, level: int) -> None:
    """[MQTT-3.3.1-8]: with RETAIN, at the lower QoS; a message that is not retained is not kept."""
    publisher = await house.connect(account(ADA, "p", level))
    await publisher.publish("room/1", b"old", 1, retain=True)
    await publisher.publish("room/1", b"new", 2, retain=True)
    await publisher.publish("room/2", b"passing")
    await publisher.publish("room/3", b"3", 0, retain=True)
    reader = await house.connect(account(ADA, "r", level))
    assert await reader.subscribe("room/+", 1) == 1
    got = [await reader.message(acknowledge=True) for _ in range(2)]
    assert sorted((m.topic, m.payload, m.qos, m.retain) for m in got) == [
        ("room/1", b"new", 1, True),
        ("room/3", b"3", 0, True),
    ]
    await publisher.publish("room/1", b"live", 1, retain=True)
    live = await reader.message(acknowledge=True)
    assert (live.payload, live.retain) == (b"live", False)
    await publisher.publish("room/1", b"", 1, retain=True)
    assert (await reader.message(acknowledge=True)).payload == b""
    late = await house.connect(account(ADA, "late", level))
    await late.subscribe("room/1")
    await late.ping()
    assert late.received == []


async def test_retain_handling_says_when_they_are_sent(house: House) -> None:
    """[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]; a shared subscription gets none."""
    client = await house.connect(account(ADA, "c"))
    await client.publish("t", b"x", retain=True)

    async def sent(topic_filter: str, retain_handling: int) -> int:
        await client.subscribe(topic_filter, retain_handling=retain_handling)
        await client.ping()
        count = len(client.received)
        client.received.clear()
        return count

    assert [await sent("t", 0), await sent("t", 0)] == [1, 1]
    assert await sent("t", 1) == 0, "it is no new one"
    assert [await sent("+", 1), await sent("+", 1)] == [1, 0]
    assert await sent("#", 2) == 0
    assert await sent("$share/g/t", 0) == 0


async def test_a_retained_message_carries_the_identifier_and_what_its_publisher_said(house: House) -> None:
    client = await house.connect(account(ADA, "c"))
    properties = {PropertyId.CONTENT_TYPE: "text/plain", PropertyId.MESSAGE_EXPIRY_INTERVAL: 100}
    await client.publish("t", b"x", retain=True, properties=properties)
    await client.subscribe("t", subscription_id=7)
    message = await client.message()
    assert message.properties[PropertyId.SUBSCRIPTION_IDENTIFIER] == (7,)
    assert message.properties[PropertyId.CONTENT_TYPE] == "text/plain"
    assert 95 <= message.properties[PropertyId.MESSAGE_EXPIRY_INTERVAL] <= 100


async def test_accounts_never_see_each_others_retained_messages(house: House) -> None:
    ada, bob = await house.connect(account(ADA, "a")), await house.connect(account(BOB, "b"))
    await ada.publish("t", b"ada's", retain=True)
    await bob.subscribe("#")
    await bob.publish("t", b"", retain=True)
    await bob.ping()
    assert [message.payload for message in bob.received] == [b""]
    await ada.subscribe("#")
    assert (await ada.message()).payload == b"ada's"


@LEVELS
async def test_what_cannot_be_kept_is_refused(build: Build, level: int) -> None:
    house: House = await build(max_retained_messages_per_account=1)
    client = await house.connect(account(ADA, "c", level))
    await client.publish("a", b"x", retain=True)
    code = await client.publish("b", b"x", retain=True)
    assert code == (ReasonCode.QUOTA_EXCEEDED if level == 5 else 0)
    assert house.broker.retained.messages == 1


async def test_what_cannot_be_kept_is_handed_on_and_told_of(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    house: House = await build(max_retained_messages_per_account=1)
    reader = await house.connect(account(ADA, "r"))
    await reader.subscribe("#", 1)
    client = await house.connect(account(ADA, "c"))
    await client.publish("a", b"kept", retain=True)
    for number in range(3):
        await client.publish(f"b{number}", b"only live", qos=number % 2, retain=True)
    assert [(await reader.message(acknowledge=True)).topic for _ in range(4)] == ["a", "b0", "b1", "b2"]
    assert house.refusals.total == 3
    assert caplog.text.count("messages are not retained") == 1


@LEVELS
async def test_what_cannot_be_kept_is_answered_when_it_is_on_disk_for_others(build: Build, level: int) -> None:
    house: House = await build(max_retained_messages_per_account=0)
    reader = await house.connect(as_lasting(account(ADA, "r", level), level=level))
    await reader.subscribe("#", 1)
    reader.reset()
    await house.only()
    client = await house.connect(account(ADA, "c", level))
    await client.publish("a", b"x", retain=True)
    assert [row.topic for row in house.kept.load().outgoing] == ["a"]


async def test_what_was_not_sent_when_a_client_went_is_sent_when_it_is_back(build: Build) -> None:
    house: House = await build(max_in_flight=1)
    publisher = await house.connect(account(ADA, "p"))
    for number in range(20):
        await publisher.publish(f"many/{number}", b"x", retain=True)
    connect = as_lasting(account(ADA, "r"), level=5)
    reader = await house.connect(connect)
    await reader.subscribe("many/#", 1)
    await reader.message()
    reader.reset()
    await house.only(publisher)
    reader = await house.connect(connect)
    got: set[str] = set()
    while len(got) < 20:
        got.add((await reader.message(acknowledge=True)).topic)
    await reader.ping()
    reader.reset()
    await house.only(publisher)
    reader = await house.connect(connect)
    await reader.ping()
    assert reader.received == [], "when they are all sent, that is that"


async def test_what_an_account_left_that_went_while_the_server_was_down(build: Build) -> None:
    kept = MemorySessionStore()
    trees = ("account:1", "account:99", "anonymous")
    rows = [StoredRetained(tree, "t", b"x", 1, b"", None) for tree in trees]
    kept.apply([(ChangeKind.SAVE_RETAINED, row) for row in rows])
    house: House = await build(kept=kept)
    assert house.broker.retained.messages == 2
    await house.journal.drain()
    assert sorted(row.tree for row in kept.load().retained) == ["account:1", "anonymous"]


async def test_very_many_are_sent_as_fast_as_they_are_taken(build: Build) -> None:
    """More than a window, a queue and a turn together hold; none is lost, and others are served meanwhile."""
    house: House = await build(max_in_flight=5, max_queued_messages=10)
    publisher = await house.connect(account(ADA, "p"))
    for number in range(1_000):
        publisher.send(Publish(f"many/{number}", b"x", retain=True))
    await publisher.ping()
    reader = await house.connect(account(ADA, "r"))
    await reader.subscribe("many/#", 1)
    await house.check_others_are_served()
    got = {(await reader.message(acknowledge=True)).topic for _ in range(1_000)}
    assert got == {f"many/{number}" for number in range(1_000)}
    assert house.session("r").dropped is None


async def test_retained_messages_survive_a_restart_and_not_their_account(build: Build) -> None:
    house: House = await build()
    for account_id in (ADA, BOB):
        client = await house.connect(account(account_id, "c"))
        await client.publish("t", b"%d" % account_id, retain=True, properties={PropertyId.CONTENT_TYPE: "x/y"})
    later: House = await build(kept=await house.kept_at_a_crash())
    later.access.drop_account(BOB)
    client = await later.connect(account(ADA, "c"))
    await client.subscribe("t", 1)
    message = await client.message(acknowledge=True)
    assert (message.payload, message.retain, message.properties) == (b"1", True, {PropertyId.CONTENT_TYPE: "x/y"})
    await later.journal.drain()
    assert [row.tree for row in later.kept.load().retained] == ["account:1"]
