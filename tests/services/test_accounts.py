from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from headwater.errors import BadRequest, Conflict, NotAuthenticated, NotFound, StorageError, TooManyRequests
from headwater.model.principal import Grant
from headwater.registry.entities import ChannelSettings
from headwater.registry.passwords import Passwords
from headwater.services.access import Access, AccessChange
from headwater.services.accounts import Accounts

KEY = r"[0-9A-Z]{16}"


async def test_a_new_account_has_keys_of_its_own(house):
    assert not await house.accounts.has_administrator()
    ada = await house.accounts.add("ada", "long enough", is_admin=True)
    bob = await house.accounts.add("Bob.Smith_2-x", "long enough")
    assert await house.accounts.has_administrator()
    assert (ada.is_admin, bob.is_admin) == (True, False)
    keys = [ada.user_api_key, ada.mqtt_api_key, bob.user_api_key, bob.mqtt_api_key]
    assert all(re.fullmatch(KEY, key) for key in keys)
    assert len(set(keys)) == 4
    assert await house.accounts.list() == [bob, ada]
    assert house.access.account_of_key(ada.user_api_key) == ada
    assert house.access.account_named("ada") == ada


async def test_the_last_administrator_stays(house):
    await house.accounts.add("ada", "long enough", is_admin=True)
    await house.account("bob")
    with pytest.raises(Conflict, match="last administrator"):
        await house.accounts.remove("ada")
    await house.accounts.add("eve", "long enough", is_admin=True)
    await house.accounts.remove("ada")
    assert [account.name for account in await house.accounts.list()] == ["bob", "eve"]


async def test_a_failed_sign_in_is_logged_without_what_was_typed(house, caplog):
    await house.account("ada")
    for name in ("ada", "a password by mistake"):
        with pytest.raises(NotAuthenticated):
            await house.accounts.sign_in(name, "wrong password", "192.0.2.7")
    known, unknown = caplog.records
    assert (known.levelname, known.fields) == ("WARNING", {"address": "192.0.2.7", "account": "ada"})
    assert unknown.fields == {"address": "192.0.2.7"}


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a\n", "é", "a/b", ".", "..", "-_-", "a\x00"])
async def test_a_name_that_cannot_be_is_refused(house, name):
    with pytest.raises(BadRequest, match="account name"):
        await house.accounts.add(name, "long enough")
    assert await house.accounts.list() == []


@pytest.mark.parametrize("password", ["", "7 chars", "x" * 1025])
async def test_a_password_that_cannot_be_is_refused_and_not_repeated(house, password):
    with pytest.raises(BadRequest, match="8 to 1024") as caught:
        await house.accounts.add("ada", password)
    assert not password or password not in str(caught.value)
    await house.account("bob")
    with pytest.raises(BadRequest, match="8 to 1024"):
        await house.accounts.set_password("bob", password)


