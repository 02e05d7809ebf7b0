"""Shares of channels and options of charts in the registry."""

from __future__ import annotations

import pytest
from test_registry_rollups import add_account, add_channel

from headwater.errors import NotFound
from headwater.registry.registry import Registry


def test_shares_replace_those_before(registry: Registry) -> None:
    owner, bob, eve = (add_account(registry, name) for name in ("ada", "bob", "eve"))
    channel = add_channel(registry, owner)
    assert registry.set_shares(owner, channel, [bob, eve, owner]) == {bob, eve}
    assert registry.snapshot().shares == ((channel, frozenset({bob, eve})),)
    assert registry.set_shares(owner, channel, [eve]) == {eve}
    assert registry.snapshot().shares == ((channel, frozenset({eve})),)
    assert registry.set_shares(owner, channel, []) == frozenset()
    assert registry.snapshot().shares == ()


def test_shares_go_with_the_account_and_with_the_channel(registry: Registry) -> None:
    owner, bob, eve = (add_account(registry, name) for name in ("ada", "bob", "eve"))
    channel, other = add_channel(registry, owner), add_channel(registry, owner)
    registry.set_shares(owner, channel, [bob, eve])
    registry.set_shares(owner, other, [bob])
    registry.remove_account(bob)
    assert registry.snapshot().shares == ((channel, frozenset({eve})),)
    registry.remove_channel(owner, channel)
    assert registry.snapshot().shares == ()


def test_what_is_not_there_or_anothers_is_refused_and_changes_nothing(registry: Registry) -> None:
    owner, bob = add_account(registry, "ada"), add_account(registry, "bob")
    channel = add_channel(registry, owner)
    registry.set_shares(owner, channel, [bob])
    for account, bucket, readers in ((bob, channel, [owner]), (owner, channel + 1, [bob]), (owner, channel, [99])):
        with pytest.raises(NotFound):
            registry.set_shares(account, bucket, readers)
    assert registry.snapshot().shares == ((channel, frozenset({bob})),)


def test_options_of_charts(registry: Registry) -> None:
    owner, bob = add_account(registry, "ada"), add_account(registry, "bob")
    channel = add_channel(registry, owner)
    registry.set_chart_options(owner, channel, 2, {"title": "Roof"})
    registry.set_chart_options(owner, channel, 2, {"type": "bar"})
    registry.set_chart_options(owner, channel, 5, {"days": "1"})
    assert registry.chart_options(channel) == {2: {"type": "bar"}, 5: {"days": "1"}}
    with pytest.raises(NotFound):
        registry.set_chart_options(bob, channel, 2, {})
    registry.set_chart_options(owner, channel, 2, {})
    assert registry.chart_options(channel) == {5: {"days": "1"}}
    registry.remove_channel(owner, channel)
    assert registry.chart_options(channel) == {}
