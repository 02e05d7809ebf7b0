"""Calls that are due at a time of the wall clock. Knows nothing of what is called.

A test moves the clock and calls `run_due`; a server keeps `run` going.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from headwater.logs import Log

log = Log(__name__)

MOST_WAIT_S = 30.0
"""The wall clock may be set: it is looked at that often at least."""


class Timer:
    """One call; `cancel` takes it back."""

    __slots__ = ("at_ns", "callback")

    def __init__(self, at_ns: int, callback: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """All calls that wait; `now_ns` is the clock."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._earlier = asyncio.Event()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Timer:
        """Call it once the clock shows this, or the next time that anything is looked at if it does already."""
        timer = Timer(at_ns, callback)
        if not self._heap or at_ns < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (at_ns, next(self._order), timer))
        return timer

    def run_due(self) -> None:
        """Make the calls that are due by now, in their order. What they ask for in turn waits for the next time."""
        now_ns = self._now_ns()
        due: list[Timer] = []
        while self._heap and (self._heap[0][0] <= now_ns or self._heap[0][2].callback is None):
            due.append(heapq.heappop(self._heap)[2])
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is None:
                continue
            try:
                callback()
            except Exception:  # one rule's fault must not keep the others from their time
                log.exception("a timed call failed")

    async def run(self) -> None:
        """Make calls as they become due, until cancelled."""
        while True:
            self._earlier.clear()
            self.run_due()
            wait_s = MOST_WAIT_S
            if self._heap:
                wait_s = min(wait_s, max(0.0, (self._heap[0][0] - self._now_ns()) / 1e9))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._earlier.wait()
