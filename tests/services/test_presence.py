"""Presence: whose connections one may see and end."""

from __future__ import annotations

import pytest

from fake_presence import TOTALS, FakeBroker
from headwater.services.presence import AccountTotals, Presence

ADA, BOB = 1, 2


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker(by_account=[AccountTotals(ADA, 1, 2, 3, 4, 5, 6)])
    for account_id in (ADA, BOB, None):
        broker.connect(account_id=account_id)
    return broker


@pytest.fixture
def presence(broker: FakeBroker) -> Presence:
    presence = Presence()
    presence.attach(broker)
    return presence


def test_before_the_broker_is_there_nobody_is_connected() -> None:
    presence = Presence()
    assert presence.clients() == []
    assert presence.client(1) is None
    assert presence.totals() is None
    assert presence.account_totals() == []
    assert not presence.disconnect(1)


def test_what_the_broker_tells(presence: Presence, broker: FakeBroker) -> None:
    assert presence.totals() == TOTALS
    assert presence.account_totals() == broker.by_account


@pytest.mark.parametrize(("account_id", "numbers"), [(ADA, [1]), (BOB, [2]), (3, []), (None, [1, 2, 3])])
def test_an_account_sees_its_own(presence: Presence, account_id: int | None, numbers: list[int]) -> None:
    assert [client.number for client in presence.clients(account_id)] == numbers
    seen = [presence.client(number, account_id) for number in range(5)]
    assert [client.number for client in seen if client is not None] == numbers


@pytest.mark.parametrize("number", [1, 3, 99])
def test_anothers_connection_stays(presence: Presence, broker: FakeBroker, number: int) -> None:
    assert not presence.disconnect(number, BOB)
    assert broker.ended == []


@pytest.mark.parametrize("account_id", [BOB, None])
def test_ending_a_connection(presence: Presence, broker: FakeBroker, account_id: int | None) -> None:
    assert presence.disconnect(2, account_id)
    assert broker.ended == [2]
    assert not presence.disconnect(2, account_id)
