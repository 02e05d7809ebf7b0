"""Calls that block, each in a thread of its own that the end of the process does not wait for.

The standard library's pools are joined at the end: a mail server or a name server that does not answer would hold up
the stop of Headwater for as long as it likes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class Aside:
    """Args: so many `at_once`, for `name`; others wait for their turn."""

    def __init__(self, at_once: int, name: str) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._name = name

    async def run(self, call: Callable[[], T]) -> T:
        """What the call answers or raises. Who is cancelled waits no more; the call goes on, and so does its turn."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(settle_answer: Callable[[], None]) -> None:
            self._turns.release()
            if not answer.done():  # nobody may wait any more
                settle_answer()

        def work() -> None:
            try:
                settle_answer = partial(answer.set_result, call())
            except Exception as error:
                settle_answer = partial(answer.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: the server has stopped meanwhile
                loop.call_soon_threadsafe(settle, settle_answer)

        await self._turns.acquire()
        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:  # the system grants no more threads
            self._turns.release()
            raise
        return await answer