async def test_a_name_is_taken_once(house):
    ada = await house.account("ada")
    with pytest.raises(Conflict, match="ada"):
        await house.account("ada")
    outcomes = await asyncio.gather(*(house.account("bob") for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account"] + ["Conflict"] * 3
    assert await house.accounts.list() == [ada, house.access.account_named("bob")]


async def test_an_account_may_start_with_a_token(house):
    token = "an operator's choice".replace(" ", "-")
    account = await house.accounts.add("ada", "long enough", token=token)
    assert house.access.account_of_key(token) == account
    assert [kept.name for kept in await house.accounts.tokens(account.id)] == ["first token"]
    with pytest.raises(Conflict) as caught:
        await house.accounts.add("bob", "long enough", token=token)
    assert token not in str(caught.value)
    assert await house.accounts.list() == [account]


async def test_the_password_signs_in_and_nothing_else_does(house):
    account = await house.accounts.add("ada", "correct horse")
    assert await house.accounts.sign_in("ada", "correct horse", "192.0.2.1") == account
    told = set()
    for name, password in [
        ("ada", "correct house"),
        ("ada", ""),
        ("ada", "x" * 5000),
        ("Ada", "correct horse"),
        ("nobody", "correct horse"),
        ("", "correct horse"),
        ("x" * 5000, "correct horse"),
        ("\ud800", "\ud800"),
    ]:
        with pytest.raises(NotAuthenticated) as caught:
            await house.accounts.sign_in(name, password, f"192.0.2.{len(told)}")
        told.add(str(caught.value))
    assert len(told) == 1


async def test_the_same_work_is_done_for_names_that_do_not_exist(house, monkeypatch):
    await house.account("ada")
    steps: list[str] = []
    verify, read = house.passwords.verify, house.worker.read

    async def counted_verify(*arguments):
        steps.append("verify")
        return await verify(*arguments)

    async def counted_read(*arguments):
        steps.append("read")
        return await read(*arguments)

    monkeypatch.setattr(house.passwords, "verify", counted_verify)
    monkeypatch.setattr(house.worker, "read", counted_read)
    for name in ("ada", "nobody"):
        steps.clear()
        with pytest.raises(NotAuthenticated):
            await house.accounts.sign_in(name, "wrong password", "192.0.2.1")
        assert steps == ["read", "verify"]


async def test_a_new_password_ends_the_old_one_and_the_sessions(house):
    account = await house.accounts.add("ada", "old password")
    changed = await house.accounts.set_password("ada", "new password")
    assert changed == replace(account, session_epoch=account.session_epoch + 1)
    assert house.access.account(account.id) == changed
    assert await house.accounts.sign_in("ada", "new password", "192.0.2.1") == changed
    with pytest.raises(NotAuthenticated):
        await house.accounts.sign_in("ada", "old password", "192.0.2.1")
    with pytest.raises(NotFound):
        await house.accounts.set_password("nobody", "new password")


async def test_a_sign_in_renews_a_hash_of_other_parameters(house):
    account = await house.accounts.add("ada", "long enough")
    before = await house.worker.read(lambda registry: registry.password_of("ada"))
    stronger = Passwords(time_cost=2, memory_cost_kib=8)
    accounts = Accounts(house.worker, house.access, stronger)
    assert await accounts.sign_in("ada", "long enough", "192.0.2.1") == account
    after = await house.worker.read(lambda registry: registry.password_of("ada"))
    assert before[1] != after[1]
    assert not stronger.is_outdated(after[1])
    assert await accounts.sign_in("ada", "long enough", "192.0.2.1") == account
    stronger.close()


async def fail(accounts: Accounts, name: str, address: str, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NotAuthenticated):
            await accounts.sign_in(name, "wrong password", address)


async def test_ten_failures_block_a_name_from_every_address(house, monkeypatch):
    account = await house.accounts.add("ada", "long enough")
    for number in range(10):
        await fail(house.accounts, "ada", f"192.0.2.{number}")

    async def no_hashing(*_):
        pytest.fail("hashed although blocked")

    with monkeypatch.context() as patched:
        patched.setattr(house.passwords, "verify", no_hashing)
        with pytest.raises(TooManyRequests) as caught:
            await house.accounts.sign_in("ada", "long enough", "192.0.2.99")
    assert caught.value.retry_after_s == 300
    house.clock.now_s += 300
    assert await house.accounts.sign_in("ada", "long enough", "192.0.2.99") == account


async def test_ten_failures_block_an_address_for_every_name(house):
    account = await house.accounts.add("ada", "long enough")
    for number in range(10):
        await fail(house.accounts, f"nobody{number}", "2001:db8::1")
    for neighbour in ("2001:db8::1", "2001:db8:0:0:ffff::"):
        with pytest.raises(TooManyRequests):
            await house.accounts.sign_in("ada", "long enough", neighbour)
    assert await house.accounts.sign_in("ada", "long enough", "2001:db8:0:1::1") == account


async def test_guesses_at_the_same_time_are_counted_before_they_are_checked(house):
    await house.accounts.add("ada", "long enough")
    outcomes = await asyncio.gather(
        *(house.accounts.sign_in("ada", f"guess {number}", f"192.0.2.{number}") for number in range(50)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, NotAuthenticated) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, TooManyRequests) for outcome in outcomes) == 40


async def test_our_own_trouble_blocks_nobody(house):
    account = await house.accounts.add("ada", "long enough")
    good = (await house.worker.read(lambda registry: registry.password_of("ada")))[1]
    await house.worker.write(lambda registry: registry.renew_password_hash(account.id, good, "damaged"))
    for _ in range(12):
        with pytest.raises(StorageError):
            await house.accounts.sign_in("ada", "long enough", "192.0.2.1")


async def test_rotated_keys_end_the_old_ones(house):
    account = await house.account()
    changed = await house.accounts.rotate_user_api_key(account.id)
    assert changed == replace(account, user_api_key=changed.user_api_key)
    assert house.access.account_of_key(account.user_api_key) is None
    assert house.access.account_of_key(changed.user_api_key) == changed
    changed = await house.accounts.rotate_mqtt_api_key(account.id)
    assert changed.mqtt_api_key != account.mqtt_api_key
    # Where keys in topics are allowed, whatever looks like a key signs in, for those alone.
    strict = Access(allow_topic_keys=False)
    strict.load(await house.worker.read(lambda registry: registry.snapshot()))
    strict.authenticate_mqtt("c", "u", changed.mqtt_api_key.encode())
    with pytest.raises(NotAuthenticated):
        strict.authenticate_mqtt("c", "u", account.mqtt_api_key.encode())


async def test_a_time_zone_is_an_iana_name(house):
    account = await house.account()
    changed = await house.accounts.set_time_zone(account.id, "Europe/Berlin")
    assert changed == replace(account, time_zone="Europe/Berlin")
    for name in ("", "Mars/Olympus", "Europe", "europe/berlin", "../etc/passwd", "/etc/localtime", "a\x00"):
        with pytest.raises(BadRequest, match="IANA"):
            await house.accounts.set_time_zone(account.id, name)
    assert house.access.account(account.id) == changed


async def test_a_token_is_shown_once_and_kept_as_a_hash(house, tmp_path):
    account = await house.account()
    token, text = await house.accounts.add_token(account.id, "laptop")
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,}", text)
    assert await house.accounts.tokens(account.id) == [token]
    assert (token.account_id, token.name) == (account.id, "laptop")
    assert house.access.account_of_key(text) == account
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"laptop" in stored
    assert text.encode() not in stored
    house.changes.clear()
    await house.accounts.remove_token(account.id, token.id)
    assert house.access.account_of_key(text) is None
    assert await house.accounts.tokens(account.id) == []
    assert house.changes == [AccessChange(account_ids=frozenset({account.id}), ends_sessions=True)]
    with pytest.raises(NotFound):
        await house.accounts.remove_token(account.id, token.id)


