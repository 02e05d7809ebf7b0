"""An account can neither see nor touch another's things: every method that takes an account, tried with the ids of
another account's things and with ids that do not exist. The two must look alike."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from headwater.errors import NotFound
from headwater.model.principal import Grant
from headwater.registry.entities import ChannelSettings
from headwater.services.account_devices import AccountDevices
from headwater.services.accounts import Accounts
from headwater.services.channels import Channels
from headwater.services.devices import Devices

SETTINGS = ChannelSettings(name="taken over")
REFUSED: dict[str, Any] = {
    "Channels.get_owned": lambda house, me, thing: house.channels.get_owned(me, thing.channel),
    "Channels.update": lambda house, me, thing: house.channels.update(me, thing.channel, SETTINGS),
    "Channels.delete": lambda house, me, thing: house.channels.delete(me, thing.channel),
    "Channels.rotate_write_key": lambda house, me, thing: house.channels.rotate_write_key(me, thing.channel),
    "Channels.add_read_key": lambda house, me, thing: house.channels.add_read_key(me, thing.channel),
    "Channels.set_key_note": lambda house, me, thing: house.channels.set_key_note(me, thing.channel, thing.key, "mine"),
    "Channels.remove_read_key": lambda house, me, thing: house.channels.remove_read_key(me, thing.channel, thing.key),
    "Devices.create": lambda house, me, thing: house.devices.create(me, "mine", [Grant(thing.channel, True, True)]),
    "Devices.get_owned": lambda house, me, thing: house.devices.get_owned(me, thing.device),
    "Channels.share": lambda house, me, thing: house.channels.share(me, thing.channel, []),
    "Devices.update": lambda house, me, thing: house.devices.update(me, thing.device, name="mine"),
    "Devices.rotate_password": lambda house, me, thing: house.devices.rotate_password(me, thing.device),
    "Devices.delete": lambda house, me, thing: house.devices.delete(me, thing.device),
    "AccountDevices.get_owned": lambda house, me, thing: house.account_devices.get_owned(me, thing.account_device),
    "AccountDevices.update": lambda house, me, thing: house.account_devices.update(
        me, thing.account_device, name="mine", is_enabled=False
    ),
    "AccountDevices.set_credential": lambda house, me, thing: house.account_devices.set_credential(
        me, thing.account_device, "my own now"
    ),
    "AccountDevices.delete": lambda house, me, thing: house.account_devices.delete(me, thing.account_device),
    "Accounts.remove_token": lambda house, me, thing: house.accounts.remove_token(me, thing.token),
}
"""Methods that name a thing by its id."""
OWN_ONLY = {
    "Channels.owned",
    "Channels.create",
    "Devices.owned",
    "AccountDevices.owned",
    "AccountDevices.create",
    "Accounts.tokens",
    "Accounts.add_token",
    "Accounts.rotate_user_api_key",
    "Accounts.rotate_mqtt_api_key",
    "Accounts.rotate_alerts_api_key",
    "Accounts.set_email",
    "Accounts.set_time_zone",
}
"""Methods that can name nothing but the account itself."""


class Ids:
    def __init__(self, channel: int, key: int, device: int, account_device: int, token: int) -> None:
        self.channel, self.key, self.device, self.token = channel, key, device, token
        self.account_device = account_device


def test_every_method_that_takes_an_account_is_tried():
    methods = {
        f"{service.__name__}.{name}"
        for service in (Accounts, Channels, Devices, AccountDevices)
        for name, method in inspect.getmembers(service, inspect.iscoroutinefunction)
        if not name.startswith("_") and "account_id" in inspect.signature(method).parameters
    }
    assert methods == OWN_ONLY | REFUSED.keys()


@pytest.fixture
async def theirs(house) -> Ids:
    bob = await house.account("bob")
    channel = await house.channels.create(bob.id, ChannelSettings(is_public=True))
    device, _ = await house.devices.create(bob.id, "bob's", [Grant(channel.id, True, True)])
    account_device, _ = await house.account_devices.create(bob.id, "pump")
    token, _ = await house.accounts.add_token(bob.id, "bob's")
    return Ids(channel.id, channel.api_keys[1].id, device.id, account_device.id, token.id)


@pytest.mark.parametrize("method", sorted(REFUSED))
async def test_another_s_thing_looks_like_none_and_stays_as_it_is(house, theirs, method):
    ada = await house.account("ada")
    before = await house.worker.read(lambda registry: registry.snapshot())
    changes = list(house.changes)
    told = []
    for thing in (theirs, *(Ids(none, none, none, none, none) for none in (99, 0, -1, 2**31, 2**64))):
        with pytest.raises(NotFound) as caught:
            await REFUSED[method](house, ada.id, thing)
        told.append("".join(letter for letter in str(caught.value) if letter not in "-0123456789"))
    assert len(set(told)) == 1
    assert await house.worker.read(lambda registry: registry.snapshot()) == before
    assert house.changes == changes
    assert house.deleted == []


@pytest.mark.usefixtures("theirs")
async def test_lists_hold_one_s_own_things_only(house):
    ada = await house.account("ada")
    assert await house.channels.owned(ada.id) == []
    assert await house.devices.owned(ada.id) == []
    assert await house.account_devices.owned(ada.id) == []
    assert await house.accounts.tokens(ada.id) == []


async def test_an_account_that_does_not_exist_owns_and_makes_nothing(house):
    for attempt in (
        house.channels.create(99, SETTINGS),
        house.devices.create(99, "d", []),
        house.account_devices.create(99, "d"),
        house.accounts.add_token(99, "t"),
        house.accounts.rotate_user_api_key(99),
        house.accounts.rotate_mqtt_api_key(99),
        house.accounts.rotate_alerts_api_key(99),
        house.accounts.set_email(99, ""),
        house.accounts.set_time_zone(99, "UTC"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await house.channels.owned(99) == await house.devices.owned(99) == []
    assert await house.accounts.tokens(99) == []
