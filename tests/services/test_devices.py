from __future__ import annotations

import re

import pytest

from headwater.errors import BadRequest, Conflict, NotAuthenticated, NotFound
from headwater.model.principal import Grant, Principal, PrincipalKind
from headwater.registry.entities import ChannelSettings
from headwater.services.access import AccessChange
from headwater.services.devices import Devices


async def test_a_new_device_can_sign_in_with_what_it_was_given(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    grant = Grant(channel.id, allow_publish=True, allow_subscribe=False)
    device, password = await house.devices.create(account.id, "Garden probe", [grant])
    assert re.fullmatch(r"[0-9A-Za-z]{23}", device.client_id)
    assert device.username == device.client_id
    assert re.fullmatch(r"[0-9A-Za-z]{24}", password)
    assert (device.name, device.is_enabled, device.grants) == ("Garden probe", True, (grant,))
    principal = house.access.authenticate_mqtt(device.client_id, device.username, password.encode())
    assert principal == Principal(PrincipalKind.DEVICE, account.id, device.id)
    assert principal.grants == {channel.id: grant}
    assert await house.devices.owned(account.id) == [device]
    assert await house.devices.get_owned(account.id, device.id) == device


async def test_only_what_is_given_changes(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    grants = (Grant(channel.id, True, True),)
    device, password = await house.devices.create(account.id, "a", grants)
    await house.devices.update(account.id, device.id, name="b")
    await house.devices.update(account.id, device.id, is_enabled=False)
    changed = await house.devices.update(account.id, device.id)
    assert (changed.name, changed.is_enabled, changed.grants) == ("b", False, grants)
    with pytest.raises(NotAuthenticated):
        house.access.authenticate_mqtt(device.client_id, device.username, password.encode())
    await house.devices.update(account.id, device.id, is_enabled=True)
    changed = await house.devices.update(account.id, device.id, grants=[])
    assert (changed.name, changed.is_enabled, changed.grants) == ("b", True, ())
    assert house.access.authenticate_mqtt(device.client_id, device.username, password.encode()).grants == {}


async def test_a_change_says_whose_rights_changed_and_whether_sessions_end(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    device, _ = await house.devices.create(account.id, "a", [])
    ids = frozenset({device.id})
    house.changes.clear()
    await house.devices.update(account.id, device.id, grants=[Grant(channel.id, True, True)])
    await house.devices.update(account.id, device.id, is_enabled=False)
    await house.devices.update(account.id, device.id, is_enabled=True)
    await house.devices.rotate_password(account.id, device.id)
    await house.devices.delete(account.id, device.id)
    assert house.changes == [
        AccessChange(ids),
        AccessChange(ids, ends_sessions=True),
        AccessChange(ids),
        AccessChange(ids, ends_sessions=True),
        AccessChange(ids, ends_sessions=True),
    ]


async def test_a_new_password_ends_the_old_one(house):
    account = await house.account()
    device, old = await house.devices.create(account.id, "a", [])
    same_device, new = await house.devices.rotate_password(account.id, device.id)
    assert same_device == device
    assert new != old
    house.access.authenticate_mqtt(device.client_id, device.username, new.encode())
    with pytest.raises(NotAuthenticated):
        house.access.authenticate_mqtt(device.client_id, device.username, old.encode())


async def test_a_deleted_device_is_gone(house):
    account = await house.account()
    device, password = await house.devices.create(account.id, "a", [])
    assert await house.devices.delete(account.id, device.id) == device
    assert await house.devices.owned(account.id) == []
    with pytest.raises(NotFound):
        await house.devices.get_owned(account.id, device.id)
    with pytest.raises(NotAuthenticated):
        house.access.authenticate_mqtt(device.client_id, device.username, password.encode())


async def test_grants_are_for_one_s_own_channels_only(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    own = await house.channels.create(ada.id, ChannelSettings())
    foreign = await house.channels.create(bob.id, ChannelSettings())
    device, _ = await house.devices.create(ada.id, "a", [Grant(own.id, True, True)])
    for bucket_id in (foreign.id, 99, 0, -1, 2**70):
        grants = [Grant(own.id, True, True), Grant(bucket_id, True, True)]
        with pytest.raises(NotFound, match=f"channel {bucket_id}$"):
            await house.devices.create(ada.id, "b", grants)
        with pytest.raises(NotFound, match=f"channel {bucket_id}$"):
            await house.devices.update(ada.id, device.id, name="b", grants=grants)
    assert await house.devices.owned(ada.id) == [device]


async def test_what_cannot_be_is_refused(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    device, _ = await house.devices.create(account.id, "a", [])
    for name in ("", "  ", "x" * 256, "a\nb"):
        with pytest.raises(BadRequest, match="name"):
            await house.devices.create(account.id, name, [])
        with pytest.raises(BadRequest, match="name"):
            await house.devices.update(account.id, device.id, name=name)
    with pytest.raises(BadRequest, match="twice"):
        await house.devices.create(account.id, "b", [Grant(channel.id, True, True)] * 2)
    with pytest.raises(BadRequest, match="at most 20"):
        await house.devices.update(account.id, device.id, grants=[Grant(number, True, True) for number in range(1, 22)])
    assert await house.devices.owned(account.id) == [device]


async def test_the_number_of_devices_is_limited(house):
    account = await house.account()
    devices = Devices(house.worker, house.access, house.limits, max_devices_per_account=1)
    await devices.create(account.id, "a", [])
    with pytest.raises(Conflict, match="at most 1 MQTT devices"):
        await devices.create(account.id, "b", [])
