"""Slow down who fails too often. Knows no password and no address, only keys and a clock."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from headwater.errors import StorageError, TooManyRequests


class Block(NamedTuple):
    """A key that has to wait."""

    remaining_s: float
    refused: int
    """Attempts that were refused meanwhile."""


@dataclass(slots=True)
class _Record:
    failed_at_s: list[float] = field(default_factory=list)  # not deques, which take ten times the memory when short
    begun_at_s: list[float] = field(default_factory=list)
    """Attempts under way."""
    blocked_until_s: float = 0.0
    refused: int = 0
    """Attempts since the block began."""

    def is_over(self, now_s: float, since_s: float) -> bool:
        """Whether nothing of it counts any more, when what was before `since_s` does not."""
        if now_s < self.blocked_until_s or (self.failed_at_s and self.failed_at_s[-1] > since_s):
            return False
        return not self.begun_at_s or self.begun_at_s[-1] <= since_s


class Throttle:
    """Counts failed attempts by key (who is asking, who is asked for) and blocks a key that has too many.

    Attempts under way count as failures until they end, so that many at once gain nothing; one whose end is never told
    counts for `window_s`.

    Args: a key is blocked for `block_s` after `max_failures` within `window_s`; `clock` gives seconds, never
    going back; only the `max_keys` keys that were used last are remembered, each only as long as something of it
    counts, so that memory stays bounded. Where strangers choose keys, they have to be short.
    """

    def __init__(
        self,
        *,
        max_failures: int,
        window_s: float,
        block_s: float,
        clock: Callable[[], float],
        max_keys: int = 20_000,
    ) -> None:
        self._max_failures = max_failures
        self._window_s = window_s
        self._block_s = block_s
        self._clock = clock
        self._max_keys = max_keys
        self._records: OrderedDict[Hashable, _Record] = OrderedDict()
        self._next_tidy_s = clock() + window_s

    @contextmanager
    def attempt(self, keys: Sequence[Hashable]) -> Iterator[None]:
        """Around one attempt. It failed when it raises, unless that was our own trouble (`StorageError`) or
        another limit (`TooManyRequests`).

        Raises: `TooManyRequests` before the attempt when one of the keys is blocked.
        """
        for key in keys:
            if (refusal := self.refusal(key)) is not None:
                raise refusal
        for key in keys:
            self.begin(key)
        failed = True
        try:
            yield
            failed = False
        except (StorageError, TooManyRequests):
            failed = False
            raise
        finally:
            for key in keys:
                self.end(key, failed=failed)

    def refusal(self, key: Hashable) -> TooManyRequests | None:
        """Why this key may not try now; None when it may. What is refused because of a block is counted."""
        record = self._records.get(key)
        if record is None:
            return None
        now_s = self._clock()
        if now_s < record.blocked_until_s:
            record.refused += 1
            return TooManyRequests(
                "too many failed attempts; try again later", retry_after_s=record.blocked_until_s - now_s
            )
        for times in (record.failed_at_s, record.begun_at_s):
            del times[: bisect_right(times, now_s - self._window_s)]
        if len(record.failed_at_s) + len(record.begun_at_s) >= self._max_failures:
            return TooManyRequests("too many attempts at once; try again in a moment", retry_after_s=1.0)
        return None

    def block(self, key: Hashable) -> Block | None:
        """How long this key has to wait because it has failed too often; None when it has not."""
        record = self._records.get(key)
        remaining_s = 0.0 if record is None else record.blocked_until_s - self._clock()
        return Block(remaining_s, record.refused) if record is not None and remaining_s > 0 else None

    def known(self) -> list[Hashable]:
        """All that are remembered."""
        return list(self._records)

    def forget(self, key: Hashable) -> None:
        """Nothing that this key did counts any more."""
        self._records.pop(key, None)

    def forget_old(self) -> None:
        """Let go of keys of which nothing counts any more. It happens by itself too, while keys are used."""
        now_s = self._clock()
        self._next_tidy_s = now_s + self._window_s
        since_s = now_s - self._window_s
        over = [key for key, record in self._records.items() if record.is_over(now_s, since_s)]
        for key in over:
            del self._records[key]

    def begin(self, key: Hashable) -> None:
        """An attempt that was not refused is under way; `end` follows."""
        record = self._records.get(key) or _Record()
        record.begun_at_s.append(self._clock())
        self._remember(key, record)

    def end(self, key: Hashable, *, failed: bool) -> None:
        """An attempt is over."""
        record = self._records.get(key)
        if record is None:  # forgotten meanwhile for want of room
            if not failed:
                return
            record = _Record()
        if record.begun_at_s:
            record.begun_at_s.pop(0)
        if failed:
            self._count(record)
            self._remember(key, record)
        elif not (record.begun_at_s or record.failed_at_s or record.blocked_until_s > self._clock()):
            del self._records[key]

    def _count(self, record: _Record) -> None:
        now_s = self._clock()
        record.failed_at_s.append(now_s)
        if len(record.failed_at_s) >= self._max_failures:
            record.failed_at_s.clear()
            record.blocked_until_s = now_s + self._block_s
            record.refused = 0

    def _remember(self, key: Hashable, record: _Record) -> None:
        if self._clock() >= self._next_tidy_s:
            self.forget_old()
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._max_keys:
            self._records.popitem(last=False)
