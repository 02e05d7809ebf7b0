"""Rules for down-sampling in the registry."""

from __future__ import annotations

import pytest

from headwater.errors import Conflict, NotFound
from headwater.registry.entities import ChannelSettings, Rollup
from headwater.registry.keys import generate_api_key
from headwater.registry.opening import open_registry
from headwater.registry.registry import Registry


def add_account(registry: Registry, name: str) -> int:
    account, _ = registry.add_account(
        name,
        password_hash="x",
        user_api_key=generate_api_key(),
        mqtt_api_key=generate_api_key(),
        alerts_api_key=generate_api_key(),
        is_admin=False,
        time_zone="UTC",
    )
    return account.id


def add_channel(registry: Registry, account_id: int, most: int = 10) -> int:
    keys = {"write_key": generate_api_key(), "read_key": generate_api_key()}
    return registry.add_channel(account_id, ChannelSettings(), most=most, **keys).id


def add_rollup(registry: Registry, account_id: int, bucket_id: int, window_s: int = 3600, most: int = 5) -> Rollup:
    return registry.add_rollup(
        account_id, bucket_id, window_s=window_s, aggregates=["count", "mean"], keep_s=86_400, most=most
    )


def test_a_rule_comes_back_as_it_was_and_goes_with_its_target(registry_url: str) -> None:
    registry = open_registry(registry_url)
    account_id = add_account(registry, "ada")
    channel_id = add_channel(registry, account_id)
    rule = add_rollup(registry, account_id, channel_id)
    assert (rule.account_id, rule.bucket_id, rule.window_s) == (account_id, channel_id, 3600)
    assert (rule.aggregates, rule.keep_s) == (("count", "mean"), 86_400)
    registry.close()
    registry = open_registry(registry_url)
    assert registry.snapshot().rollups == (rule,)
    assert registry.remove_rollup(account_id, rule.id) == rule
    assert registry.snapshot().rollups == ()
    assert registry.last_bucket_id() == rule.target_bucket_id
    assert add_rollup(registry, account_id, channel_id).target_bucket_id > rule.target_bucket_id
    registry.close()


def test_rules_and_targets_go_with_the_channel(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    channel_id, other_id = add_channel(registry, account_id), add_channel(registry, account_id)
    add_rollup(registry, account_id, channel_id)
    kept = add_rollup(registry, account_id, other_id)
    registry.remove_channel(account_id, channel_id)
    assert registry.snapshot().rollups == (kept,)
    assert add_channel(registry, account_id, most=2) > kept.target_bucket_id  # a target is no channel: there is room


def test_limits(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    channel_id = add_channel(registry, account_id)
    add_rollup(registry, account_id, channel_id, 60, most=2)
    with pytest.raises(Conflict, match="this window already"):
        add_rollup(registry, account_id, channel_id, 60, most=2)
    add_rollup(registry, account_id, channel_id, 120, most=2)
    with pytest.raises(Conflict, match="at most 2 rules"):
        add_rollup(registry, account_id, channel_id, 180, most=2)


def test_another_account_s_things_are_unknown(registry: Registry) -> None:
    ada, bob = add_account(registry, "ada"), add_account(registry, "bob")
    rule = add_rollup(registry, ada, add_channel(registry, ada))
    for bucket_id in (rule.bucket_id, rule.target_bucket_id, 99, 0, 2**40):
        with pytest.raises(NotFound):
            add_rollup(registry, bob, bucket_id)
    for rule_id in (rule.id, 99, -1, 2**40):
        with pytest.raises(NotFound):
            registry.remove_rollup(bob, rule_id)
    with pytest.raises(NotFound):  # what is down-sampled is not down-sampled again
        add_rollup(registry, ada, rule.target_bucket_id)
    assert registry.snapshot().rollups == (rule,)
