"""Work for the event loop that a command's thread waits for: services belong to the loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def run_on(loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> T:
    """Do short work on the event loop's thread, from another."""

    async def run() -> T:
        return work()

    return wait_for(loop, run())


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that runs on the loop, for another thread."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


@contextmanager
def pulled(
    loop: asyncio.AbstractEventLoop, answer: AbstractAsyncContextManager[AsyncIterator[T]]
) -> Iterator[Iterator[T]]:
    """The pieces of an answer, each made when it is asked for, for a thread beside the loop's."""

    async def enter() -> AsyncIterator[T]:
        return await answer.__aenter__()

    async def leave() -> None:
        await answer.__aexit__(None, None, None)

    async def next_piece(pieces: AsyncIterator[T]) -> list[T]:
        async for piece in pieces:
            return [piece]
        return []

    def each(pieces: AsyncIterator[T]) -> Iterator[T]:
        while found := wait_for(loop, next_piece(pieces)):
            yield from found

    pieces = wait_for(loop, enter())
    try:
        yield each(pieces)
    finally:
        wait_for(loop, leave())
