"""Principals: who is the same actor as whom."""

from __future__ import annotations

from types import MappingProxyType

from headwater.model.principal import ANONYMOUS, KEY_ONLY, Grant, Principal, PrincipalKind

ACTORS = {
    "account:5": Principal(PrincipalKind.ACCOUNT, account_id=5),
    "device:5": Principal(PrincipalKind.DEVICE, account_id=5, device_id=5),
    "account-device:5": Principal(PrincipalKind.ACCOUNT_DEVICE, account_id=5, account_device_id=5),
    "anonymous": ANONYMOUS,
    "keys": KEY_ONLY,
}


def test_every_actor_has_a_name_of_its_own():
    assert {key: principal.key for key, principal in ACTORS.items()} == {key: key for key in ACTORS}
    assert len(set(ACTORS.values())) == len(ACTORS)


def test_grants_make_no_other_actor():
    grants = MappingProxyType({1: Grant(1, allow_publish=True, allow_subscribe=True)})
    device = Principal(PrincipalKind.DEVICE, account_id=5, device_id=5, grants=grants)
    assert device == ACTORS["device:5"]
    assert hash(device) == hash(ACTORS["device:5"])
    assert device != "device:5"


def test_an_account_device_may_use_no_channel_not_even_its_account_s():
    principal = ACTORS["account-device:5"]
    assert not principal.may_publish(1, owner_id=5)
    assert not principal.may_subscribe(1, owner_id=5)
