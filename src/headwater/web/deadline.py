"""A deadline that is set anew far more often than it comes. Knows no connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls back once its time has come. Setting it to a later time, or lifting it, costs a comparison and no timer:
    one that is due too early is set again then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0

    def set(self, timeout_s: float) -> None:
        """From now on so many seconds, whatever was before."""
        self._due_s = due_s = self._loop.time() + timeout_s
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._start(due_s)

    def lift(self) -> None:
        """There is none for now."""
        self._due_s = None

    def close(self) -> None:
        """There will be none any more."""
        self._due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, at_s: float) -> None:
        self._timer_s = at_s
        self._timer = self._loop.call_at(at_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        due_s = self._due_s
        if due_s is None:
            return
        if due_s > self._timer_s:
            self._start(due_s)
            return
        self._due_s = None
        self._callback()
