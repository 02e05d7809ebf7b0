"""The points that arrived last, kept in memory as they came. Knows no engine and no disk.

Most questions are about the last points of some series, as dashboards ask them every few seconds. They are answered
from here without a query: a million points are looked through in half a millisecond, in which DuckDB would only plan.
That an answer is whole is known by the latest time of all points that are not here: what comes after it is here.

The store tells of every change after its commit and before it returns. So what is answered from here is what the store
says, but that a batch may be seen there a moment sooner than here, until whoever stored it has been answered.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import ValueType
from headwater.store.duck.layout import EARLIEST_NS, LATEST_NS

MOST_BYTES = 16 * 2**20
"""Of each type: some 650,000 numbers."""
MOST_FOUND = 5_000
"""An answer of more points is better left to the database: here each becomes a Python object."""
_CHUNKS = 10
"""Chunks grow to one of so many parts of the room there is; the first one is let go when a new one comes."""
_LOOKED_THROUGH_FIRST = 65_536
"""So many points tell how often a series sends."""
_NEIGHBOURS = 64
"""Series whose numbers lie so close are found by comparing with the first and the last of them."""
_MARGIN = 1.25
"""By how much more than the average a series may have paused, before it is looked for again."""

Points = Mapping[int, Mapping[int, Any]]
"""Values by series and time."""


class Chunk(NamedTuple):
    """Points (`series_id`, `at_ns`, `value`) in the order in which they arrived."""

    points: pa.RecordBatch
    last_ns: int
    """Their latest time."""


class _Arrivals:
    """Those of one type."""

    def __init__(self, older_last_ns: int, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.chunks: list[Chunk] = []
        """From the oldest to the newest; small ones are the newest, each less than half of the one before."""
        self.nbytes = 0
        self.older_last_ns = older_last_ns
        """No point that is not in a chunk is later than this."""

    def put(self, chunk: Chunk) -> None:
        """Take in what arrived, and let go of what arrived first."""
        # Two of about one size are joined: so there are few, and each point is copied few times.
        while self.chunks and self._belong_together(self.chunks[-1].points.nbytes, chunk.points.nbytes):
            before = self.chunks.pop()
            self.nbytes -= before.points.nbytes
            chunk = _joined(before, chunk)
        self.chunks.append(chunk)
        self.nbytes += chunk.points.nbytes
        while self.nbytes > self._most_bytes:
            gone = self.chunks.pop(0)
            self.nbytes -= gone.points.nbytes
            self.older_last_ns = max(self.older_last_ns, gone.last_ns)

    def _belong_together(self, older_bytes: int, newer_bytes: int) -> bool:
        return older_bytes <= 2 * newer_bytes and older_bytes + newer_bytes <= self._most_bytes // _CHUNKS

    def clear(self, last_ns: int) -> None:
        """Keep nothing; there are points until `last_ns` besides."""
        self.older_last_ns = max(self.older_last_ns, last_ns, *(chunk.last_ns for chunk in self.chunks))
        self.chunks, self.nbytes = [], 0

    def delete(self, series_ids: Collection[int], first_ns: int, last_ns: int) -> None:
        """Let go of points that are not in the database any more."""
        if first_ns > last_ns or last_ns <= self.older_last_ns:  # what may be older is never answered
            return
        chunks, self.chunks = self.chunks, []
        for points, _ in chunks:
            late = pc.greater_equal(points.column("at_ns"), pa.scalar(first_ns, pa.int64()))
            early = pc.less_equal(points.column("at_ns"), pa.scalar(last_ns, pa.int64()))
            of_series = pc.is_in(points.column("series_id"), pa.array(series_ids, pa.int64()))
            kept = points.filter(pc.invert(pc.and_(pc.and_(late, early), of_series)))
            if kept.num_rows:  # a time that is gone must not be taken for one of those that are let go of later
                self.chunks.append(Chunk(kept, pc.max(kept.column("at_ns")).as_py()))
        self.nbytes = sum(chunk.points.nbytes for chunk in self.chunks)


class Recent:
    """Those of one store. Every method may be called from any thread; those that tell of changes, by whoever holds the
    lock of writers."""

    def __init__(self, older_last_ns: Mapping[ValueType, int], most_bytes: int = MOST_BYTES) -> None:
        """`older_last_ns`: for each type, the latest time of all points there are; see `begin`."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self.begin(older_last_ns)

    def begin(self, older_last_ns: Mapping[ValueType, int]) -> None:
        """Know nothing but the latest time, for each type, that a point may have."""
        with self._lock:
            self._of = {
                value_type: _Arrivals(last_ns, self._most_bytes) for value_type, last_ns in older_last_ns.items()
            }

    def append(self, points_of: Mapping[ValueType, pa.Table]) -> None:
        """These points (`series_id`, `at_ns`, `value`), all of one transaction, were stored."""
        last_ns_of = {value_type: pc.max(points.column("at_ns")).as_py() for value_type, points in points_of.items()}
        chunks = {
            value_type: _chunk(points, last_ns_of[value_type])
            for value_type, points in points_of.items()
            if points.nbytes <= self._most_bytes
        }
        with self._lock:
            for value_type, last_ns in last_ns_of.items():
                if value_type in chunks:
                    self._of[value_type].put(chunks[value_type])
                else:
                    self._of[value_type].clear(last_ns)

    def delete(self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None) -> None:
        """Points of these series in [start, end) were deleted."""
        span = _span(start_ns, end_ns)
        with self._lock:
            for value_type, ids in _ids_of(types).items():
                self._of[value_type].delete(ids, *span)

    def find(
        self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None, newest: int | None
    ) -> Points | None:
        """The points of some series in [start, end), and at least those of their `newest` times; None when they are
        not all here, or too many."""
        first_ns, last_ns = _span(start_ns, end_ns)
        ids_of = _ids_of(types)
        with self._lock:
            # Of all types from the same moment on: chunks are never changed.
            known_ns = max(self._of[value_type].older_last_ns for value_type in ids_of) + 1
            if newest is None and first_ns < known_ns:
                return None
            chunks_of = {value_type: list(self._of[value_type].chunks) for value_type in ids_of}
        points: dict[int, dict[int, Any]] = {series_id: {} for series_id in types}
        for value_type, ids in ids_of.items():
            if not _search(chunks_of[value_type], ids, max(first_ns, known_ns), last_ns, newest, points):
                return None
        if first_ns < known_ns and len(set().union(*points.values())) < (newest or 0):
            return None
        return points


