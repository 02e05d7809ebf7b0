"""So many of something for each account within a span of time. Knows only keys and a clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable


class Quota:
    """Counts what was taken by key, in a window that moves with the clock.

    Args: `most` within `window_s`, 0 for no limit; `clock` gives seconds, never going back. A key of which nothing
    counts any more is forgotten.
    """

    def __init__(self, most: int, window_s: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._taken_at_s: dict[Hashable, list[float]] = {}
        self._next_tidy_s = clock() + window_s

    def take(self, key: Hashable) -> float:
        """Take one: 0 when it was there to be taken, else after how many seconds there is one again."""
        if not self._most:
            return 0.0
        now_s = self._clock()
        since_s = now_s - self._window_s
        if now_s >= self._next_tidy_s:
            self._next_tidy_s = now_s + self._window_s
            self._taken_at_s = {key: times for key, times in self._taken_at_s.items() if times[-1] > since_s}
        times = self._taken_at_s.setdefault(key, [])
        del times[: bisect_right(times, since_s)]
        if len(times) >= self._most:
            return times[0] - since_s
        times.append(now_s)
        return 0.0
