"""Promises: told once, to everybody, whatever one of them does."""

from __future__ import annotations

import asyncio

import pytest

from headwater.errors import StorageError
from headwater.services.promise import Promise

BROKEN = StorageError("the disk is full")


@pytest.mark.parametrize("outcome", [None, BROKEN])
def test_callbacks_get_the_outcome_whenever_they_were_added(outcome: Exception | None) -> None:
    promise, told = Promise(), list[Exception | None]()
    promise.add_callback(told.append)
    promise.add_callback(told.append)
    assert told == []
    promise.resolve(outcome)
    assert told == [outcome, outcome]
    promise.add_callback(told.append)
    assert told == [outcome] * 3


def test_callbacks_are_told_in_the_order_in_which_they_were_added() -> None:
    promise, order = Promise(), list[int]()
    for number in range(5):
        promise.add_callback(lambda _, number=number: order.append(number))  # type: ignore[misc]
    promise.resolve(None)
    assert order == [0, 1, 2, 3, 4]


def test_one_failing_callback_does_not_keep_the_news_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    promise, told = Promise(), list[Exception | None]()

    def fail(_: Exception | None) -> None:
        raise RuntimeError("a broken waiter")

    promise.add_callback(fail)
    promise.add_callback(told.append)
    promise.resolve(None)
    assert told == [None]
    assert "a waiter for a commit failed" in caplog.text


async def test_waiting_returns_or_raises() -> None:
    kept, broken = Promise(), Promise()
    waiters = [asyncio.create_task(promise.wait()) for promise in (kept, kept, broken)]
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    kept.resolve(None)
    broken.resolve(BROKEN)
    assert await asyncio.gather(*waiters, return_exceptions=True) == [None, None, BROKEN]
    await kept.wait()
    with pytest.raises(StorageError):
        await broken.wait()


@pytest.mark.parametrize("outcome", [None, BROKEN])
async def test_a_waiter_may_go_away(outcome: Exception | None) -> None:
    promise = Promise()
    waiter = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    promise.resolve(outcome)
