"""Account devices: made, changed and ended by their owner, and signing in with a generated or a chosen credential."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading

import pytest

from headwater.errors import BadRequest, Conflict, NotAuthenticated, NotFound, TooManyRequests
from headwater.model.principal import Principal, PrincipalKind
from headwater.registry.entities import ChannelSettings
from headwater.registry.passwords import Passwords
from headwater.registry.registry import Registry
from headwater.services.access import Access, AccessChange
from headwater.services.account_devices import AccountDevices
from headwater.services.mqtt_sign_in import SignInFailed

CHOSEN = "gänse füßchen"


async def sign_in(house, device_id: str, username: str | None, credential: str | bytes | None) -> Principal:
    password = credential.encode() if isinstance(credential, str) else credential
    answer = house.access.authenticate_mqtt(device_id, username, password)
    return await answer if inspect.isawaitable(answer) else answer


async def refused(house, *credentials) -> SignInFailed:
    with pytest.raises(SignInFailed) as caught:
        await sign_in(house, *credentials)
    return caught.value


@pytest.mark.parametrize("chosen", [None, CHOSEN])
async def test_a_new_device_can_sign_in_with_what_it_was_given(house, chosen):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    device, credential = await house.account_devices.create(account.id, "pump_1-A", "The pump", chosen)
    assert (device.account_id, device.device_id, device.name, device.is_enabled) == (
        account.id, "pump_1-A", "The pump", True,
    )  # fmt: skip
    assert credential == chosen or re.fullmatch(r"[0-9A-Za-z]{24}", credential)
    principal = await sign_in(house, "pump_1-A", "ada", credential)
    assert principal == Principal(PrincipalKind.ACCOUNT_DEVICE, account.id, account_device_id=device.id)
    assert (principal.kind, principal.account_id, principal.device_id) == (
        PrincipalKind.ACCOUNT_DEVICE, account.id, None,
    )  # fmt: skip
    assert not principal.may_publish(channel.id, account.id)
    assert not principal.may_subscribe(channel.id, account.id)
    assert house.access.renewed(principal) == principal
    assert await house.account_devices.owned(account.id) == [device]
    assert await house.account_devices.get_owned(account.id, device.id) == device


@pytest.mark.parametrize("chosen", [None, CHOSEN])
async def test_nothing_else_signs_in(house, chosen):
    account = await house.account()
    bob = await house.account("bob")
    device, credential = await house.account_devices.create(account.id, "pump", credential=chosen)
    _, bobs = await house.account_devices.create(bob.id, "pump")
    _, bobs_token = await house.accounts.add_token(bob.id, "t")
    texts = set()
    for username, wrong, owner_is_told in [
        ("ada", None, True),
        ("ada", b"", True),
        ("ada", credential + " ", True),
        ("ada", bobs, True),
        ("ada", bobs_token, True),
        ("ada", b"\xff\xfe", True),
        ("ada", "x" * 100_000, True),
        ("ada", "ada's password", True),
        ("ADA", credential, False),
        ("", credential, False),
        (None, credential, False),
        ("\ud800", credential, False),
    ]:
        failure = await refused(house, "pump", username, wrong)
        texts.add(str(failure))
        assert failure.account_device_id == (device.id if owner_is_told else None)
        assert failure.device_id is None
    texts.add(str(await refused(house, "Pump", "ada", credential)))
    assert len(texts) == 1
    assert credential not in texts.pop()
    for other in ("bob", "ada/pump"):
        with pytest.raises(NotAuthenticated):
            await sign_in(house, "pump", other, credential)


async def test_the_account_s_token_is_good_under_any_client_id(house):
    account = await house.account()
    device, _ = await house.account_devices.create(account.id, "pump")
    _, token = await house.accounts.add_token(account.id, "t")
    principal = await sign_in(house, "pump", "ada", token)
    assert principal == Principal(PrincipalKind.ACCOUNT, account.id)
    await house.account_devices.update(account.id, device.id, is_enabled=False)
    assert await sign_in(house, "pump", "ada", token) == principal


async def test_a_credential_that_is_another_s_token_is_the_device_s_all_the_same(house):
    account = await house.account()
    await house.accounts.add("bob", "bob's password", token="same-text")
    device, _ = await house.account_devices.create(account.id, "pump", credential="same-text")
    assert (await sign_in(house, "pump", "ada", "same-text")).account_device_id == device.id


async def test_nobody_keeps_another_s_device_out_by_its_name(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    device, password = await house.devices.create(ada.id, "ada's", [])
    client_id = device.client_id
    own, credential = await house.account_devices.create(bob.id, client_id)
    assert (await sign_in(house, client_id, client_id, password)).device_id == device.id
    assert (await sign_in(house, client_id, "bob", credential)).account_device_id == own.id
    # An account of that name, so that client id and user name are the same for both: the MQTT device stays.
    squatter = await house.account(client_id)
    _, same = await house.account_devices.create(squatter.id, client_id)
    assert (await sign_in(house, client_id, client_id, password)).device_id == device.id
    assert (await refused(house, client_id, client_id, same)).device_id == device.id
    # And neither does the device of one account lead to that of the other.
    assert (await refused(house, client_id, "bob", password)).account_device_id == own.id


async def test_the_slow_hash_runs_in_threads_of_its_own_and_once_only(house, monkeypatch):
    account = await house.account()
    ran_in = []
    matches = Passwords._matches

    def noted(self, *arguments):
        ran_in.append(threading.current_thread())
        return matches(self, *arguments)

    monkeypatch.setattr(Passwords, "_matches", noted)
    device, _ = await house.account_devices.create(account.id, "pump", credential=CHOSEN)
    first = house.access.authenticate_mqtt("pump", "ada", CHOSEN.encode())
    assert inspect.isawaitable(first)
    assert (await first).account_device_id == device.id
    assert len(ran_in) == 1
    assert threading.main_thread() not in ran_in
    # From now on at once, right or wrong, also in another spelling of the same letters.
    for text in (CHOSEN, CHOSEN.replace("ä", "a\u0308")):
        assert house.access.authenticate_mqtt("pump", "ada", text.encode()).account_device_id == device.id
    with pytest.raises(SignInFailed):
        house.access.authenticate_mqtt("pump", "ada", b"wrong!")
    assert len(ran_in) == 1
    # A new credential is a new question, and the old one no answer.
    await house.account_devices.set_credential(account.id, device.id, "another one")
    assert (await refused(house, "pump", "ada", CHOSEN)).reason == "wrong password"
    assert (await sign_in(house, "pump", "ada", "another one")).account_device_id == device.id
    assert len(ran_in) == 3


async def test_a_generated_credential_needs_no_slow_hash(house):
    account = await house.account()
    device, credential = await house.account_devices.create(account.id, "pump")
    access = Access()  # has none
    access.load(await house.worker.read(Registry.snapshot))
    assert access.authenticate_mqtt("pump", "ada", credential.encode()).account_device_id == device.id
    await house.account_devices.set_credential(account.id, device.id, CHOSEN)
    access.load(await house.worker.read(Registry.snapshot))
    with pytest.raises(SignInFailed):
        access.authenticate_mqtt("pump", "ada", CHOSEN.encode())


@pytest.mark.parametrize("event", ["disabled", "deleted", "new credential"])
async def test_what_happens_while_the_slow_hash_runs_counts(house, event):
    account = await house.account()
    device, _ = await house.account_devices.create(account.id, "pump", credential=CHOSEN)
    answer = house.access.authenticate_mqtt("pump", "ada", CHOSEN.encode())
    assert inspect.isawaitable(answer)
    if event == "disabled":
        await house.account_devices.update(account.id, device.id, is_enabled=False)
    elif event == "deleted":
        await house.account_devices.delete(account.id, device.id)
    else:
        await house.account_devices.set_credential(account.id, device.id)
    with pytest.raises(SignInFailed) as caught:
        await answer
    assert caught.value.account_device_id == device.id


async def test_too_many_at_once_are_told_so(house):
    account = await house.account()
    await house.account_devices.create(account.id, "pump", credential=CHOSEN)
    release = threading.Event()
    passwords = Passwords(time_cost=1, memory_cost_kib=8, max_at_once=1, max_waiting=0)
    access = Access(passwords=passwords)
    access.load(await house.worker.read(Registry.snapshot))
    passwords._threads.submit(release.wait)
    waiting = asyncio.ensure_future(access.authenticate_mqtt("pump", "ada", CHOSEN.encode()))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await access.authenticate_mqtt("pump", "ada", CHOSEN.encode())
    release.set()
    assert (await waiting).kind is PrincipalKind.ACCOUNT_DEVICE
    passwords.close()


async def test_a_certificate_stands_for_the_device_it_is_named_after(house):
    ada, _ = await house.account("ada"), await house.account("bob")
    device, _ = await house.devices.create(ada.id, "ada's", [])
    own, _ = await house.account_devices.create(ada.id, "pump")
    by_certificate = house.access.authenticate_certificate
    assert by_certificate(device.client_id, device.client_id).device_id == device.id
    assert by_certificate("pump", "ada/pump").account_device_id == own.id
    for client_id, common_name in [
        ("pump", "pump"),
        ("pump", "bob/pump"),
        ("pump", "ada/pump/"),
        ("pump", "/pump"),
        ("", ""),
        ("", "ada/"),
        ("nobody", "nobody"),
        (device.client_id, f"ada/{device.client_id}"),
    ]:
        with pytest.raises(SignInFailed) as caught:
            by_certificate(client_id, common_name)
        assert (caught.value.device_id, caught.value.account_device_id) == (None, None)
    with pytest.raises(SignInFailed) as caught:
        by_certificate("other", "ada/pump")
    assert caught.value.account_device_id == own.id
    with pytest.raises(SignInFailed) as caught:
        by_certificate("other", device.client_id)
    assert caught.value.device_id == device.id
    await house.account_devices.update(ada.id, own.id, is_enabled=False)
    await house.devices.update(ada.id, device.id, is_enabled=False)
    for client_id, common_name in [("pump", "ada/pump"), (device.client_id, device.client_id)]:
        with pytest.raises(SignInFailed) as caught:
            by_certificate(client_id, common_name)
        assert caught.value.reason == "the device is disabled"


async def test_only_what_is_given_changes(house):
    account = await house.account()
    device, credential = await house.account_devices.create(account.id, "pump")
    assert device.name == "pump"
    await house.account_devices.update(account.id, device.id, name="b")
    await house.account_devices.update(account.id, device.id, is_enabled=False)
    changed = await house.account_devices.update(account.id, device.id)
    assert (changed.name, changed.is_enabled, changed.device_id) == ("b", False, "pump")
    assert (await refused(house, "pump", "ada", credential)).reason == "the device is disabled"
    await house.account_devices.update(account.id, device.id, is_enabled=True)
    assert (await sign_in(house, "pump", "ada", credential)).account_device_id == device.id


async def test_a_change_says_whose_rights_changed_and_whether_sessions_end(house):
    account = await house.account()
    device, _ = await house.account_devices.create(account.id, "pump")
    principal = Principal(PrincipalKind.ACCOUNT_DEVICE, account.id, account_device_id=device.id)
    ids = frozenset({device.id})
    house.changes.clear()
    await house.account_devices.update(account.id, device.id, name="b")
    await house.account_devices.update(account.id, device.id, is_enabled=False)
    assert house.access.renewed(principal) is None
    await house.account_devices.update(account.id, device.id, is_enabled=True)
    await house.account_devices.set_credential(account.id, device.id)
    await house.account_devices.set_credential(account.id, device.id, CHOSEN)
    await house.account_devices.delete(account.id, device.id)
    assert house.access.renewed(principal) is None
    assert house.changes == [
        AccessChange(account_device_ids=ids, ends_sessions=ends)
        for ends in (False, True, False, True, True, True)
    ]  # fmt: skip


async def test_a_deleted_device_is_gone_and_its_id_free_again(house):
    account = await house.account()
    device, credential = await house.account_devices.create(account.id, "pump")
    assert await house.account_devices.delete(account.id, device.id) == device
    assert await house.account_devices.owned(account.id) == []
    with pytest.raises(NotFound):
        await house.account_devices.get_owned(account.id, device.id)
    await refused(house, "pump", "ada", credential)
    again, _ = await house.account_devices.create(account.id, "pump")
    assert again.id > device.id


async def test_what_cannot_be_is_refused(house):
    account = await house.account()
    device, _ = await house.account_devices.create(account.id, "pump")
    for device_id in ("", " ", "x" * 33, "a/b", "a+", "#", "a b", "ä", "a\n", "a.b"):
        with pytest.raises(BadRequest, match="device id"):
            await house.account_devices.create(account.id, device_id)
    for name in ("  ", "x" * 256, "a\nb"):
        with pytest.raises(BadRequest, match="name"):
            await house.account_devices.create(account.id, "other", name)
        with pytest.raises(BadRequest, match="name"):
            await house.account_devices.update(account.id, device.id, name=name)
    for credential in ("", "12345", "x" * 256, "a\x00bcdefg", "a\nbcdefg", "\ud800bcdefg"):
        with pytest.raises(BadRequest, match="credential") as caught:
            await house.account_devices.create(account.id, "other", credential=credential)
        assert not credential or credential not in str(caught.value)
        with pytest.raises(BadRequest, match="credential"):
            await house.account_devices.set_credential(account.id, device.id, credential)
    assert await house.account_devices.owned(account.id) == [device]


async def test_a_device_id_is_unique_within_its_account_only(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    await house.account_devices.create(ada.id, "pump")
    with pytest.raises(Conflict, match="pump already"):
        await house.account_devices.create(ada.id, "pump")
    await house.account_devices.create(bob.id, "pump")
    await house.account_devices.create(ada.id, "Pump")


async def test_the_number_of_devices_is_limited(house):
    account = await house.account()
    devices = AccountDevices(house.worker, house.access, house.limits, house.passwords, max_devices_per_account=1)
    await devices.create(account.id, "a")
    with pytest.raises(Conflict, match="at most 1 account devices"):
        await devices.create(account.id, "b")