@pytest.mark.parametrize("token", ["", "seven77", "x" * 257, "with blank", "with\nbreak", "töken-töken"])
async def test_a_token_that_cannot_be_is_refused(house, token):
    account = await house.account()
    with pytest.raises(BadRequest, match="a token has 8 to 256"):
        await house.accounts.add_token(account.id, "t", token)


async def test_a_token_that_means_something_already_is_refused(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    _, text = await house.accounts.add_token(ada.id, "t")
    for taken in (text, ada.user_api_key):
        with pytest.raises(Conflict) as caught:
            await house.accounts.add_token(bob.id, "t", taken)
        assert taken not in str(caught.value)
        assert house.access.account_of_key(taken) == ada
    outcomes = await asyncio.gather(
        house.accounts.add_token(ada.id, "t", "the-very-same"),
        house.accounts.add_token(bob.id, "t", "the-very-same"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [tuple, Conflict]
    assert house.access.account_of_key("the-very-same") == ada


async def test_tokens_are_limited_and_named(house):
    account = await house.account()
    accounts = Accounts(house.worker, house.access, house.passwords, max_tokens_per_account=1)
    for name in ("", "x" * 65, "a\nb"):
        with pytest.raises(BadRequest, match="name"):
            await accounts.add_token(account.id, name)
    await accounts.add_token(account.id, "t")
    with pytest.raises(Conflict, match="at most 1 tokens"):
        await accounts.add_token(account.id, "t")


async def test_a_removed_account_takes_everything_with_it(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    channels, devices, keys = {}, {}, {}
    for account in (ada, bob):
        channel = channels[account] = await house.channels.create(account.id, ChannelSettings())
        devices[account] = await house.devices.create(account.id, "d", [Grant(channel.id, True, True)])
        keys[account] = (await house.accounts.add_token(account.id, "t"))[1]
    house.changes.clear()
    await house.accounts.remove("ada")
    assert house.deleted == [channels[ada]]
    assert house.changes == [
        AccessChange(
            frozenset({devices[ada][0].id}),
            frozenset({channels[ada].id}),
            frozenset({ada.id}),
            ends_sessions=True,
        )
    ]
    assert await house.accounts.list() == [bob]
    assert house.access.account_of_key(keys[ada]) is None
    assert house.access.account_of_key(keys[bob]) == bob
    assert house.access.channel(channels[bob].id) == channels[bob]
    with pytest.raises(NotAuthenticated):
        await house.accounts.sign_in("ada", "ada's password", "192.0.2.1")
    with pytest.raises(NotFound):
        await house.accounts.remove("ada")


async def test_a_sign_in_needs_an_account_that_is_known_here(house):
    """One that another process has added is known after the next `Access.load`."""
    await house.account("ada")
    accounts = Accounts(house.worker, Access(), house.passwords)
    with pytest.raises(NotAuthenticated):
        await accounts.sign_in("ada", "ada's password", "192.0.2.1")
