from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import Conflict, NotAuthenticated, NotFound
from headwater.model.principal import ANONYMOUS, KEY_ONLY, Grant, Principal, PrincipalKind
from headwater.registry.entities import ChannelSettings
from headwater.registry.opening import open_registry
from headwater.registry.registry import Registry
from headwater.services.access import Access, AccessChange
from headwater.services.mqtt_sign_in import SignInFailed

PRIVATE, PUBLIC = ChannelSettings(is_public=False), ChannelSettings(is_public=True)


@pytest.fixture
async def scene(house):
    """Two accounts with a private channel, a device and a token each."""
    people = []
    for name in ("ada", "bob"):
        account = await house.account(name)
        channel = await house.channels.create(account.id, PRIVATE)
        grant = Grant(channel.id, allow_publish=True, allow_subscribe=False)
        device, password = await house.devices.create(account.id, f"{name}'s", [grant])
        _, token = await house.accounts.add_token(account.id, "t")
        people.append(
            SimpleNamespace(
                account=account, channel=channel, grant=grant, device=device, password=password, token=token
            )
        )
    house.changes.clear()
    return SimpleNamespace(house=house, access=house.access, ada=people[0], bob=people[1])


def test_an_empty_access_knows_nobody():
    access = Access()
    assert access.account(1) is access.account_named("ada") is access.account_of_key("KEY") is None
    assert access.channel(1) is access.channel_of_write_key("KEY") is access.device(1) is None
    assert access.accounts() == access.channels_of(1) == access.devices_of(1) == access.tokens_of(1) == []


async def test_a_private_channel_is_read_by_its_owner_and_with_its_keys_only(scene):
    may_read, ada, bob = scene.access.may_read, scene.ada, scene.bob
    yes = [ada.channel.write_key, *ada.channel.read_keys, ada.account.user_api_key, ada.token]
    no = [
        *(key.key for key in bob.channel.api_keys),
        bob.account.user_api_key,
        bob.token,
        ada.account.mqtt_api_key,
        ada.password,
        "",
        " ",
        ada.channel.write_key.lower(),
        ada.channel.write_key[:-1],
        "x" * 100_000,
        "\ud800",
    ]
    assert all(may_read(ada.channel, key) for key in yes)
    assert all(may_read(ada.channel, f" {key}\r\n") for key in yes)
    assert not any(may_read(ada.channel, key) for key in no)
    assert not may_read(ada.channel, None)
    assert may_read(ada.channel, None, ada.account)
    assert not may_read(ada.channel, None, bob.account)
    assert may_read(ada.channel, ada.channel.write_key, bob.account)


async def test_a_public_channel_is_read_by_everybody(scene):
    channel = await scene.house.channels.update(scene.ada.account.id, scene.ada.channel.id, PUBLIC)
    assert scene.access.may_read(channel, None)
    assert scene.access.may_read(channel, "WRONG", scene.bob.account)
    private = await scene.house.channels.update(scene.ada.account.id, scene.ada.channel.id, PRIVATE)
    assert not scene.access.may_read(private, None)


async def test_keys_lead_to_what_they_are_for(scene):
    access, ada = scene.access, scene.ada
    assert access.channel_of_write_key(f"{ada.channel.write_key} ") == ada.channel
    assert access.account_of_key(f"{ada.account.user_api_key} ") == ada.account
    assert access.account_of_key(f"{ada.token} ") == ada.account
    for wrong in (*ada.channel.read_keys, ada.account.user_api_key, ada.token, "", "x" * 100_000, "\ud800"):
        assert access.channel_of_write_key(wrong) is None
    for wrong in (ada.channel.write_key, ada.account.mqtt_api_key, ada.password, "", "x" * 100_000, "\ud800"):
        assert access.account_of_key(wrong) is None


