"""The one way out: chosen series to columns. Knows no dialect and checks no rights: dialects do, before they ask.

Every query has the limits of `QuerySettings`: it raises Cancelled when its time is up, TooLarge for an answer with too
many rows, and Overloaded when too many wait already. Looking up what a write needs to know has a thread of its own,
so that no query holds up writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, overload

import pyarrow as pa

from headwater.errors import TooLarge
from headwater.model.series import Series, SeriesKey, Value, ValueType
from headwater.services.catalogue import Catalogue
from headwater.services.grouping import Group, GroupBy, grouped
from headwater.services.horizons import Horizons
from headwater.services.latest import LatestPoint, latest_points
from headwater.services.readers import Readers, Stream
from headwater.services.rollup_reading import RollupReading
from headwater.services.rollups import Rollups
from headwater.services.selecting import SeriesFilter
from headwater.settings import QuerySettings
from headwater.store import Store
from headwater.store.aggregates import Aggregate
from headwater.store.cancellation import Cancellation
from headwater.store.filling import Filling, fill
from headwater.store.windows import Windows

T = TypeVar("T")

MAX_SERIES_SIDE_BY_SIDE = 1_000
"""Of series that are columns of one table."""


class Column(NamedTuple):
    """A field asked for, with the Python class of the values wanted."""

    field: str
    value_class: type


class Rows(NamedTuple):
    """Answer of a query: times ascending, and one list of equal length per column asked for, None where empty."""

    at_ns: list[int]
    columns: dict[Column, list[Value | None]]


class Windowed(NamedTuple):
    """Aggregates of groups of series."""

    groups: list[Group]
    table: pa.Table
    """As `Store.windows` answers: `group` is the index in `groups`; groups without points have no rows."""


class SideBySide(NamedTuple):
    """The points of some series, one row for each time at which any of them has a value."""

    series: list[Series]
    table: pa.Table
    """`at_ns` (ascending), then a column for each series, in their order."""


class RecordColumn(NamedTuple):
    """A field of records. One that has several types is as many columns."""

    field: str
    type: ValueType


class Records(NamedTuple):
    """The records of many series keys, in batches, as `Store.records` gives them."""

    keys: list[SeriesKey]
    """Sorted; a batch's `key` is the index in it."""
    columns: list[RecordColumn]
    """What the columns after `key` and `at_ns` are, in their order; their names say nothing."""
    batches: Stream[pa.RecordBatch]


