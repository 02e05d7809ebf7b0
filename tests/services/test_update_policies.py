"""Which limit applies to a channel, from memory and after a restart."""

from __future__ import annotations

import pytest

from headwater.errors import BadRequest, NotFound
from headwater.model.update_policy import INTERVAL_MAX_S, NO_LIMIT, TooFast, UpdatePolicy
from headwater.registry.entities import ChannelSettings
from headwater.services.update_policies import UpdatePolicies

MERGE = UpdatePolicy(TooFast.MERGE, 30)
REJECT = UpdatePolicy(TooFast.REJECT, 15)


async def test_a_channels_own_comes_before_its_accounts(house) -> None:
    policies = UpdatePolicies(house.worker, house.access)
    ada = await house.account()
    one = await house.channels.create(ada.id, ChannelSettings(name="c"))
    other = await house.channels.create(ada.id, ChannelSettings(name="d"))
    assert policies.effective(one) == NO_LIMIT
    await policies.set_for_account(ada.id, MERGE)
    assert (policies.effective(one), policies.of_channel(one.id)) == (MERGE, None)
    await policies.set_for_channel(ada.id, one.id, REJECT)
    await policies.set_for_channel(ada.id, other.id, NO_LIMIT)
    assert (policies.effective(one), policies.effective(other)) == (REJECT, NO_LIMIT)
    again = UpdatePolicies(house.worker, house.access)
    await again.load()
    assert (again.effective(one), again.effective(other), again.of_account(ada.id)) == (REJECT, NO_LIMIT, MERGE)
    await policies.set_for_channel(ada.id, one.id, None)
    assert policies.effective(one) == MERGE


async def test_whoever_resolved_a_target_is_told(house) -> None:
    policies = UpdatePolicies(house.worker, house.access)
    ada, bob = await house.account(), await house.account("bob")
    channels = [(await house.channels.create(ada.id, ChannelSettings(name=name))).id for name in "cd"]
    await house.channels.create(bob.id, ChannelSettings(name="e"))
    house.changes.clear()
    await policies.set_for_account(ada.id, MERGE)
    await policies.set_for_channel(ada.id, channels[0], REJECT)
    assert [change.bucket_ids for change in house.changes] == [frozenset(channels), frozenset(channels[:1])]
    house.changes.clear()
    await policies.load()
    assert house.changes == []
    again = UpdatePolicies(house.worker, house.access)
    await again.load()
    assert [change.bucket_ids for change in house.changes] == [frozenset(channels)]


async def test_what_cannot_be(house) -> None:
    policies = UpdatePolicies(house.worker, house.access)
    ada, bob = await house.account(), await house.account("bob")
    channel = await house.channels.create(ada.id, ChannelSettings(name="c"))
    for interval_s in (0, -1, INTERVAL_MAX_S + 1):
        with pytest.raises(BadRequest, match="interval_s"):
            await policies.set_for_account(ada.id, UpdatePolicy(TooFast.MERGE, interval_s))
        with pytest.raises(BadRequest, match="interval_s"):
            await policies.set_for_channel(ada.id, channel.id, UpdatePolicy(TooFast.MERGE, interval_s))
    with pytest.raises(NotFound):
        await policies.set_for_channel(bob.id, channel.id, REJECT)
    assert policies.effective(channel) == NO_LIMIT


async def test_they_go_with_what_they_are_for(house) -> None:
    policies = UpdatePolicies(house.worker, house.access)
    await house.accounts.add("root", "root's password", is_admin=True)
    ada = await house.account()
    channel = await house.channels.create(ada.id, ChannelSettings(name="c"))
    await policies.set_for_account(ada.id, MERGE)
    await policies.set_for_channel(ada.id, channel.id, REJECT)
    await house.channels.delete(ada.id, channel.id)
    assert policies.of_channel(channel.id) is None
    await house.accounts.remove("ada")
    assert policies.of_account(ada.id) == NO_LIMIT
