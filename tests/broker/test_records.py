"""How sessions and messages look on disk: there and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.broker.records import (
    Clocks,
    outgoing_of,
    read_retained,
    read_subscription,
    read_will,
    retained_row,
    subscription_row,
    will_row,
)
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import OutgoingState
from headwater.mqtt.packets import PropertyId, Subscription, Will
from headwater.persistence import StoredOutgoing

BEFORE = Clocks(lambda: 100.0, lambda: 1_000 * 1_000_000_000)
AFTER = Clocks(lambda: 7.0, lambda: 1_050 * 1_000_000_000)
"""Fifty seconds later, in another process whose clock has begun anew."""


@given(
    st.builds(Subscription, st.text(min_size=1), st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)),
    st.integers(0, 268_435_455),
)
def test_subscriptions(subscription: Subscription, identifier: int) -> None:
    row = subscription_row(5, subscription, identifier)
    assert (row.session_id, row.identifier) == (5, identifier)
    assert read_subscription(row) == subscription


@pytest.mark.parametrize(
    "properties",
    [{}, {PropertyId.WILL_DELAY_INTERVAL: 30, PropertyId.CONTENT_TYPE: "x/y", PropertyId.USER_PROPERTY: (("a", "b"),)}],
)
def test_wills(properties: dict[PropertyId, object]) -> None:
    will = Will("t", b"gone", 2, retain=True, properties=properties)
    assert read_will(will_row(will)) == will
    assert read_will(will_row(None)) is None


def test_retained_messages_expire_by_the_time_of_day() -> None:
    message = Message("t", b"t", b"x", 1, True, b"\x03\x00\x01t", 160.0)
    again = read_retained(retained_row("account:1", message, BEFORE), AFTER)
    assert (again.topic, again.raw_topic, again.payload, again.qos, again.retain) == ("t", b"t", b"x", 1, True)
    assert again.properties == message.properties
    assert again.expires_at_s == pytest.approx(17.0)
    for_ever = read_retained(retained_row("account:1", Message("t", b"t", b"x", 1), BEFORE), AFTER)
    assert for_ever.expires_at_s is None


@pytest.mark.parametrize(
    ("is_sent", "is_released", "state"),
    [(False, False, OutgoingState.QUEUED), (True, False, OutgoingState.SENT), (True, True, OutgoingState.RELEASED)],
)
def test_what_is_owed(state: OutgoingState, *, is_sent: bool, is_released: bool) -> None:
    row = StoredOutgoing(5, 9, 1, "t", b"x", 2, True, b"", None, (3, 4), is_sent=is_sent, is_released=is_released)
    outgoing = outgoing_of(row, AFTER)
    assert (outgoing.packet_id, outgoing.qos, outgoing.retain, outgoing.state) == (9, 2, True, state)
    assert outgoing.subscription_ids == (3, 4)
    assert outgoing.message.payload == b"x"