async def test_a_device_signs_in_with_exactly_its_own_credentials(scene):
    authenticate, ada, bob = scene.access.authenticate_mqtt, scene.ada, scene.bob
    client_id, password = ada.device.client_id, ada.password.encode()
    principal = authenticate(client_id, client_id, password)
    assert principal == Principal(PrincipalKind.DEVICE, ada.account.id, ada.device.id)
    assert principal.grants == {ada.channel.id: ada.grant}
    told = set()
    for username, wrong in [
        (client_id, None),
        (client_id, b""),
        (client_id, password + b" "),
        (client_id, bob.password.encode()),
        (client_id, ada.token.encode()),
        (client_id, ada.account.mqtt_api_key.encode()),
        (client_id, b"\xff\xfe"),
        (client_id, b"x" * 100_000),
        (bob.device.username, password),
        ("", password),
        (None, password),
        (None, None),
        ("\ud800", password),
    ]:
        with pytest.raises(NotAuthenticated) as caught:
            authenticate(client_id, username, wrong)
        told.add(str(caught.value))
    with pytest.raises(NotAuthenticated) as caught:
        authenticate("some-other-client", client_id, password)
    told.add(str(caught.value))
    assert len(told) == 1
    assert ada.password not in told.pop()


@pytest.mark.parametrize("username", [None, "", "anything"])
async def test_an_account_token_as_password_gives_all_rights_of_the_account(scene, username):
    principal = scene.access.authenticate_mqtt("some-client", username, scene.ada.token.encode())
    assert principal == Principal(PrincipalKind.ACCOUNT, account_id=scene.ada.account.id)
    assert principal.may_publish(scene.ada.channel.id, scene.ada.account.id)
    assert not principal.may_publish(scene.bob.channel.id, scene.bob.account.id)


async def test_the_mqtt_api_key_needs_a_user_name_and_gives_no_rights_of_its_own(scene):
    key = scene.ada.account.mqtt_api_key.encode()
    assert scene.access.authenticate_mqtt("some-client", "anything", key) is KEY_ONLY
    for username in (None, ""):
        with pytest.raises(NotAuthenticated):
            scene.access.authenticate_mqtt("some-client", username, key)


async def test_firmware_from_before_there_were_devices_shows_any_key_and_gets_no_rights_by_it(scene):
    """Whatever stood in the sketch as MQTT API key: the write key in the topic decides."""
    authenticate, key = scene.access.authenticate_mqtt, b"0123456789ABCDEF"
    assert authenticate("some-client", "anything", key) is KEY_ONLY
    assert authenticate("some-client", "anything", key + b" ") is KEY_ONLY
    strict = Access(allow_topic_keys=False)
    client_id = scene.ada.device.client_id
    for access, client, username, wrong in [
        (scene.access, "some-client", None, key),
        (scene.access, "some-client", client_id, key),
        (scene.access, client_id, "anything", key),
        (scene.access, "some-client", "anything", key.lower()),
        (scene.access, "some-client", "anything", key + b"0"),
        (strict, "some-client", "anything", key),
    ]:
        with pytest.raises(NotAuthenticated):
            access.authenticate_mqtt(client, username, wrong)


@pytest.mark.parametrize("password", [None, b""])
async def test_no_password_is_for_keys_in_topics_where_those_are_allowed(scene, password):
    for username in (None, "", "anything"):
        assert scene.access.authenticate_mqtt("some-client", username, password) is KEY_ONLY
    strict = Access(allow_topic_keys=False)
    with pytest.raises(NotAuthenticated):
        strict.authenticate_mqtt("some-client", None, password)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    client_id=st.text(max_size=30),
    username=st.none() | st.text(max_size=30),
    password=st.binary(min_size=1, max_size=60),
)
async def test_no_other_password_gets_in(scene, client_id, username, password):
    with pytest.raises(NotAuthenticated):
        scene.access.authenticate_mqtt(client_id, username, password)


