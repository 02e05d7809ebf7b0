"""The newest points of series that are asked for again and again, kept in memory. Knows no engine and no disk.

A dashboard asks for the same last points every few seconds, and what has come since is known here before it asks. The
store's writers tell of every change, after its commit and before they return. So what is answered from here is what the
store says, but that a batch may be seen there a moment sooner than here, until whoever stored it has been answered.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import ValueType
from headwater.store import ARROW_TYPES, Columns
from headwater.store.duck.layout import EARLIEST_NS, LATEST_NS

MOST_POINTS = 200_000
"""So many are kept together, which takes some 15 MB."""
_LETTERS_OF_A_POINT = 64
"""So many letters of text count as another point."""
_MOST_UNREAD = 500
"""A series that got so many points since it was last asked for is let go: to keep it costs 0.3 µs a point."""
_MOST_AT_ONCE = 256
"""So many points of a batch are taken in at most: this is for what comes from devices, and a load of many series must
not wait for it. Series of which there are more are let go."""


@dataclass(slots=True)
class Tail:
    """All points of a series from a time on, ascending."""

    from_ns: int
    times: list[int]
    values: list[Any]
    most: int
    """It is cut to half when it is longer than this."""
    unread: int = 0
    weight: int = 0
    """What it counts towards the limit of all."""

    def put(self, at_ns: int, value: Any) -> None:
        """Take in a point that was stored."""
        if at_ns < self.from_ns:
            return
        times = self.times
        if not times or at_ns > times[-1]:
            times.append(at_ns)
            self.values.append(value)
            return
        place = bisect_left(times, at_ns)
        if times[place] == at_ns:
            self.values[place] = value
        else:
            times.insert(place, at_ns)
            self.values.insert(place, value)

    def weigh(self) -> int:
        """Cut it if it has become too long; by how much its weight has changed."""
        if len(self.times) > self.most:
            cut = len(self.times) - self.most // 2
            del self.times[:cut], self.values[:cut]
            self.from_ns = self.times[0]
        before = self.weight
        self.weight = 1 + len(self.times)
        if self.values and isinstance(self.values[0], str):
            self.weight += sum(map(len, self.values)) // _LETTERS_OF_A_POINT
        return self.weight - before


@dataclass(eq=False, slots=True)
class Filling:
    """Series that are just being read, to be kept afterwards, unless something of them changes meanwhile."""

    series_ids: Collection[int]
    is_spoiled: bool = False
    is_read: bool = False
    tails: dict[int, Tail] = field(default_factory=dict)
    """Put here what was read."""

    def put(self, series_id: int, from_ns: int, points: Mapping[int, Any], newest: int) -> None:
        """What was read of one series: all of its points from a time on, where so many were asked for."""
        times = sorted(points)
        self.tails[series_id] = Tail(from_ns, times, [points[at_ns] for at_ns in times], 2 * max(newest, len(times)))


class Tails:
    """Those of one store. Every method may be called from any thread; `changing` and all within it, and `clear`, by
    whoever holds the lock of writers."""

    def __init__(self, most_points: int = MOST_POINTS) -> None:
        self._most_points = most_points
        self._lock = threading.Lock()
        self._tails: OrderedDict[int, Tail] = OrderedDict()
        """The one that was asked for last stands last."""
        self._fillings: list[Filling] = []
        self._is_changing = False
        self._weight = 0
        self._watched: pa.Array | None = None
        """The series of tails and fillings; None: to be made anew."""

    def rows(
        self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None, newest: int | None
    ) -> pa.Table | None:
        """What `Store.rows` answers for series of these types; None when not all of it is kept."""
        first_ns = EARLIEST_NS if start_ns is None else start_ns
        with self._lock:
            if not all(series_id in self._tails for series_id in types):
                return None
            tails = [self._tails[series_id] for series_id in types]
            known_ns = max(tail.from_ns for tail in tails)
            slices = [_slice(tail, max(first_ns, known_ns), end_ns) for tail in tails]
            if len(tails) == 1:
                times: Sequence[int] = slices[0][0]
            else:
                times = sorted(set().union(*(times for times, _ in slices)))
            if first_ns < known_ns and (newest is None or len(times) < newest):
                return None
            for series_id, tail in zip(types, tails, strict=True):
                tail.unread = 0
                self._tails.move_to_end(series_id)
        if newest is not None:
            times = times[-newest:]
        arrays = [pa.array(times, pa.int64())]
        for value_type, (own_times, values) in zip(types.values(), slices, strict=True):
            if len(slices) > 1:
                value_at = dict(zip(own_times, values, strict=True))
                values = [value_at.get(at_ns) for at_ns in times]
            arrays.append(pa.array(values[len(values) - len(times) :], ARROW_TYPES[value_type]))
        return pa.table(arrays, ["at_ns", *map(str, types)])

    @contextmanager
    def filling(self, series_ids: Collection[int]) -> Iterator[Filling]:
        """Within the block, read what is to be kept of these series, from a view of the store that is fixed there."""
        filling = Filling(series_ids)
        with self._lock:
            self._fillings.append(filling)
            self._watched = None
        try:
            yield filling
        finally:
            with self._lock:
                filling.is_read = True
                if not self._is_changing:
                    self._settle()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Within the block the store is changed, and `append` or `drop` says how. What is read meanwhile may have the
        change already, which tails beside it do not have: it is kept, if it does not matter, when the block ends."""
        with self._lock:
            self._is_changing = True
        try:
            yield
        except BaseException:
            self.clear()
            raise
        finally:
            with self._lock:
                self._is_changing = False
                self._settle()

    def append(self, batches: Iterable[Columns]) -> None:
        """These points, all of one transaction, were stored."""
        with self._lock:
            if not self._tails and not self._fillings:
                return
            changed: dict[int, Tail] = {}
            touched: set[int] = set()
            for columns in batches:
                is_boolean = columns.type is ValueType.BOOLEAN
                places, others = self._found_in(columns)
                for number in places:
                    series_id = columns.series_ids[number]
                    tail = changed.get(series_id) or self._tails.get(series_id)
                    if tail is None:
                        touched.add(series_id)
                        continue
                    changed[series_id] = tail
                    tail.unread += 1
                    if tail.unread <= _MOST_UNREAD:
                        value = columns.values[number]
                        tail.put(columns.at_ns[number], bool(value) if is_boolean else value)
                for series_id in others:
                    tail = self._tails.get(series_id)
                    if tail is None:
                        touched.add(series_id)
                        continue
                    changed[series_id] = tail
                    tail.unread = _MOST_UNREAD + 1
            for series_id, tail in changed.items():
                if tail.unread > _MOST_UNREAD:
                    self._forget(series_id)
                else:
                    self._weight += tail.weigh()
            self._spoil(touched | changed.keys())
            self._make_room()

    def drop(self, series_ids: Iterable[int]) -> None:
        """Points of these series were deleted."""
        with self._lock:
            changed = set(series_ids)
            for series_id in changed & self._tails.keys():
                self._forget(series_id)
            self._spoil(changed)

    def clear(self) -> None:
        """Nothing is known any more."""
        with self._lock:
            self._tails.clear()
            self._weight = 0
            self._watched = None
            for filling in self._fillings:
                filling.is_spoiled = True

    def _settle(self) -> None:
        """Keep what was read, unless it was spoiled."""
        for filling in [filling for filling in self._fillings if filling.is_read]:
            self._fillings.remove(filling)
            self._watched = None
            if not filling.is_spoiled:
                self._keep(filling.tails)

    def _keep(self, tails: Mapping[int, Tail]) -> None:
        for series_id, tail in tails.items():
            if series_id in self._tails:
                self._forget(series_id)
            self._tails[series_id] = tail
            self._weight += tail.weigh()
        self._make_room()

    def _make_room(self) -> None:
        while self._weight > self._most_points:
            self._forget(next(iter(self._tails)))

    def _forget(self, series_id: int) -> None:
        self._weight -= self._tails.pop(series_id).weight
        self._watched = None

    def _spoil(self, series_ids: Collection[int]) -> None:
        for filling in self._fillings:
            if not filling.is_spoiled:
                filling.is_spoiled = any(series_id in series_ids for series_id in filling.series_ids)

    def _found_in(self, columns: Columns) -> tuple[Iterable[int], Iterable[int]]:
        """Where the first points of watched series stand, ascending (in a short batch perhaps of others too), and which
        of the series have more."""
        if len(columns) <= _MOST_AT_ONCE:
            return range(len(columns)), ()
        if self._watched is None:
            watched = set(self._tails).union(*(filling.series_ids for filling in self._fillings))
            self._watched = pa.array(watched, pa.int64())
        ids = pa.Array.from_buffers(pa.int64(), len(columns), [None, pa.py_buffer(columns.series_ids)])
        places = pc.indices_nonzero(pc.is_in(ids, self._watched))
        others = ids.take(places[_MOST_AT_ONCE:]).unique()
        return places[:_MOST_AT_ONCE].to_pylist(), others.to_pylist()


def _slice(tail: Tail, start_ns: int, end_ns: int | None) -> tuple[list[int], list[Any]]:
    """Copies of a tail's times and values in [start, end)."""
    first = bisect_left(tail.times, start_ns)
    last = len(tail.times) if end_ns is None or end_ns > LATEST_NS else bisect_left(tail.times, end_ns)
    return tail.times[first:last], tail.values[first:last]
