from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from argon2 import extract_parameters

from headwater.errors import StorageError, TooManyRequests
from headwater.registry.passwords import Passwords


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    made = Passwords(time_cost=1, memory_cost_kib=8)
    yield made
    made.close()


async def test_a_password_fits_its_own_hash_only(passwords):
    kept = await passwords.hash("correct horse")
    assert kept != await passwords.hash("correct horse")
    assert await passwords.verify("correct horse", kept)
    assert not await passwords.verify("correct house", kept)
    assert not await passwords.verify("", kept)
    assert not await passwords.verify("correct horse", None)


async def test_two_spellings_of_the_same_letters_are_one_password(passwords):
    assert await passwords.verify("Mu\u0308hle am Bach", await passwords.hash("M\u00fchle am Bach"))


async def test_any_text_can_be_tried(passwords):
    assert not await passwords.verify("\ud800\x00", await passwords.hash("something"))


async def test_the_parameters_by_default_are_argon2id_within_20_mib():
    passwords = Passwords()
    kept = await passwords.hash("something")
    passwords.close()
    parameters = extract_parameters(kept)
    assert kept.startswith("$argon2id$")
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (2, 19 * 1024, 1)


async def test_a_hash_of_other_parameters_is_outdated(passwords):
    stronger = Passwords(time_cost=2, memory_cost_kib=8)
    kept = await passwords.hash("something")
    assert not passwords.is_outdated(kept)
    assert stronger.is_outdated(kept)
    assert await stronger.verify("something", kept)
    stronger.close()


async def test_a_damaged_hash_is_an_error_of_ours(passwords):
    with pytest.raises(StorageError):
        await passwords.verify("something", "not a hash")


async def test_few_at_once_few_waiting_and_never_on_the_loop(passwords, monkeypatch):
    passwords = Passwords(max_at_once=2, max_waiting=1)
    proceed = threading.Event()
    at_work: list[str] = []

    class Slow:
        def hash(self, _: bytes) -> str:
            at_work.append(threading.current_thread().name)
            assert proceed.wait(30)
            return "hash"

    monkeypatch.setattr(passwords, "_hasher", Slow())
    tasks = [asyncio.create_task(passwords.hash("x")) for _ in range(3)]
    async with asyncio.timeout(30):
        while len(at_work) < 2:
            await asyncio.sleep(0.001)
    with pytest.raises(TooManyRequests):
        await passwords.hash("x")
    tasks[2].cancel()  # its place is free at once: nobody has begun with it
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]
    tasks[2] = asyncio.create_task(passwords.hash("x"))
    tasks[0].cancel()  # but this one is being worked on, so its place is not
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert len(at_work) == 2
    proceed.set()
    assert await tasks[1] == await tasks[2] == "hash"
    assert all(name.startswith("headwater-passwords") for name in at_work)
    passwords.close()
