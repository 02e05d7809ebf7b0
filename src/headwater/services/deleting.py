"""The one way to delete points: by filter and time, one record, or a whole bucket. Checks no rights: dialects do.

Deletions are carried out one after another, between two commits: all that was acknowledged before is deleted, and what
is deleted is deleted on disk when the call returns. With bounds of time, points go and their series stay. Without any,
the series go too, at once: what is written from then on is written to new series, which the deletion does not touch, so
nothing that is written meanwhile is lost, and nothing that was deleted comes back. Not even when the process ends in
the middle: before the first of what is written from then on is on disk, a notice is, and the next start goes on.

Whoever makes something of points (a rollup) takes part with a hook, see `Deleting.on_deleting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NamedTuple, TypeAlias

from headwater.logs import Log
from headwater.model.series import Series, SeriesKey
from headwater.services.catalogue import Catalogue
from headwater.services.ingest import Ingest
from headwater.services.selecting import SeriesFilter
from headwater.store import Store

log = Log(__name__)


class Deletion(NamedTuple):
    """What is about to be deleted."""

    bucket_id: int
    series: Sequence[Series]
    """With their numbers; when they go as a whole, the catalogue does not have them any more."""
    start_ns: int | None
    end_ns: int | None
    """Exclusive. Without bounds, the series themselves are deleted."""
    is_clear: bool = False
    """Whether it is everything in the bucket."""


Hook: TypeAlias = Callable[[Deletion], AbstractAsyncContextManager[None]]


class Deleting:
    """Deletes points of series; call everything from the event loop's thread."""

    def __init__(self, ingest: Ingest, catalogue: Catalogue, store: Store) -> None:
        self._ingest = ingest
        self._catalogue = catalogue
        self._store = store
        self._hooks: list[Hook] = []
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._undeleted: dict[int, list[Series]] = {}
        """By bucket, series that the catalogue has forgotten and that could not be deleted: for the next try."""

    def on_deleting(self, hook: Hook) -> None:
        """Let every deletion happen within `hook(deletion)`.

        The block is entered before anything of it is deleted: what it has written down by then (which windows are to be
        made anew) is there should the process end in the middle. It is left when the points are gone, on disk, or when
        deleting failed. Meanwhile no other deletion begins, so a hook can hold off what must not run beside one. When
        entering raises, nothing is deleted and the caller gets the error. Cancelling whoever asked for a deletion does
        not end the block early.
        """
        self._hooks.append(hook)

    async def finish_interrupted(self) -> None:
        """Delete what was about to be deleted when the process ended; call once at start, when all hooks are there.
        Raises StorageError."""
        unfinished, self._catalogue.unfinished = self._catalogue.unfinished, {}
        for bucket_id, found in unfinished.items():
            await self._carry_out_whole(Deletion(bucket_id, found.series, None, None, found.is_clear))

    async def delete(self, wanted: SeriesFilter, *, start_ns: int | None = None, end_ns: int | None = None) -> None:
        """Delete the points of the chosen series in [start, end); without bounds, the series too. Raises
        StorageError."""
        if start_ns is None and end_ns is None:
            series = self._catalogue.select(wanted)  # in one step with forgetting them
        else:
            series = await asyncio.to_thread(self._catalogue.select, wanted)
        await self._delete(wanted.bucket_id, series, start_ns, end_ns)

    async def delete_record(self, key: SeriesKey, at_ns: int, fields: Collection[str] | None = None) -> None:
        """Delete the values of all fields of a key at one time, or those of some fields. Raises StorageError."""
        series = [one for one in self._catalogue.of_key(key) if fields is None or one.field in fields]
        await self._delete(key.bucket_id, series, at_ns, at_ns + 1)

    async def clear_bucket(self, bucket_id: int) -> None:
        """Delete everything in a bucket. Raises StorageError."""
        await self._delete(bucket_id, list(self._catalogue.of_bucket(bucket_id)), None, None, is_clear=True)

    async def close(self) -> None:
        """Let deletions that go on end."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _delete(
        self,
        bucket_id: int,
        series: list[Series],
        start_ns: int | None,
        end_ns: int | None,
        *,
        is_clear: bool = False,
    ) -> None:
        if start_ns is None and end_ns is None:
            # Before anything is waited for: a caller that keeps something about a bucket changes it in the same step.
            series = self._ingest.forget(bucket_id, series, is_clear=is_clear)
            series += self._undeleted.pop(bucket_id, [])
            work = self._carry_out_whole
        else:
            work = self._carry_out
        if series:
            await self._lasting(work(Deletion(bucket_id, series, start_ns, end_ns, is_clear)))

    async def _lasting(self, work: Coroutine[None, None, None]) -> None:
        """Do work to its end, also when whoever asked has gone away."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    async def _carry_out_whole(self, deletion: Deletion) -> None:
        try:
            await self._carry_out(deletion)
        except BaseException:
            self._undeleted.setdefault(deletion.bucket_id, []).extend(deletion.series)
            raise

    async def _carry_out(self, deletion: Deletion) -> None:
        ids = [one.id for one in deletion.series]
        async with self._turn, AsyncExitStack() as stack:
            for hook in self._hooks:
                await stack.enter_async_context(hook(deletion))
            await self._ingest.run_between_commits(
                lambda: self._store.delete(ids, start_ns=deletion.start_ns, end_ns=deletion.end_ns)
            )


def _log_failure(task: asyncio.Task[None]) -> None:
    """Nobody waits for it any more who could tell."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("deleting failed", reason=str(error), cause=repr(error.__cause__))