async def test_a_principal_is_renewed_with_the_rights_of_now(scene):
    house, access, ada = scene.house, scene.access, scene.ada
    device = access.authenticate_mqtt(ada.device.client_id, ada.device.username, ada.password.encode())
    account = access.authenticate_mqtt("some-client", None, ada.token.encode())
    await house.devices.update(ada.account.id, ada.device.id, grants=[])
    renewed = access.renewed(device)
    assert renewed == device
    assert renewed.grants == {}
    await house.devices.update(ada.account.id, ada.device.id, is_enabled=False)
    assert access.renewed(device) is None
    assert access.renewed(account) is account
    assert access.renewed(KEY_ONLY) is KEY_ONLY
    await house.accounts.remove("ada")
    assert access.renewed(device) is access.renewed(account) is None


async def test_every_change_is_announced_after_it_is_in_force(scene):
    house, access, account_id = scene.house, scene.access, scene.ada.account.id
    seen: list[frozenset[int]] = []
    access.on_change(lambda change: seen.append(access.channel_ids()))
    before = access.channel_ids()
    channel = await house.channels.create(account_id, PRIVATE)
    assert house.changes == [AccessChange(bucket_ids=frozenset({channel.id}))]
    await house.accounts.rotate_user_api_key(account_id)
    assert house.changes[1:] == [AccessChange(account_ids=frozenset({account_id}))]
    assert seen == [before | {channel.id}] * 2


async def test_what_failed_is_not_announced(scene):
    with pytest.raises(NotFound):
        await scene.house.channels.delete(scene.ada.account.id, scene.bob.channel.id)
    with pytest.raises(Conflict):
        await scene.house.account("ada")
    assert scene.house.changes == []


async def test_a_restart_changes_no_answer(scene):
    before, ada = scene.access, scene.ada
    registry = open_registry(scene.house.url)
    after = Access()
    after.load(registry.snapshot())
    registry.close()
    for ask in (
        lambda access: access.accounts(),
        lambda access: access.account(ada.account.id),
        lambda access: access.account_named("ada"),
        lambda access: access.account_of_key(ada.token),
        lambda access: access.account_of_key(ada.account.user_api_key),
        lambda access: access.tokens_of(ada.account.id),
        lambda access: access.channel(ada.channel.id),
        lambda access: access.channels_of(ada.account.id),
        lambda access: access.channel_of_write_key(ada.channel.write_key),
        lambda access: access.may_read(ada.channel, ada.channel.read_keys[0]),
        lambda access: access.device(ada.device.id),
        lambda access: access.devices_of(ada.account.id),
        lambda access: access.authenticate_mqtt(ada.device.client_id, ada.device.username, ada.password.encode()),
        lambda access: access.authenticate_mqtt("some-client", None, ada.token.encode()),
    ):
        assert ask(before) == ask(after)
        assert ask(before) not in (None, [], False)


async def load_again(scene) -> list[AccessChange]:
    """Load what stands in the file, as after a change by another process."""
    scene.house.changes.clear()
    await scene.house.worker.write(Registry.snapshot, scene.access.load)
    return scene.house.changes


async def test_loading_the_same_again_ends_no_session(scene):
    assert await load_again(scene) == [AccessChange()]