def _span(start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    """The first and the last time that can be stored in [start, end)."""
    first_ns = EARLIEST_NS if start_ns is None else max(start_ns, EARLIEST_NS)
    return first_ns, LATEST_NS if end_ns is None else min(end_ns - 1, LATEST_NS)


def _ids_of(types: Mapping[int, ValueType]) -> dict[ValueType, list[int]]:
    ids_of: dict[ValueType, list[int]] = {}
    for series_id, value_type in types.items():
        ids_of.setdefault(value_type, []).append(series_id)
    return ids_of


def _chunk(points: pa.Table, last_ns: int) -> Chunk:
    """A copy: whoever stored the points may use their memory for others."""
    series_ids, at_ns, values = (column.chunk(0) for column in points.columns)
    if values.type == pa.int8():
        values = values.cast(pa.bool_())  # which come as bytes
    elif values.type != pa.string():
        values = _copied(values)
    columns = [_copied(series_ids), _copied(at_ns), values]
    return Chunk(pa.record_batch(columns, points.column_names), last_ns)


def _copied(numbers: pa.Array) -> pa.Array:
    memory = numbers.buffers()[1].to_pybytes()
    return pa.Array.from_buffers(numbers.type, len(numbers), [None, pa.py_buffer(memory)])


def _joined(older: Chunk, newer: Chunk) -> Chunk:
    return Chunk(pa.concat_batches([older.points, newer.points]), max(older.last_ns, newer.last_ns))


def _search(
    chunks: list[Chunk],
    series_ids: Collection[int],
    first_ns: int,
    last_ns: int,
    newest: int | None,
    points: dict[int, dict[int, Any]],
) -> bool:
    """Add to `points` those of series of one type from the first to the last time, from the newest chunk back to where
    only older times than the `newest` can be; False when they are too many."""
    reaches_ns = [EARLIEST_NS]  # the latest time in so many of the oldest chunks
    for chunk in chunks:
        reaches_ns.append(max(reaches_ns[-1], chunk.last_ns))
    times: set[int] = set()
    found, looked_through, enough = 0, 0, _LOOKED_THROUGH_FIRST
    begin = end = len(chunks)
    while end and reaches_ns[end] >= first_ns and not (newest and _has_newer(times, newest, reaches_ns[end])):
        # Some at once, because every step hands the interpreter's lock back and forth.
        while begin and looked_through < enough:
            begin -= 1
            looked_through += chunks[begin].points.num_rows
        late = pa.Table.from_batches([chunk.points for chunk in chunks[begin:end]])
        late = late.filter(_mask(late.column("series_id"), series_ids))
        found += late.num_rows
        if found > MOST_FOUND:
            return False
        for series_id, at_ns, value in reversed(list(zip(*(one.to_pylist() for one in late.columns), strict=True))):
            # What arrived later stands, and was found before.
            if series_id in points and first_ns <= at_ns <= last_ns and at_ns not in points[series_id]:
                points[series_id][at_ns] = value
                times.add(at_ns)
        end = begin
        likely = int(_MARGIN * newest * looked_through / len(times)) if newest and times else LATEST_NS
        enough = max(likely, looked_through + 1)
    return True


def _has_newer(times: Collection[int], count: int, at_ns: int) -> bool:
    """Whether so many of the times are later than a time."""
    return len(times) >= count and sum(time_ns > at_ns for time_ns in times) >= count


def _mask(column: pa.ChunkedArray, series_ids: Collection[int]) -> pa.ChunkedArray:
    """Where the points of some series are, and perhaps those of others between them."""
    # With their type: to look for one that fits takes Arrow as long as to compare 80,000 numbers.
    first, last = pa.scalar(min(series_ids), pa.int64()), pa.scalar(max(series_ids), pa.int64())
    if len(series_ids) == 1:
        return pc.equal(column, first)
    if max(series_ids) - min(series_ids) < _NEIGHBOURS:
        return pc.and_(pc.greater_equal(column, first), pc.less_equal(column, last))
    return pc.is_in(column, pa.array(series_ids, pa.int64()))
