"""Limits on updates in the registry: whose they are, and with whom they go."""

from __future__ import annotations

import pytest

from headwater.errors import NotFound
from headwater.model.update_policy import TooFast, UpdatePolicy
from headwater.registry.entities import ChannelSettings
from headwater.registry.registry import Registry

MERGE = UpdatePolicy(TooFast.MERGE, 30)
REJECT = UpdatePolicy(TooFast.REJECT, 15)


def add_account(registry: Registry, name: str) -> int:
    keys = {"user_api_key": f"{name:U<16}", "mqtt_api_key": f"{name:M<16}", "alerts_api_key": f"{name:A<16}"}
    account, _ = registry.add_account(name, password_hash="x", is_admin=False, time_zone="UTC", **keys)
    return account.id


def add_channel(registry: Registry, account_id: int, name: str) -> int:
    keys = {"write_key": f"{name:W<16}", "read_key": f"{name:R<16}"}
    return registry.add_channel(account_id, ChannelSettings(name=name), most=10, **keys).id


def test_they_are_kept_changed_and_taken_back(registry: Registry) -> None:
    ada = add_account(registry, "ada")
    channel = add_channel(registry, ada, "c")
    assert registry.update_policies() == ({}, {})
    registry.set_account_update_policy(ada, MERGE)
    registry.set_channel_update_policy(ada, channel, MERGE)
    registry.set_channel_update_policy(ada, channel, REJECT)
    assert registry.update_policies() == ({ada: MERGE}, {channel: REJECT})
    registry.set_channel_update_policy(ada, channel, None)
    registry.set_channel_update_policy(ada, channel, None)
    registry.set_account_update_policy(ada, REJECT)
    assert registry.update_policies() == ({ada: REJECT}, {})


def test_they_go_with_their_channel_and_account(registry: Registry) -> None:
    ada, bob = add_account(registry, "ada"), add_account(registry, "bob")
    first, second = add_channel(registry, ada, "c"), add_channel(registry, ada, "d")
    for account in (ada, bob):
        registry.set_account_update_policy(account, MERGE)
    for channel in (first, second):
        registry.set_channel_update_policy(ada, channel, REJECT)
    registry.remove_channel(ada, first)
    assert registry.update_policies() == ({ada: MERGE, bob: MERGE}, {second: REJECT})
    registry.remove_account(ada)
    assert registry.update_policies() == ({bob: MERGE}, {})


def test_another_accounts_channel_looks_like_none(registry: Registry) -> None:
    ada, bob = add_account(registry, "ada"), add_account(registry, "bob")
    channel = add_channel(registry, ada, "c")
    with pytest.raises(NotFound) as foreign:
        registry.set_channel_update_policy(bob, channel, REJECT)
    with pytest.raises(NotFound) as unknown:
        registry.set_channel_update_policy(bob, channel + 1, REJECT)
    assert str(foreign.value) == str(unknown.value).replace(str(channel + 1), str(channel))
    with pytest.raises(NotFound):
        registry.set_account_update_policy(99, REJECT)
    assert registry.update_policies() == ({}, {})