async def test_loading_announces_what_another_process_changed(scene):
    other = open_registry(scene.house.url)
    ada, bob = scene.ada, scene.bob
    other.update_channel(ada.account.id, ada.channel.id, PUBLIC)
    assert await load_again(scene) == [AccessChange(bucket_ids=frozenset({ada.channel.id}))]
    other.update_device(ada.account.id, ada.device.id, grants=[])
    assert await load_again(scene) == [AccessChange(device_ids=frozenset({ada.device.id}))]
    other.set_password(ada.account.id, "hash")
    assert await load_again(scene) == [AccessChange(account_ids=frozenset({ada.account.id}))]
    other.set_device_password(ada.account.id, ada.device.id, b"x" * 32)
    assert await load_again(scene) == [AccessChange(device_ids=frozenset({ada.device.id}), ends_sessions=True)]
    other.remove_token(ada.account.id, scene.access.tokens_of(ada.account.id)[0].id)
    assert await load_again(scene) == [AccessChange(account_ids=frozenset({ada.account.id}), ends_sessions=True)]
    for number, change in enumerate(
        [
            lambda: other.add_account_device(bob.account.id, "pump", name="n", credential_hash="h", most=9),
            lambda: other.update_account_device(bob.account.id, 1, name="other"),
            lambda: other.update_account_device(bob.account.id, 1, is_enabled=False),
            lambda: other.update_account_device(bob.account.id, 1, is_enabled=True),
            lambda: other.set_account_device_credential(bob.account.id, 1, "g"),
        ]
    ):
        change()
        expected = AccessChange(account_device_ids=frozenset({1}), ends_sessions=number in (2, 4))
        assert await load_again(scene) == [expected]
    other.remove_account(bob.account.id)
    assert await load_again(scene) == [
        AccessChange(
            frozenset({bob.device.id}),
            frozenset({bob.channel.id}),
            frozenset({bob.account.id}),
            frozenset({1}),
            ends_sessions=True,
        )
    ]
    other.close()
    assert scene.access.accounts() == [scene.access.account(ada.account.id)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "channel", "update", "delete", "write key", "read key", "drop key", "device", "grants",
                "disable", "password", "drop device", "token", "drop token", "user key", "mqtt key", "account",
                "drop account", "account device", "credential", "disable account device", "drop account device",
            ]
        ),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=25,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(steps=STEPS)
async def test_memory_is_what_a_restart_would_load_after_any_changes(house, steps):
    for step, which, other in steps:
        await take(house, step, which, other)
        assert house.content() == await house.content_after_restart()


def pick(things, which):
    return things[which % len(things)] if things else None


async def take(house, step, which, other):
    if step == "account" or not house.access.accounts():
        if len(house.access.accounts()) < 3:
            taken = {account.name for account in house.access.accounts()}
            await house.account(next(name for name in ("ada", "bob", "cyd") if name not in taken))
        return
    account = pick(house.access.accounts(), which)
    channels, devices = house.access.channels_of(account.id), house.access.devices_of(account.id)
    channel, device = pick(channels, other), pick(devices, other)
    token = pick(house.access.tokens_of(account.id), other)
    account_devices = house.access.account_devices_of(account.id)
    account_device = pick(account_devices, other)
    match step:
        case "channel" if len(channels) < 20:
            await house.channels.create(account.id, ChannelSettings(fields={1: "a"}))
        case "device" if len(devices) < 20:
            grants = [Grant(channel.id, True, False) for channel in channels[:other]]
            await house.devices.create(account.id, "d", grants)
        case "token":
            await house.accounts.add_token(account.id, "t")
        case "user key":
            await house.accounts.rotate_user_api_key(account.id)
        case "mqtt key":
            await house.accounts.rotate_mqtt_api_key(account.id)
        case "drop account":
            await house.accounts.remove(account.name)
        case "drop token" if token is not None:
            await house.accounts.remove_token(account.id, token.id)
        case "update" if channel is not None:
            await house.channels.update(account.id, channel.id, ChannelSettings(fields={which + 1: "b"}))
        case "delete" if channel is not None:
            await house.channels.delete(account.id, channel.id)
        case "write key" if channel is not None:
            await house.channels.rotate_write_key(account.id, channel.id)
        case "read key" if channel is not None:
            await house.channels.add_read_key(account.id, channel.id)
        case "drop key" if channel is not None and len(channel.api_keys) > 1:
            await house.channels.remove_read_key(account.id, channel.id, channel.api_keys[-1].id)
        case "grants" if device is not None:
            grants = [Grant(channel.id, False, True) for channel in channels[which:]]
            await house.devices.update(account.id, device.id, grants=grants)
        case "disable" if device is not None:
            await house.devices.update(account.id, device.id, is_enabled=not device.is_enabled)
        case "password" if device is not None:
            await house.devices.rotate_password(account.id, device.id)
        case "account device" if len(account_devices) < 5:
            taken = {one.device_id for one in account_devices}
            await house.account_devices.create(account.id, next(name for name in "abcde" if name not in taken))
        case "credential" if account_device is not None:
            await house.account_devices.set_credential(account.id, account_device.id)
        case "disable account device" if account_device is not None:
            is_enabled = not account_device.is_enabled
            await house.account_devices.update(account.id, account_device.id, is_enabled=is_enabled)
        case "drop account device" if account_device is not None:
            await house.account_devices.delete(account.id, account_device.id)
        case "drop device" if device is not None:
            await house.devices.delete(account.id, device.id)


