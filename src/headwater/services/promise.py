"""A promise that something will be on disk: resolved once, from the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from headwater.logs import Log

log = Log(__name__)

Outcome: TypeAlias = Callable[[Exception | None], None]
"""Takes None when the promise was kept, else what went wrong."""


class Promise:
    """Kept, broken, or open. Cheaper than a future where thousands of connections wait for one commit."""

    __slots__ = ("_callbacks", "_error", "_is_done")

    def __init__(self) -> None:
        self._callbacks: list[Outcome] = []
        self._is_done = False
        self._error: Exception | None = None

    def add_callback(self, callback: Outcome) -> None:
        """Call `callback` with the outcome: at once when it is known, else from the event loop."""
        if self._is_done:
            callback(self._error)
        else:
            self._callbacks.append(callback)

    async def wait(self) -> None:
        """Return once the promise is kept. Raises what broke it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def resolve(error: Exception | None) -> None:
            if future.done():  # the waiter has gone away
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.add_callback(resolve)
        await future

    def resolve(self, error: Exception | None) -> None:
        """Tell everybody who waits."""
        self._is_done, self._error = True, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(error)
            except Exception:  # one waiter's fault must not keep the news from the others
                log.exception("a waiter for a commit failed")
