"""The registry itself; what the services add on top is tested with them."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import Conflict, NotFound, StorageError
from headwater.model.principal import Grant
from headwater.registry.entities import Account, Channel, ChannelSettings, MqttDevice
from headwater.registry.keys import generate_api_key, generate_client_id, hash_secret
from headwater.registry.opening import open_registry
from headwater.registry.registry import NewToken, Registry
from headwater.registry.transactions import MAX_ID

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
FIELDS = st.dictionaries(
    st.integers(1, 64), st.tuples(TEXT, st.text(st.characters(codec="utf-8"), min_size=1, max_size=32), st.booleans())
)


def with_fields(settings: ChannelSettings, fields: dict[int, tuple[str, str, bool]]) -> ChannelSettings:
    """Only what is named has a unit or a label."""
    return replace(
        settings,
        fields={number: name for number, (name, _, _) in fields.items()},
        units={number: text for number, (_, text, is_unit) in fields.items() if is_unit},
        labels={number: text for number, (_, text, is_unit) in fields.items() if not is_unit},
    )


CHANNEL_SETTINGS = st.builds(
    ChannelSettings,
    name=TEXT,
    description=TEXT,
    latitude=TEXT,
    longitude=TEXT,
    elevation=TEXT,
    is_public=st.booleans(),
    url=TEXT,
    github_url=TEXT,
    metadata=TEXT,
    tags=st.lists(TEXT, max_size=5).map(tuple),
    takes_names=st.booleans(),
).flatmap(lambda settings: FIELDS.map(lambda fields: with_fields(settings, fields)))


def add_account(registry: Registry, name: str = "ada", token: NewToken | None = None) -> Account:
    account, _ = registry.add_account(
        name,
        password_hash="$argon2id$...",
        user_api_key=generate_api_key(),
        mqtt_api_key=generate_api_key(),
        alerts_api_key=generate_api_key(),
        is_admin=False,
        time_zone="UTC",
        token=token,
    )
    return account


def add_channel(
    registry: Registry, account: Account, settings: ChannelSettings | None = None, most: int = 100
) -> Channel:
    return registry.add_channel(
        account.id,
        settings or ChannelSettings(),
        write_key=generate_api_key(),
        read_key=generate_api_key(),
        most=most,
    )


def add_device(registry: Registry, account: Account, *grants: Grant) -> MqttDevice:
    return registry.add_device(
        account.id,
        name="probe",
        client_id=generate_client_id(),
        password_hash=hash_secret("x"),
        grants=grants,
        most=100,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(first=CHANNEL_SETTINGS, second=CHANNEL_SETTINGS)
def test_channel_settings_come_back_as_they_were(registry, first, second):
    account = add_account(registry, generate_api_key())
    made = add_channel(registry, account, first)
    assert made.settings == first
    changed = registry.update_channel(account.id, made.id, second)
    assert changed.settings == second
    assert changed in registry.snapshot().channels
    registry.remove_account(account.id)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(rights=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=4))
def test_grants_come_back_as_they_were(registry, rights):
    account = add_account(registry, generate_api_key())
    grants = tuple(Grant(add_channel(registry, account).id, *right) for right in rights)
    device = add_device(registry, account, *grants)
    assert device.grants == grants
    assert registry.update_device(account.id, device.id, grants=grants[::-1]).grants == grants
    assert registry.update_device(account.id, device.id, grants=grants[:1]).grants == grants[:1]
    registry.remove_account(account.id)


def test_reopening_gives_the_same_state(registry_url):
    first = open_registry(registry_url)
    account = add_account(first, token=NewToken("cli", hash_secret("t" * 40)))
    channel = add_channel(first, account, ChannelSettings(name="Wetter", fields={1: "°C", 8: "hPa"}))
    add_device(first, account, Grant(channel.id, allow_publish=True, allow_subscribe=False))
    before = first.snapshot()
    first.close()
    second = open_registry(registry_url)
    assert second.snapshot() == before
    second.close()


def test_what_was_committed_is_there_although_nobody_closed(registry_url):
    first = open_registry(registry_url)
    account = add_account(first)
    second = open_registry(registry_url)
    assert second.snapshot().accounts == (account,)
    first.close()
    second.close()


def test_times_are_utc_and_keep_their_microseconds(registry_url):
    at = datetime(2026, 3, 29, 2, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    registry = open_registry(registry_url, now=lambda: at)
    add_account(registry)
    read = registry.snapshot().accounts[0].created_at
    registry.close()
    assert read == at
    assert read.tzinfo is UTC


def test_ids_are_never_used_twice(registry):
    account = add_account(registry)
    channel = add_channel(registry, account)
    device = add_device(registry, account)
    registry.remove_channel(account.id, channel.id)
    registry.remove_device(account.id, device.id)
    assert add_channel(registry, account).id > channel.id
    assert add_device(registry, account).id > device.id
    registry.remove_account(account.id)
    assert add_account(registry).id > account.id


def test_an_account_takes_all_it_owns_with_it(registry):
    ada, bob = add_account(registry, "ada"), add_account(registry, "bob")
    for account in (ada, bob):
        channel = add_channel(registry, account, ChannelSettings(fields={1: "a"}))
        add_device(registry, account, Grant(channel.id, True, True))
        registry.add_token(account.id, NewToken("t", hash_secret(account.name)), most=5)
    registry.remove_account(ada.id)
    snapshot = registry.snapshot()
    assert snapshot.accounts == (bob,)
    assert {token.account_id for token, _ in snapshot.tokens} == {bob.id}
    assert {channel.account_id for channel in snapshot.channels} == {bob.id}
    assert {device.account_id for device, _ in snapshot.devices} == {bob.id}
    with registry._engine.connect() as connection:
        for table in ("channels", "channel_fields", "grants"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM api_keys").scalar_one() == 2


def test_a_channel_takes_the_grants_on_it_with_it(registry):
    account = add_account(registry)
    kept, gone = add_channel(registry, account), add_channel(registry, account)
    add_device(registry, account, Grant(kept.id, True, True), Grant(gone.id, True, True))
    registry.remove_channel(account.id, gone.id)
    ((device, _),) = registry.snapshot().devices
    assert device.grants == (Grant(kept.id, True, True),)


def test_names_and_tokens_are_unique(registry):
    add_account(registry, "ada", NewToken("t", hash_secret("same")))
    with pytest.raises(Conflict, match="ada"):
        add_account(registry, "ada")
    with pytest.raises(Conflict):
        add_account(registry, "bob", NewToken("t", hash_secret("same")))
    assert [account.name for account in registry.snapshot().accounts] == ["ada"]


def test_the_limit_of_channels_is_checked_with_the_insert(registry):
    account = add_account(registry)
    add_channel(registry, account, most=1)
    with pytest.raises(Conflict, match="at most 1 channels"):
        add_channel(registry, account, most=1)


@pytest.mark.parametrize("number", [0, -1, MAX_ID, MAX_ID + 1, 2**64])
def test_ids_that_cannot_be_are_not_found(registry, number):
    account = add_account(registry)
    with pytest.raises(NotFound):
        registry.update_channel(account.id, number, ChannelSettings())
    with pytest.raises(NotFound):
        registry.set_time_zone(number, "UTC")
    with pytest.raises(NotFound):
        add_device(registry, account, Grant(number, True, True))


def test_a_renewed_hash_does_not_undo_a_new_password(registry):
    account = add_account(registry)
    registry.set_password(account.id, "new")
    registry.renew_password_hash(account.id, "$argon2id$...", "stale")
    assert registry.password_of("ada") == (account.id, "new")
    registry.renew_password_hash(account.id, "new", "renewed")
    assert registry.password_of("ada") == (account.id, "renewed")
    assert registry.snapshot().accounts == (replace(account, session_epoch=account.session_epoch + 1),)


def test_two_writers_wait_for_each_other(registry_url):
    registries = [open_registry(registry_url) for _ in range(2)]
    failures: list[BaseException] = []

    def write(registry: Registry, prefix: str) -> None:
        try:
            for number in range(20):
                add_account(registry, f"{prefix}{number}")
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=write, args=(registry, prefix))
        for registry, prefix in zip(registries, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(registries[0].snapshot().accounts) == 40
    for registry in registries:
        registry.close()


def test_an_error_of_the_database_shows_no_secret(registry):
    account = add_account(registry)
    with registry._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE account_tokens")
    with pytest.raises(StorageError, match="no such table") as caught:
        registry.add_token(account.id, NewToken("t", b"s3cr3t" * 5), most=5)
    told = [str(caught.value), str(caught.value.__cause__)]
    assert not any("s3cr3t" in text for text in told)


def test_a_failed_insert_shows_no_secret_even_in_its_cause(registry):
    add_account(registry, "ada", NewToken("t", b"s3cr3t" * 5))
    with pytest.raises(Conflict) as caught:
        add_account(registry, "bob", NewToken("t", b"s3cr3t" * 5))
    assert "s3cr3t" not in str(caught.value) + str(caught.value.__cause__)
