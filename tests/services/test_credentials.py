"""Checking credentials; signing in with them is tested with the account devices."""

from __future__ import annotations

import inspect

from headwater.registry.passwords import Passwords
from headwater.services.credentials import CredentialCheck, hash_generated


async def ask(check: CredentialCheck, id_: int, credential: bytes, credential_hash: str) -> tuple[bool, bool]:
    """The answer, and whether it took the slow hash."""
    answer = check.check(id_, credential, credential_hash)
    return (await answer, True) if inspect.isawaitable(answer) else (answer, False)


async def test_what_is_remembered_is_bounded_and_of_those_used_last():
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    check = CredentialCheck(passwords, max_remembered=2)
    kept = await passwords.hash("secret")
    for id_ in (1, 2):
        assert await ask(check, id_, b"secret", kept) == (True, True)
    assert await ask(check, 1, b"secret", kept) == (True, False)
    assert await ask(check, 3, b"secret", kept) == (True, True)
    assert await ask(check, 2, b"secret", kept) == (True, True)
    assert await ask(check, 3, b"secret", kept) == (True, False)
    passwords.close()


async def test_nothing_wrong_is_remembered_and_nothing_readable():
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    check = CredentialCheck(passwords)
    kept = await passwords.hash("secret")
    for _ in range(2):
        assert await ask(check, 1, b"wrong", kept) == (False, True)
    assert await ask(check, 1, b"secret", kept) == (True, True)
    assert await ask(check, 1, b"wrong", kept) == (False, False)
    other = CredentialCheck(passwords)
    assert await ask(other, 1, b"secret", kept) == (True, True)
    assert check._remembered[1] != other._remembered[1]  # digests under keys of their own
    assert "secret" not in repr(vars(check))
    passwords.close()


async def test_generated_credentials_and_nonsense_are_answered_at_once():
    check = CredentialCheck(None)
    kept = hash_generated("g" * 24)
    assert "g" * 24 not in kept
    assert await ask(check, 1, b"g" * 24, kept) == (True, False)
    for wrong in (b"", b"g" * 23, b"G" * 24, b"x" * 100_000, kept.encode()):
        assert await ask(check, 1, wrong, kept) == (False, False)
    assert await ask(check, 1, b"x" * 100_000, "$argon2id$...") == (False, False)
    assert await ask(check, 1, b"\xff", "$argon2id$...") == (False, False)
