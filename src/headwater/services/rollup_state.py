"""What is known of a rule for down-sampling while the server runs, and the marks that keep it true on disk.

A window of a rule's source is *dirty* when something of it may have changed since it was computed. Two series of the
target say so on disk: `mark`, whose value at the window's beginning is another number for each change, and `done`, the
mark with which it was computed. A change and its mark are one transaction, so no crash parts them. The value of the
third, `filled`, is until when all windows have been computed at least once: its newest point counts. The greatest value
of the fourth, `lost`, is when the first window begins that has never lost points to the source's retention.

Here the same is in memory. Computes nothing; only the event loop's thread may use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import SeriesKey, ValueType
from headwater.registry.entities import Rollup
from headwater.services.catalogue import Catalogue
from headwater.store import Batch, Columns, Store
from headwater.store.windows import EARLIEST_NS, LATEST_NS

MEASUREMENT = "rollup"
MARK, DONE, FILLED, LOST = "mark", "done", "filled", "lost"
"""No result has such a name: theirs end with the name of an aggregate."""
SECOND_NS = 1_000_000_000


class Turns:
    """Any number may read while nobody writes; who wants to write goes before those who come later."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._readers = 0
        self._is_writing = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_writing)
            self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            await self._tell()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_writing)
            self._is_writing = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._readers)
            yield
        finally:
            self._is_writing = False
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class RollupState:
    """One rule."""

    def __init__(self, rule: Rollup) -> None:
        self.rule = rule
        self.window_ns = rule.window_s * SECOND_NS
        self.key = SeriesKey(rule.target_bucket_id, MEASUREMENT)
        self.dirty: dict[int, int] = {}
        """Beginning of a dirty window to its mark."""
        self.announced: set[int] = set()
        """Dirty windows whose mark is on disk, or will be before what is written from here on: it needs no other."""
        self.filled_ns = EARLIEST_NS
        """Until when all windows were computed once; LATEST_NS when there is no end to it."""
        self.filled_at_ns = 0
        """The time of the last point that says so."""
        self.expired_ns = EARLIEST_NS
        """Results before this are too old to be kept."""
        self.lost_ns = EARLIEST_NS
        """Windows before this have lost points to a retention that the source has or had."""
        self.undeleted: list[int] = []
        """Series of the target that the catalogue has forgotten; for the next try, should deleting them fail."""
        self.is_gone = False
        self.computing = asyncio.Lock()
        """Held while windows are computed, and while somebody changes the source in another way than by writing."""
        self.turns = Turns()
        """For results: read in several queries, they must be those of one moment."""

    @property
    def is_filled(self) -> bool:
        return self.filled_ns == LATEST_NS

    def begins(self, at_ns: Iterable[int]) -> set[int]:
        """Where the windows of some times begin, but for a window that began before the first time there is."""
        width = self.window_ns
        return {begins for at in at_ns if (begins := at - at % width) >= EARLIEST_NS}

    def claim(self, windows: Collection[int]) -> dict[int, int]:
        """The marks of those windows that are dirty; what touches them from here on is marked anew."""
        self.announced.difference_update(windows)
        return {begins: mark for begins in windows if (mark := self.dirty.get(begins)) is not None}

    def settle(self, marks: Mapping[int, int]) -> None:
        """Windows were computed as they were when they had these marks."""
        for begins, mark in marks.items():
            if self.dirty.get(begins) == mark:
                del self.dirty[begins]
                self.announced.discard(begins)

    def drop(self, windows: Iterable[int]) -> None:
        """Windows will not be computed any more."""
        for begins in windows:
            self.dirty.pop(begins, None)
            self.announced.discard(begins)

    def reset(self) -> None:
        """Nothing of it is on disk any more."""
        self.dirty.clear()
        self.announced.clear()
        self.filled_ns = self.lost_ns = EARLIEST_NS


class Marks:
    """Marks for batches: the `Marker` of ingest."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._states: dict[int, list[RollupState]] = {}
        """By source, narrow windows first."""
        self._last = 0

    def __iter__(self) -> Iterator[RollupState]:
        for states in self._states.values():
            yield from states

    def of(self, bucket_id: int) -> list[RollupState]:
        """The rules of a bucket, those with narrow windows first."""
        return list(self._states.get(bucket_id, ()))

    def add(self, state: RollupState) -> None:
        states = self._states.setdefault(state.rule.bucket_id, [])
        states.append(state)
        states.sort(key=lambda one: one.window_ns)

    def remove(self, state: RollupState) -> None:
        states = self._states[state.rule.bucket_id]
        states.remove(state)
        if not states:
            del self._states[state.rule.bucket_id]

    def next(self) -> int:
        """A mark that never was."""
        self._last += 1
        return self._last

    def mark(self, batch: Batch, touched: Mapping[int, Collection[int]]) -> None:
        for bucket_id, times in touched.items():
            for state in self._states.get(bucket_id, ()):
                windows = state.begins(times) - state.announced
                if windows:
                    self._add(batch, state, windows)
                    state.announced |= windows

    def _add(self, batch: Batch, state: RollupState, windows: Collection[int]) -> None:
        series_id = self._catalogue.find(state.key, MARK, int)
        if series_id is None:
            series = self._catalogue.create(state.key, MARK, ValueType.INTEGER)
            batch.new_series.append(series)
            series_id = series.id
        columns = batch.columns.setdefault(ValueType.INTEGER, Columns(ValueType.INTEGER))
        mark = self.next()
        for begins in windows:
            columns.append(series_id, begins, mark)
            state.dirty[begins] = mark

    def forget(self) -> None:
        for state in self:
            state.announced.clear()

    def restore(self, states: Sequence[RollupState], store: Store) -> None:
        """Bring states to what is on disk. Blocks; nothing may be written to their targets meanwhile."""
        keys = [
            {n: i for n in (MARK, DONE, FILLED) if (i := self._catalogue.find(state.key, n, int)) is not None}
            for state in states
        ]
        marks = [series_id for key in keys for name, series_id in key.items() if name != FILLED]
        self._last = max(self._last, *store.maxima(marks).values(), 0)
        lost = [self._catalogue.find(state.key, LOST, int) for state in states]
        greatest = store.maxima([series_id for series_id in lost if series_id is not None])
        for state, series_id in zip(states, lost, strict=True):
            state.lost_ns = EARLIEST_NS if series_id is None else greatest.get(series_id, EARLIEST_NS)
        for batch in store.records(keys):
            columns = {name: batch.column(name) for name in batch.schema.names}
            nothing = pa.nulls(batch.num_rows, pa.int64())
            mark, done, filled = (columns.get(name, nothing).cast(pa.int64()) for name in (MARK, DONE, FILLED))
            is_done = pc.fill_null(pc.equal(mark, done), False)
            is_dirty = pc.and_(pc.is_valid(mark), pc.invert(is_done))
            for key, at_ns, number in _rows(is_dirty, columns["key"], columns["at_ns"], mark):
                states[key].dirty[at_ns] = number
            for key, at_ns, filled_ns in _rows(pc.is_valid(filled), columns["key"], columns["at_ns"], filled):
                states[key].filled_at_ns, states[key].filled_ns = at_ns, filled_ns  # times ascend


def _rows(which: pa.Array, *columns: pa.Array) -> Iterator[tuple[int, ...]]:
    return zip(*(column.filter(which).to_pylist() for column in columns), strict=True)
