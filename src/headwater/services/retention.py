"""Removes what has expired, and keeps it gone when a retention is changed. What is shown meanwhile `services.horizons`
decides, to the nanosecond; here it matters that little work is done.

Strategy: a file of sorted points has those of many buckets, and is written anew when some of them were deleted. So a
bucket waits until a twentieth of its retention has expired, and all buckets go together: each is due when the time of
day passes a multiple of its own step, and steps are hours times a power of two. Nothing is written down about it. After
a restart every bucket is due once more, which finds nothing to delete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

from headwater.errors import StorageError
from headwater.logs import Log, Trouble
from headwater.services.catalogue import Catalogue
from headwater.services.horizons import S_IN_NS, Horizons
from headwater.services.ingest import Ingest
from headwater.store import Store

log = Log(__name__)

T = TypeVar("T")

PAUSE_S = 60.0
"""Between looking for what is due."""
LEAST_STEP_S = 3600
LEAST_PART = 20
"""A bucket is due when one of so many parts of its retention has expired."""
SERIES_AT_ONCE = 2_000
"""Series that one transaction deletes from; whoever writes waits for it."""


def step_s(retention_s: int) -> int:
    """How much of a bucket expires before it is removed: an hour or more, and a twentieth to a tenth of a retention."""
    step = LEAST_STEP_S
    while step * LEAST_PART < retention_s:
        step *= 2
    return step


def due_until_ns(retention_s: int, now_ns: int) -> int:
    """The time before which a bucket's points are to be removed by now."""
    return now_ns - now_ns % (step_s(retention_s) * S_IN_NS) - retention_s * S_IN_NS


class Retention:
    """The retentions of all buckets; call everything from the event loop's thread.

    Args: `retentions` gives those of now, in seconds by bucket; `before_removal` is awaited with the buckets of which
    points are about to be removed, to write down what only they say.
    """

    def __init__(
        self,
        ingest: Ingest,
        catalogue: Catalogue,
        store: Store,
        horizons: Horizons,
        retentions: Callable[[], Mapping[int, int]],
        before_removal: Callable[[Collection[int]], Awaitable[None]],
    ) -> None:
        self._ingest = ingest
        self._catalogue = catalogue
        self._store = store
        self._horizons = horizons
        self._retentions = retentions
        self._before_removal = before_removal
        self._removed: dict[int, tuple[int, int]] = {}
        """By bucket: its retention, and the time before which points were removed for it."""
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._trouble = Trouble(log, "expired points could not be removed", "expired points can be removed again")

    async def run(self) -> None:
        """Remove what is due, now and then, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
                await self.remove_due()
            except StorageError as error:
                self._trouble.begin(error)
            else:
                self._trouble.end()

    async def remove_due(self) -> None:
        """Remove from every bucket what is due. Raises StorageError; then the rest is done the next time."""
        async with self._lock:
            retentions = self._retentions()
            self._removed = {bucket: done for bucket, done in self._removed.items() if bucket in retentions}
            now_ns = self._horizons.clock_ns()
            due: dict[int, dict[int, tuple[int, int]]] = {}
            for bucket_id, retention_s in retentions.items():
                until_ns = due_until_ns(retention_s, now_ns)
                if self._removed.get(bucket_id) != (retention_s, until_ns):
                    due.setdefault(until_ns, {})[bucket_id] = (retention_s, until_ns)
            for until_ns, buckets in due.items():
                await self._remove(buckets, until_ns)
                self._removed.update(buckets)

    async def change(self, bucket_id: int, retention_s: int | None, commit: Callable[[], Awaitable[T]]) -> T:
        """Have a bucket's retention changed by `commit`, which answers once it counts. What has expired before stays
        gone: if points are to be kept for longer from now on, it is removed first. Goes on to its end when the caller
        is cancelled. Raises what `commit` raises, and StorageError; then all is as before."""
        task = asyncio.get_running_loop().create_task(self._change(bucket_id, retention_s, commit))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _change(self, bucket_id: int, retention_s: int | None, commit: Callable[[], Awaitable[T]]) -> T:
        async with self._lock:
            before_s = self._retentions().get(bucket_id)
            if before_s is None or (retention_s is not None and retention_s <= before_s):
                return await commit()
            # The horizon stays until the new retention counts: what expired meanwhile would come back, since it is
            # not removed.
            with self._horizons.held(bucket_id) as horizon_ns:
                await self._remove([bucket_id], horizon_ns)
                return await commit()

    async def close(self) -> None:
        """Let changes under way come to their end."""
        while self._changes:
            await asyncio.wait(self._changes)

    async def _remove(self, bucket_ids: Collection[int], until_ns: int) -> None:
        await self._before_removal(bucket_ids)
        series_ids = [n for bucket_id in bucket_ids for n in self._catalogue.series_ids(bucket_id)]
        for first in range(0, len(series_ids), SERIES_AT_ONCE):
            some = series_ids[first : first + SERIES_AT_ONCE]
            await self._ingest.run_between_commits(partial(self._store.delete, some, end_ns=until_ns))
