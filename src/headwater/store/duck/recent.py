"""The points that arrived last, kept in memory as they came. Knows no engine and no disk.

Most questions are about the last points of some series, as dashboards ask them every few seconds. They are answered
from here without a query: a million points are looked through in half a millisecond, in which DuckDB would only plan.
Once somebody asks, upkeep brings them into the order of series, and they are found in a tenth of that. That an answer
is whole is known by the latest time of all points that are not here: what comes after it is here.

The store tells of every change after its commit and before it returns. So what is answered from here is what the store
says, but that a batch may be seen there a moment sooner than here, until whoever stored it has been answered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import ValueType
from headwater.store.duck.layout import EARLIEST_NS, LATEST_NS, ids_by_type

MOST_BYTES = 16 * 2**20
"""Of each type: some 650,000 numbers."""
MOST_FOUND = 5_000
"""An answer of more points is better left to the database: here each becomes a Python object."""
_CHUNKS = 20
"""Chunks grow to one of so many parts of the room there is; the first one is let go when a new one comes."""
_LOOKED_THROUGH_FIRST = 50_000
"""So many points tell how often a series sends."""
_NEIGHBOURS = 64
"""Series whose numbers lie so close are found by comparing with the first and the last of them."""
_MARGIN = 1.1
"""By how much more than the average a series may have paused, before it is looked for again."""

_LETTERS: dict[pa.DataType, Literal["q", "Q", "d"]] = {pa.int64(): "q", pa.uint64(): "Q", pa.float64(): "d"}

Points = Mapping[int, Mapping[int, Any]]
"""Values by series and time."""


class Piece(NamedTuple):
    """Points of one series in the order in which they arrived."""

    times: list[int]
    values: list[Any]


class Chunk(NamedTuple):
    """Points (`series_id`, `at_ns`, `value`) in the order in which they arrived, or series by series in that order."""

    points: pa.RecordBatch
    last_ns: int
    """No later time is among them."""
    nbytes: int
    is_sorted: bool = False

    def sorted(self) -> Chunk:
        """The same, series by series. Takes 5 ms for 35,000 points."""
        order = pc.array_sort_indices(self.points.column("series_id"))  # which is stable
        return self._replace(points=self.points.take(order), is_sorted=True)


class Arrivals(NamedTuple):
    """Those of one type at one moment."""

    older_last_ns: int
    """No point that is not in a chunk is later than this."""
    chunks: tuple[Chunk, ...] = ()
    """From the oldest to the newest; small ones are the newest, each less than half of the one before."""

    def put(self, chunk: Chunk, most_bytes: int) -> Arrivals:
        """With what arrived, and without what arrived first, if that becomes too much."""
        chunks, older_last_ns = list(self.chunks), self.older_last_ns
        # Two of about one size are joined: so there are few, and each point is copied few times.
        while (
            chunks
            and chunks[-1].nbytes <= 2 * chunk.nbytes
            and chunks[-1].nbytes + chunk.nbytes <= most_bytes // _CHUNKS
        ):
            chunk = _joined(chunks.pop(), chunk)
        chunks.append(chunk)
        nbytes = sum(chunk.nbytes for chunk in chunks)
        while nbytes > most_bytes:
            gone = chunks.pop(0)
            nbytes -= gone.nbytes
            older_last_ns = max(older_last_ns, gone.last_ns)
        return Arrivals(older_last_ns, tuple(chunks))

    def pass_over(self, last_ns: int) -> Arrivals:
        """Without any, because there are others until `last_ns` which are too many to be kept."""
        return Arrivals(max(self.older_last_ns, last_ns, *(chunk.last_ns for chunk in self.chunks)))

    def delete(self, series_ids: Collection[int], first_ns: int, last_ns: int) -> Arrivals:
        """Without points that are not in the database any more."""
        if first_ns > last_ns or last_ns <= self.older_last_ns:  # what may be older is never answered
            return self
        first, last = pa.scalar(first_ns, pa.int64()), pa.scalar(last_ns, pa.int64())
        ids = pa.array(series_ids, pa.int64())
        kept = []
        for chunk in self.chunks:
            is_late = pc.greater_equal(chunk.points.column("at_ns"), first)
            is_early = pc.less_equal(chunk.points.column("at_ns"), last)
            is_gone = pc.and_(pc.and_(is_late, is_early), pc.is_in(chunk.points.column("series_id"), ids))
            if not is_gone.true_count:
                kept.append(chunk)
            elif is_gone.true_count < len(is_gone):
                # With the latest time of what is left: one of a far future has gone perhaps.
                left = _chunk(chunk.points.filter(pc.invert(is_gone)))
                kept.append(left._replace(is_sorted=chunk.is_sorted))
        return Arrivals(self.older_last_ns, tuple(kept))


class Recent:
    """Those of one store. `find` may be called from any thread; all else by whoever holds the lock of writers."""

    def __init__(self, older_last_ns: Mapping[ValueType, int], most_bytes: int = MOST_BYTES) -> None:
        """`older_last_ns`: for each type, the latest time of all points there are; see `begin`."""
        self._most_bytes = most_bytes
        self._is_asked = False
        self.begin(older_last_ns)

    def begin(self, older_last_ns: Mapping[ValueType, int]) -> None:
        """Know nothing but the latest time, for each type, that a point may have."""
        self._of = {value_type: Arrivals(last_ns) for value_type, last_ns in older_last_ns.items()}
        """Never changed: another takes its place, so that a reader sees all types as they were at one moment."""

    def append(self, points_of: Mapping[ValueType, pa.Table]) -> None:
        """These points (`series_id`, `at_ns`, `value`), all of one transaction, were stored."""
        changed = {}
        for value_type, points in points_of.items():
            arrivals = self._of[value_type]
            if points.nbytes > self._most_bytes:
                changed[value_type] = arrivals.pass_over(pc.max(points.column("at_ns")).as_py())
            else:
                changed[value_type] = arrivals.put(_chunk(_copied(points)), self._most_bytes)
        self._of = {**self._of, **changed}

    def delete(self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None) -> None:
        """Points of these series in [start, end) were deleted."""
        span = _span(start_ns, end_ns)
        changed = {
            value_type: self._of[value_type].delete(ids, *span) for value_type, ids in ids_by_type(types).items()
        }
        self._of = {**self._of, **changed}

    def unsorted(self) -> tuple[ValueType, Chunk] | None:
        """A chunk that is worth being sorted: one that is full, when anybody has asked for something since there was
        none. Whoever only stores has no use for it."""
        if self._is_asked:
            for value_type, arrivals in self._of.items():
                for chunk in reversed(arrivals.chunks):
                    if not chunk.is_sorted and chunk.nbytes * 2 > self._most_bytes // _CHUNKS:
                        return value_type, chunk
            self._is_asked = False
        return None

    def replace(self, value_type: ValueType, chunk: Chunk, new: Chunk) -> None:
        """Let the sorted chunk take the place of the other, if that is still there."""
        arrivals = self._of[value_type]
        chunks = tuple(new if one is chunk else one for one in arrivals.chunks)
        self._of = {**self._of, value_type: arrivals._replace(chunks=chunks)}

    def find(
        self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None, newest: int | None
    ) -> Points | None:
        """The points of some series in [start, end), and at least those of their `newest` times; None when they are
        not all here, or too many."""
        self._is_asked = True
        first_ns, last_ns = _span(start_ns, end_ns)
        ids_of = ids_by_type(types)
        arrivals_of = self._of
        known_ns = max(arrivals_of[value_type].older_last_ns for value_type in ids_of) + 1
        if newest is None and first_ns < known_ns:
            return None
        points: dict[int, dict[int, Any]] = {}
        for value_type, ids in ids_of.items():
            found = _search(arrivals_of[value_type].chunks, ids, max(first_ns, known_ns), last_ns, newest)
            if found is None:
                return None
            points.update(found)
        if first_ns < known_ns and len(set().union(*points.values())) < (newest or 0):
            return None
        return points


def _span(start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    """The first and the last time that can be stored in [start, end)."""
    first_ns = EARLIEST_NS if start_ns is None else max(start_ns, EARLIEST_NS)
    return first_ns, LATEST_NS if end_ns is None else min(end_ns - 1, LATEST_NS)


def _copied(points: pa.Table) -> pa.RecordBatch:
    """Points in memory of their own: whoever stored them may use theirs for others."""
    series_ids, at_ns, values = (column.chunk(0) for column in points.columns)
    if values.type == pa.int8():
        values = values.cast(pa.bool_())  # which come as bytes
    elif values.type != pa.string():
        values = _copied_numbers(values)
    return pa.record_batch([_copied_numbers(series_ids), _copied_numbers(at_ns), values], points.column_names)


def _copied_numbers(numbers: pa.Array) -> pa.Array:
    memory = numbers.buffers()[1].to_pybytes()
    return pa.Array.from_buffers(numbers.type, len(numbers), [None, pa.py_buffer(memory)])


def _chunk(points: pa.RecordBatch) -> Chunk:
    return Chunk(points, pc.max(points.column("at_ns")).as_py(), points.nbytes)


def _joined(older: Chunk, newer: Chunk) -> Chunk:
    points = pa.concat_batches([older.points, newer.points])
    return Chunk(points, max(older.last_ns, newer.last_ns), points.nbytes)


def _search(
    chunks: Sequence[Chunk], series_ids: Collection[int], first_ns: int, last_ns: int, newest: int | None
) -> dict[int, dict[int, Any]] | None:
    """The points of series of one type from the first to the last time, from the newest chunk back to where only older
    times than the `newest` can be; None when they are too many."""
    reaches_ns = [EARLIEST_NS]  # the latest time in so many of the oldest chunks
    for chunk in chunks:
        reaches_ns.append(max(reaches_ns[-1], chunk.last_ns))
    pieces: dict[int, list[Piece]] = {series_id: [] for series_id in series_ids}
    counts = dict.fromkeys(series_ids, 0)
    looked_through, enough = 0, _LOOKED_THROUGH_FIRST
    end = len(chunks)
    while end and reaches_ns[end] >= first_ns:
        begin = end - 1
        if chunks[begin].is_sorted:
            late = _looked_up(chunks[begin].points, series_ids)
        else:
            # Some at once, because every step hands the interpreter's lock back and forth.
            looked_through += chunks[begin].points.num_rows
            while begin and looked_through < enough and not chunks[begin - 1].is_sorted:
                begin -= 1
                looked_through += chunks[begin].points.num_rows
            picked = _picked_out([chunk.points for chunk in chunks[begin:end]], series_ids)
            if picked is None:
                return None
            late = picked
        for series_id, piece in late.items():
            pieces[series_id].append(piece)
            counts[series_id] += len(piece.times)
        if sum(counts.values()) > MOST_FOUND:
            return None
        end = begin
        most = max(counts.values())
        if newest and most >= newest:  # else there cannot be so many times yet, unless the series take turns
            points = _united(pieces, first_ns, last_ns)
            if _has_newer(set().union(*points.values()), newest, reaches_ns[end]):
                return points
        likely = int(_MARGIN * newest * looked_through / most) if newest and most else LATEST_NS
        enough = max(likely, looked_through + 1)
    return _united(pieces, first_ns, last_ns)


def _united(pieces: Mapping[int, Sequence[Piece]], first_ns: int, last_ns: int) -> dict[int, dict[int, Any]]:
    """The points of each series from the first to the last time, of its pieces from the newest to the oldest."""
    points = {}
    for series_id, of_series in pieces.items():
        found: dict[int, Any] = {}
        for times, values in reversed(of_series):
            found.update(zip(times, values, strict=True))  # what arrived later stands
        if found and (min(found) < first_ns or max(found) > last_ns):
            found = {at_ns: value for at_ns, value in found.items() if first_ns <= at_ns <= last_ns}
        points[series_id] = found
    return points


def _looked_up(points: pa.RecordBatch, series_ids: Collection[int]) -> dict[int, Piece]:
    """The points of some series, of a sorted chunk."""
    numbers, at_ns, values = points.columns
    ordered = memoryview(numbers.buffers()[1]).cast("q")
    count = len(numbers)
    found = {}
    for series_id in series_ids:
        begin = bisect_left(ordered, series_id, 0, count)
        end = bisect_right(ordered, series_id, begin, count)
        if begin < end:
            found[series_id] = Piece(_listed(at_ns, begin, end), _listed(values, begin, end))
    return found


def _picked_out(batches: Sequence[pa.RecordBatch], series_ids: Collection[int]) -> dict[int, Piece] | None:
    """The points of some series, of chunks that are not sorted; None for too many."""
    points = pa.Table.from_batches(batches)
    points = points.filter(_mask(points.column("series_id"), series_ids))
    if points.num_rows > MOST_FOUND:
        return None
    numbers, times, values = (_listed(column.combine_chunks(), 0, points.num_rows) for column in points.columns)
    if len(series_ids) == 1:
        return {series_id: Piece(times, values) for series_id in series_ids}
    found = {series_id: Piece([], []) for series_id in series_ids}
    for series_id, at_ns, value in zip(numbers, times, values, strict=True):
        if series_id in found:
            piece = found[series_id]
            piece.times.append(at_ns)
            piece.values.append(value)
    return found


def _listed(column: pa.Array, begin: int, end: int) -> list[Any]:
    """Some values, none of which is null, as Python objects: numbers by way of their memory, ten times as fast as by
    Arrow."""
    letter = _LETTERS.get(column.type)
    if letter is None or begin == end:
        listed: list[Any] = column.slice(begin, end - begin).to_pylist()
        return listed
    return memoryview(column.buffers()[1]).cast(letter)[begin:end].tolist()


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