class Query:
    """Reads beside each other and beside ingest, off the event loop's thread. `rows` never shows what has expired."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        limits: QuerySettings | None = None,
        horizons: Horizons | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._limits = limits or QuerySettings()
        self._horizons = horizons or Horizons()
        self.readers = Readers(self._limits)
        """For other kinds of queries too, so that the limits hold for all of them together."""
        self._rollups: RollupReading | None = None
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix="store-lookup")

    def use_rollups(self, rollups: Rollups) -> None:
        """Let what was down-sampled help with windows."""
        self._rollups = RollupReading(rollups, self._catalogue, self._store, self.readers.run)

    # -- by filter ---------------------------------------------------------------------------------------------------

    async def ask_catalogue(self, question: Callable[[Catalogue, Cancellation], T]) -> T:
        """What the catalogue says of series, for instance `lambda c, stop: c.tag_values(wanted, "room", stop)`."""
        return await self.readers.run(lambda stop: question(self._catalogue, stop))

    async def windows(
        self,
        wanted: SeriesFilter,
        aggregates: Sequence[Aggregate],
        windows: Windows,
        *,
        by: GroupBy = GroupBy(),  # noqa: B008 - a value
        filling: Filling | None = None,
        fill_value: Value | None = None,
    ) -> Windowed:
        """Aggregates in windows of time, for each group of the chosen series; with `filling`, also for windows without
        points in the groups that have any. Raises what `Store.windows` and `fill` raise."""
        max_rows = self._limits.max_rows
        if self._rollups is not None and self._rollups.helps(wanted.bucket_id):
            series = await self.readers.run(lambda stop: self._catalogue.select(wanted, stop))
            groups = grouped(series, by)
            named = {one.id: one for one in series}
            table = await self._rollups.windows(
                [[named[series_id] for series_id in group.series_ids] for group in groups],
                aggregates,
                windows,
                horizon_ns=self._horizons.horizon_ns(wanted.bucket_id),
                max_rows=max_rows,
            )
            if filling is not None:
                whole = table
                table = await self.run(lambda: fill(whole, windows, filling, fill_value, max_rows=max_rows))
            return Windowed(groups, table)

        def read(stop: Cancellation) -> Windowed:
            groups = grouped(self._catalogue.select(wanted, stop), by)
            ids = [group.series_ids for group in groups]
            horizon_ns = self._horizons.horizon_ns(wanted.bucket_id)
            shown = windows
            if horizon_ns is not None:
                shown = replace(windows, start_ns=max(windows.start_ns, horizon_ns))
            table = self._store.windows(ids, aggregates, shown, max_rows=max_rows, stop=stop)
            if filling is not None:
                table = fill(table, windows, filling, fill_value, max_rows=max_rows)
            return Windowed(groups, table)

        return await self.readers.run(read)

    async def side_by_side(
        self,
        wanted: SeriesFilter,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
    ) -> SideBySide:
        """The points of the chosen series as columns of one table; with `newest`, that many latest rows. For a few
        series: raises TooLarge for more than 1,000."""

        def read(stop: Cancellation) -> SideBySide:
            series = self._catalogue.select(wanted, stop)
            if len(series) > MAX_SERIES_SIDE_BY_SIDE:
                raise TooLarge(
                    f"these are {len(series)} series, and at most {MAX_SERIES_SIDE_BY_SIDE} can be shown beside each "
                    "other: choose fewer"
                )
            first_ns = self._horizons.start_ns(wanted.bucket_id, start_ns)
            return SideBySide(series, self._rows([one.id for one in series], first_ns, end_ns, newest, stop))

        return await self.readers.run(read)

    async def latest(self, wanted: SeriesFilter) -> list[LatestPoint]:
        """The newest point of each chosen series that has any, in the order of `Catalogue.select`."""

        def read(stop: Cancellation) -> list[LatestPoint]:
            series = self._catalogue.select(wanted, stop)
            if len(series) > self._limits.max_rows:
                raise self._too_many_rows()
            horizon_ns = self._horizons.horizon_ns(wanted.bucket_id)
            found = latest_points(self._store, series, stop)
            return found if horizon_ns is None else [point for point in found if point.at_ns >= horizon_ns]

        return await self.readers.run(read)

    @asynccontextmanager
    async def records(
        self,
        wanted: SeriesFilter,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        max_rows: int | None = None,
    ) -> AsyncIterator[Records]:
        """The records of the chosen series, one row for each time in each series key.

        A batch is read when it is asked for, so a slow consumer slows reading down and needs no memory; leaving the
        block ends the query. `max_rows` takes the place of the setting, for answers that are written as they come.
        """
        most_rows = self._limits.max_rows if max_rows is None else max_rows
        keys, columns, ids = await self.readers.run(lambda stop: _layout(self._catalogue.select(wanted, stop)))

        first_ns = self._horizons.start_ns(wanted.bucket_id, start_ns)
        names = ["key", "at_ns", *map(str, range(len(columns)))]

        def batches(stop: Cancellation) -> Generator[pa.RecordBatch, None, None]:
            rows = 0
            for batch in self._store.records(ids, start_ns=first_ns, end_ns=end_ns, stop=stop):
                rows += batch.num_rows
                if rows > most_rows:
                    raise self._too_many_rows(most_rows)
                yield batch.select(names)

        async with self.readers.stream(batches) as stream:
            yield Records(keys, columns, stream)

    # -- by key ------------------------------------------------------------------------------------------------------

    @overload
    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        oldest: int | None = None,
    ) -> Rows: ...

    @overload
    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        convert: Callable[[Rows], T],
    ) -> T: ...

    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        convert: Callable[[Rows], Any] = lambda rows: rows,
    ) -> Any:
        """Values of several fields of one series key, one row for each time at which any of them has a value.

        `start_ns` inclusive, `end_ns` exclusive; `newest` keeps only that many latest rows, `oldest` that many earliest
        ones; `convert` makes the answer of them, in the reader's thread: thousands of rows would hold up the event
        loop.
        """
        ids = {column: self._catalogue.find(key, *column) for column in columns}
        known = {column: series_id for column, series_id in ids.items() if series_id is not None}
        if not known or newest == 0 or oldest == 0:
            return convert(Rows([], {column: [] for column in columns}))
        start_ns = self._horizons.start_ns(key.bucket_id, start_ns)

        def read(stop: Cancellation) -> Any:
            table = self._rows(list(known.values()), start_ns, end_ns, newest, stop, oldest)
            missing: list[Value | None] = [None] * table.num_rows
            values = {
                column: missing if series_id is None else table.column(str(series_id)).to_pylist()
                for column, series_id in ids.items()
            }
            return convert(Rows(table.column("at_ns").to_pylist(), values))

        return await self.readers.run(read)

    async def run(self, work: Callable[[], T]) -> T:
        """Do other long work on what was read, off the event loop: rendering a big answer."""
        return await self.readers.run(lambda _: work())

    # -- for writes --------------------------------------------------------------------------------------------------

    def series_of(self, bucket_id: int) -> list[Series]:
        """Every series of a bucket. May be called from any thread: a million take a second."""
        return list(self._catalogue.of_bucket(bucket_id))

    async def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The latest time of each given series that has points. Raises StorageError."""
        return await self._look_up(lambda: self._store.newest_times(series_ids))

    async def times(self, key: SeriesKey, column: Column, at_ns: Collection[int]) -> set[int]:
        """Those of the given times at which a field has a value. Raises StorageError."""
        series_id = self._catalogue.find(key, *column)
        return set() if series_id is None else await self._look_up(lambda: self._store.times(series_id, at_ns))

    async def times_of(self, key: SeriesKey, column: Column, least: int, most: int, newest: int) -> list[int]:
        """When an integer field had a value from `least` to `most`: ascending, the latest so many, without those that
        have expired. Raises StorageError."""
        series_id = self._catalogue.find(key, *column)
        if series_id is None:
            return []
        start_ns = self._horizons.start_ns(key.bucket_id, None)
        found = await self.readers.run(lambda _: self._store.times_of(series_id, least, most, newest))
        return found if start_ns is None else [at_ns for at_ns in found if at_ns >= start_ns]

    async def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The greatest value of each given integer series that has points. Raises StorageError."""
        return await self._look_up(lambda: self._store.maxima(series_ids))

    async def _look_up(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._lookups, read)

    # -- all ---------------------------------------------------------------------------------------------------------

    def _rows(
        self,
        series_ids: Sequence[int],
        start_ns: int | None,
        end_ns: int | None,
        newest: int | None,
        stop: Cancellation,
        oldest: int | None = None,
    ) -> pa.Table:
        """Rows of the store, of which it never makes more than one too many."""
        most_rows = self._limits.max_rows + 1
        if oldest is not None:
            oldest = min(oldest, most_rows)
        else:
            newest = most_rows if newest is None else min(newest, most_rows)
        found = self._store.rows(series_ids, start_ns=start_ns, end_ns=end_ns, newest=newest, oldest=oldest, stop=stop)
        if found.num_rows == most_rows:
            raise self._too_many_rows()
        return found

    def _too_many_rows(self, max_rows: int | None = None) -> TooLarge:
        return TooLarge(
            f"the answer would have more than {max_rows or self._limits.max_rows} rows (query.max_rows): ask for a "
            "shorter time, or for fewer series"
        )

    def close(self) -> None:
        """Break off running reads."""
        self.readers.close()
        self._lookups.shutdown(wait=True)


def _layout(series: Sequence[Series]) -> tuple[list[SeriesKey], list[RecordColumn], list[dict[str, int]]]:
    """How series are put into records: the keys, the columns, and what `Store.records` is asked for."""
    columns = sorted({RecordColumn(one.field, one.type) for one in series})
    name_of = {column: str(number) for number, column in enumerate(columns)}
    ids_of: dict[SeriesKey, dict[str, int]] = {}
    for one in series:
        ids_of.setdefault(one.key, {})[name_of[RecordColumn(one.field, one.type)]] = one.id
    keys = sorted(ids_of)
    return keys, columns, [ids_of[key] for key in keys]
