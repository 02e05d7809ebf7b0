"""Records of many series keys, read in portions that need little memory. Knows tables and series numbers; the store
gives it the means to read.

How much there is of each key is counted first, for some ten thousand keys at a time, which reads hardly more than the
numbers of series. Neighbouring keys then make a portion together; a key with more than that is cut by time. Each
portion is a query of its own, with its own view of the tables: between two of them nothing is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import duckdb
import pyarrow as pa

from headwater.model.series import ValueType
from headwater.store.duck.reading import Selection, arrivals_sql, points_sql, reach, unnested
from headwater.store.duck.tables import Wanted
from headwater.store.recording import records_schema

T = TypeVar("T")

PORTION_POINTS = 500_000
"""So many points are read at once, which takes some 100 MB and 0.1 s. (Of 100,000 half as many a second are read.)"""
_PORTION_CELLS = 16_000_000
"""The most values that a portion may have room for, null ones too: fewer points are read at once into many columns."""
_BATCH_ROWS = 10_000
_BATCH_CELLS = 1_000_000
_PLANNED_SERIES = 50_000
"""So many series are counted at a time; a portion has no more either."""
_SLOT_BITS = 10
"""A key is cut at one of some 2 ** 10 equally distant times."""
_LETTERS_OF_A_POINT = 32
"""So many letters of text count as another point."""


class Place(NamedTuple):
    """Where the values of a series belong."""

    series_id: int
    key: int
    column: int


class Portion(NamedTuple):
    """Places of neighbouring keys, and a span of time, that are read at once."""

    places: Sequence[Place]
    start_ns: int
    end_ns: int


class Read(Protocol):
    """Does reading work with a view of all tables at one moment; see `Tables.read`."""

    def __call__(self, wanted: Wanted, work: Callable[[duckdb.DuckDBPyConnection, list[Selection]], T]) -> T: ...


class Recording:
    """One call of `Store.records`, whose series have the given types. `most_points`: about how many are read at once;
    a number, and a few letters of text, each count as one."""

    def __init__(
        self,
        keys: Sequence[Mapping[str, int]],
        types: Mapping[int, ValueType],
        read: Read,
        most_points: int,
    ) -> None:
        self._keys = keys
        self._types = types
        self._read = read
        self._schema = records_schema(keys, types)
        width = len(self._schema)
        self._most_points = min(most_points, max(_PORTION_CELLS // width, 1))
        self._batch_rows = min(_BATCH_ROWS, max(_BATCH_CELLS // width, 1))

    def batches(self, start_ns: int | None, end_ns: int | None) -> Iterator[pa.RecordBatch]:
        """What `Store.records` yields."""
        yield pa.RecordBatch.from_pylist([], self._schema)
        for places in self._blocks():
            for portion in self._portions(places, start_ns, end_ns):
                yield from self._records(portion).to_batches(self._batch_rows)

    def begin(
        self, cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection]
    ) -> tuple[pa.RecordBatchReader, list[str]]:
        """Begin one query for all, in no particular order: its batches, and the names of their columns. Those without
        any series are left out; there must be one that has some. `wanted` are the points of all series."""
        places = [place for block in self._blocks() for place in block]
        columns = sorted({place.column for place in places})
        sql = _records_sql(wanted, places, columns, is_ordered=False)
        names = self._schema.names
        reader = cursor.sql(sql).to_arrow_reader(self._batch_rows)
        return reader, ["key", "at_ns", *(names[n + 2] for n in columns)]

    def _blocks(self) -> Iterator[list[Place]]:
        """The places of all series that exist, in the order of the keys; no key is in two blocks."""
        column_of = {name: number for number, name in enumerate(self._schema.names[2:])}
        places: list[Place] = []
        for key, named in enumerate(self._keys):
            if len(places) + len(named) > _PLANNED_SERIES and places:
                yield places
                places = []
            places += [Place(n, key, column_of[name]) for name, n in named.items() if n in self._types]
        if places:
            yield places

    def _portions(self, places: Sequence[Place], start_ns: int | None, end_ns: int | None) -> Iterator[Portion]:
        def count(
            cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection]
        ) -> tuple[tuple[int, int] | None, dict[int, int]]:
            return reach(wanted), dict(cursor.execute(_counted_sql(wanted, places, "key")).fetchall())

        # No end is left open: what arrives while a long answer is read would make its last portion ever larger.
        span, points_of = self._read(self._wanted(places, start_ns, end_ns), count)
        if span is None:
            return
        first_ns, last_ns = span
        for together in _together(places, points_of, self._most_points):
            if points_of[together[0].key] > self._most_points:
                yield from self._cut(Portion(together, first_ns, last_ns + 1))
            else:
                yield Portion(together, first_ns, last_ns + 1)

    def _cut(self, portion: Portion) -> Iterator[Portion]:
        """The same in spans of time that follow each other, each of which has few enough points."""
        places, start_ns, end_ns = portion
        # A shift, because no time is too early or too late for it.
        shift = max((end_ns - 1 - start_ns).bit_length() - _SLOT_BITS, 0)

        def count(cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection]) -> list[tuple[int, int]]:
            return cursor.execute(_counted_sql(wanted, places, f"at_ns >> {shift:d}")).fetchall()

        points = 0
        for slot, more in self._read(self._wanted(places, start_ns, end_ns), count):
            begin_ns, next_ns = max(slot << shift, start_ns), min((slot + 1) << shift, end_ns)
            if points + more > self._most_points and points:
                yield Portion(places, start_ns, begin_ns)
                start_ns, points = begin_ns, 0
            if more > self._most_points and shift:
                yield from self._cut(Portion(places, begin_ns, next_ns))
                start_ns = next_ns
            else:
                points += more
        if points:
            yield Portion(places, start_ns, end_ns)

    def _records(self, portion: Portion) -> pa.Table:
        columns = sorted({place.column for place in portion.places})

        def read(cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection]) -> pa.Table:
            return cursor.sql(_records_sql(wanted, portion.places, columns)).to_arrow_table()

        found = self._read(self._wanted(*portion), read)
        filled = dict(zip(columns, found.columns[2:], strict=True))
        values = [filled.get(number, pa.nulls(found.num_rows)) for number in range(len(self._schema) - 2)]
        return pa.table([*found.columns[:2], *values], self._schema.names).cast(self._schema)

    def _wanted(self, places: Sequence[Place], start_ns: int | None, end_ns: int | None) -> Wanted:
        return Wanted({place.series_id: self._types[place.series_id] for place in places}, start_ns, end_ns)


def _together(places: Sequence[Place], points_of: Mapping[int, int], most_points: int) -> Iterator[Sequence[Place]]:
    """Places of neighbouring keys that together have few enough points, or of a single key that has more. Keys without
    points are left out at the beginning of each."""
    first, points = 0, 0
    for number, place in enumerate(places):
        if number and places[number - 1].key == place.key:
            continue
        more = points_of.get(place.key, 0)
        if points + more > most_points and points:
            yield places[first:number]
            points = 0
        if not points:
            first = number
        points += more
    if points:
        yield places[first:]


def _places_sql(places: Sequence[Place]) -> str:
    """The places as rows `series_id, key, number`."""
    columns = zip(("series_id", "key", "number"), zip(*places, strict=True), strict=True)
    return "SELECT " + ", ".join(f"{unnested(numbers)} AS {name}" for name, numbers in columns)


def _counted_sql(wanted: Sequence[Selection], places: Sequence[Place], by: str) -> str:
    """How many points there are of each key, or in each span of time, ascending; replaced and deleted ones too."""
    sources = " UNION ALL ".join(
        f"SELECT series_id, at_ns, {_weight_sql(one.type)} AS points FROM ({arrivals_sql(one)})"  # noqa: S608 - numbers only, here and below
        for one in wanted
    )
    return (
        f"SELECT {by} AS counted, sum(points)::BIGINT FROM ({sources}) "  # noqa: S608
        f"JOIN ({_places_sql(places)}) places USING (series_id) GROUP BY counted ORDER BY counted"
    )


def _weight_sql(value_type: ValueType) -> str:
    return f"1 + strlen(value) // {_LETTERS_OF_A_POINT:d}" if value_type is ValueType.STRING else "1"


def _records_sql(
    wanted: Sequence[Selection], places: Sequence[Place], columns: Sequence[int], *, is_ordered: bool = True
) -> str:
    """Columns `key`, `at_ns` and one for each number in `columns`."""
    types = {series_id: one.type for one in wanted for series_id in one.series_ids or ()}
    type_of = {place.column: types[place.series_id] for place in places}
    sources = " UNION ALL BY NAME ".join(
        f"SELECT series_id, at_ns, value AS {_value(one.type)} FROM ({points_sql(one, is_joined=True)})"  # noqa: S608
        for one in wanted
    )
    if len(columns) == 1:  # a point is a record then: nothing has to be brought together
        values, grouping = f", {_value(type_of[columns[0]])} AS column_{columns[0]:d}", ""
    else:
        values = "".join(f", any_value({_value(type_of[n])}) FILTER (number = {n:d}) AS column_{n:d}" for n in columns)
        grouping = "GROUP BY key, at_ns "
    order = "ORDER BY key, at_ns" if is_ordered else ""
    return (
        f"SELECT key, at_ns{values} FROM ({sources}) JOIN ({_places_sql(places)}) places USING (series_id) "  # noqa: S608
        f"{grouping}{order}"
    )


def _value(value_type: ValueType) -> str:
    return f"value_{value_type.name.lower()}"
