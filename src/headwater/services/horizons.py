"""From when on the points of a bucket count: what is older than its retention is not shown and not taken in any more.

Knows no store: `services.retention` removes what has expired, a while later and much of it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headwater.errors import BadRequest

S_IN_NS = 1_000_000_000


class Horizons:
    """Answers for every kind of bucket. Args: `retention_of` gives the retention of a bucket in seconds, None for ever;
    `clock_ns` the time of day."""

    def __init__(
        self,
        retention_of: Callable[[int], int | None] = lambda _: None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._retention_of = retention_of
        self.clock_ns = clock_ns
        self._held: dict[int, int] = {}

    def horizon_ns(self, bucket_id: int) -> int | None:
        """The earliest time of which a bucket's points count now; None when all do."""
        held_ns = self._held.get(bucket_id)
        if held_ns is not None:
            return held_ns
        retention_s = self._retention_of(bucket_id)
        return None if retention_s is None else self.clock_ns() - retention_s * S_IN_NS

    def start_ns(self, bucket_id: int, start_ns: int | None) -> int | None:
        """Where a query that asks for points from `start_ns` on begins; None: at the first."""
        horizon_ns = self.horizon_ns(bucket_id)
        if horizon_ns is None or start_ns is None:
            return start_ns if horizon_ns is None else horizon_ns
        return max(start_ns, horizon_ns)

    def check(self, bucket_id: int, at_ns: int) -> None:
        """Raises BadRequest for a time that has expired already. To be asked before anything is written whose time the
        sender chooses."""
        horizon_ns = self.horizon_ns(bucket_id)
        if horizon_ns is not None and at_ns < horizon_ns:
            raise BadRequest(
                "the time is longer ago than entries are kept here; send a newer one, or keep entries for longer "
                "in the settings"
            )

    @contextmanager
    def held(self, bucket_id: int) -> Iterator[int]:
        """Let the horizon of a bucket that has one stay where it is; answers it."""
        horizon_ns = self.horizon_ns(bucket_id)
        assert horizon_ns is not None, "the bucket has no retention"
        self._held[bucket_id] = horizon_ns
        try:
            yield horizon_ns
        finally:
            del self._held[bucket_id]
