"""Slow down who fails too often. Knows no password and no address, only keys and a clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from headwater.errors import StorageError, TooManyRequests


@dataclass(slots=True)
class _Record:
    failed_at_s: deque[float] = field(default_factory=deque)
    under_way: int = 0
    blocked_until_s: float = 0.0


class Throttle:
    """Counts failed attempts by key (who is asking, who is asked for) and blocks a key that has too many.

    Args: a key is blocked for `block_s` after `max_failures` within `window_s`; `clock` gives seconds, never
    going back; only the `max_keys` keys that failed last are remembered, so that memory stays bounded.
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
        self._records: OrderedDict[str, _Record] = OrderedDict()

    @contextmanager
    def attempt(self, keys: Sequence[str]) -> Iterator[None]:
        """Around one attempt. It failed when it raises, unless that was our own trouble (`StorageError`) or
        another limit (`TooManyRequests`). Attempts under way count as failures until they end, so that many
        at once gain nothing.

        Raises: `TooManyRequests` before the attempt when one of the keys is blocked.
        """
        records = [self._records.get(key) or _Record() for key in keys]
        for record in records:
            self._check(record)
        for key, record in zip(keys, records, strict=True):
            record.under_way += 1
            self._remember(key, record)
        failed = True
        try:
            yield
            failed = False
        except (StorageError, TooManyRequests):
            failed = False
            raise
        finally:
            for key, record in zip(keys, records, strict=True):
                record.under_way -= 1
                if failed:
                    self._count(record)
                    self._remember(key, record)
                elif not (record.under_way or record.failed_at_s):
                    self._records.pop(key, None)

    def _check(self, record: _Record) -> None:
        now = self._clock()
        if now < record.blocked_until_s:
            raise TooManyRequests(
                "too many failed attempts; try again later", retry_after_s=record.blocked_until_s - now
            )
        while record.failed_at_s and record.failed_at_s[0] <= now - self._window_s:
            record.failed_at_s.popleft()
        if len(record.failed_at_s) + record.under_way >= self._max_failures:
            raise TooManyRequests("too many attempts at once; try again in a moment", retry_after_s=1.0)

    def _count(self, record: _Record) -> None:
        now = self._clock()
        record.failed_at_s.append(now)
        if len(record.failed_at_s) >= self._max_failures:
            record.failed_at_s.clear()
            record.blocked_until_s = now + self._block_s

    def _remember(self, key: str, record: _Record) -> None:
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._max_keys:
            self._records.popitem(last=False)