def test_a_change_names_exactly_those_whose_rights_it_touches():
    device = Principal(PrincipalKind.DEVICE, account_id=1, device_id=7)
    account_device = Principal(PrincipalKind.ACCOUNT_DEVICE, account_id=1, account_device_id=7)
    account = Principal(PrincipalKind.ACCOUNT, account_id=1)
    everybody = [device, account_device, account, KEY_ONLY, ANONYMOUS]
    for change, named in [
        (AccessChange(device_ids=frozenset({7})), [device]),
        (AccessChange(account_device_ids=frozenset({7})), [account_device]),
        (AccessChange(account_ids=frozenset({1})), [account]),
        (AccessChange(frozenset({8}), frozenset({1, 7}), frozenset({2}), frozenset({1})), []),
    ]:
        assert [principal for principal in everybody if change.names(principal)] == named


async def test_only_administrators_in_person_are_administrators(house):
    admin = await house.accounts.add("root", "root's password", is_admin=True, token="root-token")
    person = await house.accounts.add("ada", "ada's password", token="ada-token")
    _, credential = await house.account_devices.create(admin.id, "pump")
    is_admin, authenticate = house.access.is_admin, house.access.authenticate_mqtt
    assert is_admin(authenticate("c", None, b"root-token"))
    assert not is_admin(authenticate("c", None, b"ada-token"))
    assert not is_admin(authenticate("pump", "root", credential.encode()))
    assert not is_admin(KEY_ONLY)
    principal = authenticate("c", None, b"root-token")
    await house.accounts.add("other", "other's password", is_admin=True)
    await house.accounts.remove("root")
    assert not is_admin(principal)
    assert house.access.account(person.id) is not None


async def test_a_failed_sign_in_says_to_the_owner_what_was_wrong(scene):
    ada = scene.ada
    client_id, password = ada.device.client_id, ada.password.encode()

    def failure(*credentials) -> SignInFailed:
        with pytest.raises(SignInFailed) as caught:
            scene.access.authenticate_mqtt(*credentials)
        return caught.value

    for credentials, reason in [
        ((client_id, client_id, b"wrong"), "wrong password"),
        ((client_id, "wrong", password), "wrong user name"),
        ((client_id, "wrong", b"wrong"), "wrong user name"),
    ]:
        failed = failure(*credentials)
        assert (failed.reason, failed.device_id, failed.account_device_id) == (reason, ada.device.id, None)
    # the device whose user name it is: its owner has forgotten the client id, or mistyped it
    for other_id in ("", "mosq-x", scene.bob.device.client_id):
        failed = failure(other_id, client_id, password)
        right = f"user name and password are right, but the client ID has to be {client_id}, as on the device's page"
        assert (failed.reason, failed.device_id) == (right, ada.device.id), other_id
        assert str(failed) == str(failure(client_id, client_id, b"wrong")), "whoever tries is told the same"
    failed = failure("mosq-x", client_id, b"wrong")
    assert failed.reason == f"wrong password, and the client ID has to be {client_id}, as on the device's page"
    failed = failure(scene.bob.device.client_id, client_id, b"wrong")
    assert (failed.reason, failed.device_id) == ("wrong user name", scene.bob.device.id)
    failed = failure("nobody", "ada", b"wrong")
    assert (failed.device_id, failed.account_device_id) == (None, None)
    await scene.house.devices.update(ada.account.id, ada.device.id, is_enabled=False)
    assert failure(client_id, client_id, b"wrong").reason == "wrong password"
    assert failure(client_id, client_id, password).reason == "the device is disabled"
