"""Sharing channels by name: who may read then, and who is told of the change."""

from __future__ import annotations

import pytest

from headwater.errors import BadRequest
from headwater.registry.entities import ChannelSettings
from headwater.services.channels import Channels


async def test_a_reader_reads_by_account_and_by_key_and_opens_nothing(house):
    ada, bob, eve = [await house.account(name) for name in ("ada", "bob", "eve")]
    channel = await house.channels.create(ada.id, ChannelSettings())
    await house.channels.share(ada.id, channel.id, ["bob", "bob"])
    assert house.channels.shared_with(channel) == [bob]
    assert house.access.channels_shared_with(bob.id) == [channel]
    assert house.access.channels_shared_with(ada.id) == []
    assert [house.access.may_view(channel, one) for one in (ada, bob, eve, None)] == [True, True, False, False]
    assert house.access.may_read(channel, bob.user_api_key)
    assert not house.access.may_read(channel, eve.user_api_key)
    assert not house.access.may_read(channel, bob.mqtt_api_key)
    assert not house.access.opens(channel, bob.user_api_key)


async def test_every_change_is_announced_and_none_is_not(house):
    ada, _ = await house.account("ada"), await house.account("bob")
    channel = await house.channels.create(ada.id, ChannelSettings())
    house.changes.clear()
    await house.channels.share(ada.id, channel.id, [])
    assert house.changes == []
    await house.channels.share(ada.id, channel.id, ["bob"])
    await house.channels.share(ada.id, channel.id, ["bob"])
    await house.channels.share(ada.id, channel.id, [])
    assert [change.bucket_ids for change in house.changes] == [{channel.id}] * 2


async def test_a_share_that_somebody_else_made_is_announced_on_reload(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    channel = await house.channels.create(ada.id, ChannelSettings())
    await house.worker.write(lambda registry: registry.set_shares(ada.id, channel.id, [bob.id]))
    house.changes.clear()
    house.access.load(await house.worker.read(lambda registry: registry.snapshot()))
    assert [change.bucket_ids for change in house.changes] == [{channel.id}]
    assert house.access.may_view(channel, bob)


async def test_a_share_ends_with_its_account_and_with_its_channel(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    first, second = [await house.channels.create(ada.id, ChannelSettings()) for _ in range(2)]
    await house.channels.share(ada.id, first.id, ["bob"])
    await house.channels.share(ada.id, second.id, ["bob"])
    await house.channels.delete(ada.id, first.id)
    assert house.access.channels_shared_with(bob.id) == [second]
    await house.accounts.remove("bob")
    assert house.access.shared_with(second.id) == frozenset()


async def test_a_channel_is_shared_with_so_many(house):
    ada = await house.account("ada")
    for name in ("bob", "eve"):
        await house.account(name)
    channels = Channels(house.worker, house.access, max_shares_per_channel=1)
    channel = await channels.create(ada.id, ChannelSettings())
    await channels.share(ada.id, channel.id, ["eve"])
    with pytest.raises(BadRequest, match="at most 1 accounts"):
        await channels.share(ada.id, channel.id, ["bob", "eve"])
    with pytest.raises(BadRequest, match="no account 'nobody'"):
        await channels.share(ada.id, channel.id, ["nobody"])
    with pytest.raises(BadRequest, match="is yours"):
        await channels.share(ada.id, channel.id, ["ada"])
    assert [account.name for account in channels.shared_with(channel)] == ["eve"]
