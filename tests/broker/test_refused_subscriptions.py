"""What is said of a subscription that is not made: to MQTT 5 clients in SUBACK, to owners on the page of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headwater.mqtt.packets import SUBACK_FAILURE, Connect, PropertyId, ProtocolLevel, Suback, Subscribe, Subscription

from .house import ADA, BOB, CELLAR, PORCH, SENSOR, House, as_account, as_device, as_nobody

Build = Callable[..., Any]
V5 = ProtocolLevel.V5
NOBODYS = 77
"""A channel that does not exist."""


async def answer(house: House, connect: Connect, *topic_filters: str) -> tuple[tuple[int, ...], str | None]:
    """The codes of SUBACK and its Reason String."""
    client = await house.connect(connect)
    client.send(Subscribe(1, tuple(Subscription(topic_filter, 0) for topic_filter in topic_filters)))
    suback = await client.read()
    assert isinstance(suback, Suback)
    await client.close()
    return suback.reason_codes, suback.properties.get(PropertyId.REASON_STRING)


@pytest.mark.parametrize("channel_id", [CELLAR, NOBODYS])
async def test_a_device_without_the_right(house: House, channel_id: int) -> None:
    """In the same words whether there is such a channel or not."""
    topic_filter = f"channels/{channel_id}/subscribe"
    reason = f'no right to subscribe to channel {channel_id}: "Allow Subscribe" is not set for this device'
    assert await answer(house, as_device(SENSOR, level=V5), topic_filter) == ((0x87,), reason)
    assert await answer(house, as_device(SENSOR), topic_filter) == ((SUBACK_FAILURE,), None)
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    assert (refusal.count, refusal.reason) == (2, f"{reason} (topic filter {topic_filter})")


@pytest.mark.parametrize("channel_id", [PORCH, NOBODYS])
async def test_an_account_learns_nothing_of_anothers_channels(house: House, channel_id: int) -> None:
    told = await answer(house, as_account(BOB, "b", level=V5), f"channels/{channel_id}/subscribe/fields/+")
    assert told == ((0x87,), f"no right to subscribe to channel {channel_id}: it is no channel of this account")


@pytest.mark.parametrize(
    ("connect", "topic_filter", "reason"),
    [
        (as_device(SENSOR, level=V5), "elsewhere/#", "MQTT devices subscribe below channels/"),
        (as_device(SENSOR, level=V5), "channels/#", "there is only channels/<id>/subscribe"),
        (as_account(ADA, "a", level=V5), "channels/eleven/subscribe", "there is only channels/<id>/subscribe"),
        (as_account(ADA, "a", level=V5), "$SYS/#", "only administrators subscribe below $SYS"),
        (as_account(ADA, "a", level=V5), "$CONTROL/x", "nobody may subscribe to topics that begin with $"),
        (as_nobody(level=V5), f"channels/{PORCH}/subscribe", "sign in as an MQTT device or with an account token"),
    ],
)
async def test_what_to_do_about_it(house: House, connect: Connect, topic_filter: str, reason: str) -> None:
    codes, told = await answer(house, connect, topic_filter)
    assert codes == (0x87,)
    assert told is not None
    assert reason in told
    for part in ("elsewhere", "eleven", "CONTROL"):
        assert part not in told, "nothing comes back of what a client has sent"


async def test_limits(build: Build) -> None:
    house: House = await build(
        max_subscriptions=2, max_wildcard_levels=1, max_filters_per_subscribe=3, max_topic_levels=4
    )
    for topic_filters, codes, reason in (
        (("a", "b", "c"), (0, 0, 0x97), "a client has 2 subscriptions at most: end some first"),
        (("a", "+/+", "a/b/c/d/e"), (0, 0x97, 0x8F), "a topic filter has more than 1 levels of '+'"),
        (("a/b/c/d/e", "a"), (0x8F, 0), "a topic has more than 4 levels"),
        (("a", "a", "a", "a"), (0, 0, 0, 0x97), "a SUBSCRIBE has more than 3 topic filters: send the rest in another"),
    ):
        given, told = await answer(house, as_account(ADA, "a", level=V5), *topic_filters)
        assert given == codes
        assert told is not None
        assert told.startswith(reason)


async def test_the_account_s_share_of_the_tree(build: Build) -> None:
    house: House = await build(max_subscription_levels_per_account=1_000, max_filters_per_subscribe=100)
    connect = as_account(ADA, "a", level=V5)
    client = await house.connect(connect)
    for start in range(0, 60, 30):
        filters = ("/".join(f"{number}-{level}" for level in range(20)) for number in range(start, start + 30))
        client.send(Subscribe(1, tuple(Subscription(topic_filter, 0) for topic_filter in filters)))
        suback = await client.read()
    assert isinstance(suback, Suback)
    assert suback.reason_codes[-1] == 0x97
    assert "the account's topic filters have as many different levels as they may" in str(suback.properties)


async def test_whoever_does_not_say_who_they_are_need_not_know_why(build: Build) -> None:
    house: House = await build(allow_anonymous=True)
    assert await answer(house, as_nobody(level=V5), "$SYS/#") == ((SUBACK_FAILURE,), None)


async def test_owners_of_older_devices_read_what_limits_did(house: House) -> None:
    await answer(house, as_device(SENSOR), "+/" * 9 + "a")
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    assert refusal.reason.startswith("a topic filter has more than 8 levels of '+'")
