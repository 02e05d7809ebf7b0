"""The DuckDB store: what `Store` asks for, in transactions. SQL of queries is in `reading`, opening of files in
`files`, moving of points into sorted runs in `upkeep`.

Durability: DuckDB writes a transaction to its write-ahead log with one write and one fdatasync before the commit
returns. When the log passes its limit, the committing call also moves it into the database file and waits for that,
about 3 ms for each MB; nothing that was measured (a checkpoint from another thread included) lets commits run
meanwhile, so the limit is kept small enough that a stall is short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import StorageError, TooLarge
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import MAX_WINDOW_ROWS, Batch
from headwater.store.aggregates import Aggregate, answer_schema, checked, common_type, too_many_rows
from headwater.store.cancellation import Cancellation
from headwater.store.duck.answers import empty_rows, read_oldest_rows, read_rows, read_windows, side_by_side
from headwater.store.duck.errors import engine_errors
from headwater.store.duck.files import open_database
from headwater.store.duck.incoming import SERIES_SCHEMA, Incoming, points_schema, points_table, series_table
from headwater.store.duck.reading import (
    Selection,
    maxima_sql,
    newest_times_sql,
    one_of,
    times_of_sql,
    times_sql,
)
from headwater.store.duck.recent import Recent
from headwater.store.duck.recording import PORTION_POINTS, Recording
from headwater.store.duck.schema import SQL_TYPES
from headwater.store.duck.snapshot import take_snapshot
from headwater.store.duck.tables import Tables, Wanted
from headwater.store.duck.upkeep import DELETIONS_WAIT_S, HOT_ROWS, Upkeep, prepare_append
from headwater.store.windows import Windows

WAL_LIMIT_MB = 8
"""About 340,000 points, and 20 ms for the commit that passes it (16: 35 ms; 64: 110 ms; 4: still 20 ms, more often)."""

T = TypeVar("T")

_CATALOGUE_ROWS = 10_000
"""How many series are turned into Python objects at a time."""
_REVIVE_EVERY_S = 2.0


def open_duck_store(
    directory: Path,
    *,
    memory_limit_mb: int = 1024,
    max_spill_mb: int = 4096,
    threads: int = 2,
    wal_limit_mb: int = WAL_LIMIT_MB,
    hot_rows: int = HOT_ROWS,
    deletions_wait_s: float = DELETIONS_WAIT_S,
    now_s: Callable[[], float] = time.monotonic,
    min_free_mb: int = 0,
    portion_points: int = PORTION_POINTS,
) -> DuckStore:
    """Open the store in a directory of its own, which is made (for this user alone) if there is none.

    Args: `memory_limit_mb`, above which queries use files in the directory, up to `max_spill_mb`; `threads` that one
    query may use; `wal_limit_mb`: size of the log at which a commit also moves it into the database file;
    `min_free_mb`: see `Tables`; `portion_points`: how many points `records` reads at once; the others: see `Upkeep`.

    Raises `ConfigurationError` when the directory is in use by another process, holds something else or a newer
    format, and `StorageError` when its file is damaged.
    """
    settings = {
        "memory_limit": f"{memory_limit_mb}MiB",
        "max_temp_directory_size": f"{max_spill_mb}MiB",
        "threads": str(threads),
        "checkpoint_threshold": f"{wal_limit_mb}MiB",
    }
    with engine_errors("read where its points are"):
        tables = Tables(lambda: open_database(directory, settings), directory, min_free_mb * 2**20)
    try:
        return DuckStore(tables, Upkeep(tables, hot_rows, deletions_wait_s, now_s), now_s, portion_points)
    except BaseException:
        tables.close()
        raise


class DuckStore:
    """A `Store` in a DuckDB database. Made by `open_duck_store`."""

    def __init__(
        self,
        tables: Tables,
        upkeep: Upkeep,
        now_s: Callable[[], float],
        portion_points: int,
    ) -> None:
        self._tables = tables
        self._upkeep = upkeep
        self._now_s = now_s
        self._portion_points = portion_points
        self._reviving = threading.Lock()
        self._revive_at_s: float | None = None
        """When to open the files anew, after the engine has given up."""
        self._types: dict[int, ValueType] = {}
        self._recent = Recent(tables.last_times())
        self._incoming = {value_type: Incoming(points_schema(value_type)) for value_type in SQL_TYPES}
        self._incoming_series = Incoming(SERIES_SCHEMA)
        self._copying = threading.Lock()
        with self._engine("read its catalogue"):
            self._prepare_appends(tables.connection)
            found = tables.connection.execute("SELECT id, type FROM series").fetchall()
        self._types.update((series_id, ValueType(number)) for series_id, number in found)

    def append(self, batch: Batch) -> None:
        filled = {value_type: columns for value_type, columns in batch.columns.items() if len(columns)}
        statements = [f"EXECUTE append_{value_type.name.lower()}" for value_type in filled]
        if batch.new_series:
            statements.append("EXECUTE append_series")
        tables = self._tables
        with self._engine("append points"), tables.writing:
            tables.check_open()
            if not statements:
                return
            tables.check_room()
            points_of = {value_type: points_table(value_type, columns) for value_type, columns in filled.items()}
            with self._changing():
                self._write(batch.new_series, points_of, statements)
                self._recent.append(points_of)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Within the block what is on disk is changed, and what is kept beside. When it raises, nobody knows how far
        that got."""
        try:
            yield
        except BaseException:
            self._recent.begin(self._tables.last_times())
            raise

    def _write(
        self, new_series: Sequence[Series], points_of: Mapping[ValueType, pa.Table], statements: Sequence[str]
    ) -> None:
        """Commit a batch; when this raises, nothing of it is known."""
        tables = self._tables
        new_types = self._types_of_new(new_series)
        try:
            for value_type, points in points_of.items():
                self._incoming[value_type].put(points)
                # Before the commit, like the types: a reader must not find a point where it was told there is none.
                span = pc.min_max(points.column("at_ns"))
                tables.layouts[value_type].active.reach(len(points), span["min"].as_py(), span["max"].as_py())
            if new_series:
                self._incoming_series.put(series_table(new_series))
            self._types.update(new_types)
            tables.write(*statements)
        except BaseException:
            for series_id in new_types:
                self._types.pop(series_id, None)
            raise
        finally:
            for incoming in self._incoming.values():
                incoming.clear()
            self._incoming_series.clear()

    def catalogue(self) -> Iterator[Series]:
        with self._engine("read its catalogue"), self._tables.cursor() as cursor:
            cursor.execute("SELECT id, bucket_id, measurement, tags, field, type FROM series ORDER BY id")
            while rows := cursor.fetchmany(_CATALOGUE_ROWS):
                for series_id, bucket_id, measurement, tags, field, number in rows:
                    key = SeriesKey(bucket_id, measurement, tuple(tags.items()))
                    yield Series(series_id, key, field, ValueType(number))

    def rows(
        self,
        series_ids: Sequence[int],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        stop: Cancellation | None = None,
    ) -> pa.Table:
        self._tables.check_open()
        wanted = list(dict.fromkeys(series_ids))
        types = self._types_of(wanted)
        if not types or newest == 0 or oldest == 0:
            found = empty_rows(types)
        else:
            if stop is not None:
                stop.check()
            found = self._rows(types, start_ns, end_ns, newest, oldest, stop)
        columns = {"at_ns": found.column("at_ns")}
        for series_id in wanted:
            name = str(series_id)
            columns[name] = found.column(name) if series_id in types else pa.nulls(found.num_rows)
        return pa.table(columns)

    def _rows(
        self,
        types: Mapping[int, ValueType],
        start_ns: int | None,
        end_ns: int | None,
        newest: int | None,
        oldest: int | None,
        stop: Cancellation | None,
    ) -> pa.Table:
        """The rows of series with these types, of which there are some."""
        points = self._recent.find(types, start_ns, end_ns, newest)
        if points is not None:
            return side_by_side(points, types, newest, oldest)

        def read(cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]) -> pa.Table:
            if oldest is not None:
                return read_oldest_rows(cursor, wanted, oldest, len(self._types))
            return read_rows(cursor, wanted, newest, len(self._types))

        return self._read("read points", Wanted(types, start_ns, end_ns), read, stop)

    def records(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        self._tables.check_open()
        types = self._types_of(dict.fromkeys(series_id for key in keys for series_id in key.values()))
        read = partial(self._read, "read points", stop=stop)
        yield from Recording(keys, types, read, self._portion_points).batches(start_ns, end_ns)

    def scan(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        self._tables.check_open()
        types = self._types_of(dict.fromkeys(series_id for key in keys for series_id in key.values()))
        recording = Recording(keys, types, partial(self._read, "read points"), self._portion_points)
        if not types:
            return

        def begin(
            cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]
        ) -> tuple[duckdb.DuckDBPyConnection, pa.RecordBatchReader, list[str]]:
            with interrupting(cursor, stop):
                return cursor, *recording.begin(cursor, wanted)

        reading = self._tables.reading(Wanted(types, start_ns, end_ns), begin)
        with self._querying("read points"), reading as (cursor, reader, names):
            try:
                while True:
                    with interrupting(cursor, stop):
                        batch = next(reader, None)
                    if batch is None:
                        return
                    yield batch.rename_columns(names)
            finally:
                cursor.interrupt()  # else letting go of the reader waits for what is under way

    def windows(
        self,
        groups: Sequence[Sequence[int]],
        aggregates: Sequence[Aggregate],
        windows: Windows,
        *,
        max_rows: int = MAX_WINDOW_ROWS,
        stop: Cancellation | None = None,
    ) -> pa.Table:
        self._tables.check_open()
        aggregates = list(dict.fromkeys(aggregates))
        types = self._types_of(dict.fromkeys(series_id for ids in groups for series_id in ids))
        value_type = common_type(types.values(), aggregates)
        known = [[series_id for series_id in ids if series_id in types] for ids in groups]

        def read(cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]) -> pa.Table:
            return read_windows(cursor, wanted, known, value_type, aggregates, windows, max_rows + 1)

        if types:
            found = self._read("aggregate points", Wanted(types, windows.start_ns, windows.end_ns), read, stop)
        else:
            found = answer_schema(value_type, aggregates).empty_table()
        if found.num_rows > max_rows:
            raise too_many_rows(max_rows)
        return checked(found, value_type, aggregates)

    def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        types = self._types_of(series_ids)
        integers = {i: t for i, t in types.items() if t in (ValueType.INTEGER, ValueType.UNSIGNED)}
        return self._aggregated(integers, maxima_sql)

    def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        return self._aggregated(self._types_of(series_ids), newest_times_sql)

    def _aggregated(self, types: Mapping[int, ValueType], sql_of: Callable[[Selection], str]) -> Mapping[int, int]:
        """One number for each series that has points."""

        def read(cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]) -> dict[int, int]:
            found: dict[int, int] = {}
            for one in wanted:
                found.update(cursor.execute(sql_of(one)).fetchall())
            return found

        self._tables.check_open()
        return self._read("read points", Wanted(types), read)

    def times(self, series_id: int, at_ns: Collection[int]) -> set[int]:
        self._tables.check_open()
        types = self._types_of([series_id])
        if not types or not at_ns:
            return set()

        def read(cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]) -> set[int]:
            (one,) = wanted
            return {row[0] for row in cursor.execute(times_sql(one, set(at_ns))).fetchall()}

        return self._read("read points", Wanted(types, min(at_ns), max(at_ns) + 1), read)

    def times_of(self, series_id: int, least: int, most: int, newest: int) -> list[int]:
        self._tables.check_open()
        types = self._types_of([series_id])
        if not types or not newest:
            return []

        def read(cursor: duckdb.DuckDBPyConnection, wanted: list[Selection]) -> list[int]:
            (one,) = wanted
            return [at_ns for (at_ns,) in cursor.execute(times_of_sql(one, least, most, newest)).fetchall()][::-1]

        return self._read("read points", Wanted(types), read)

    def delete(self, series_ids: Sequence[int], *, start_ns: int | None = None, end_ns: int | None = None) -> None:
        tables = self._tables
        with self._engine("delete points"), tables.writing:
            tables.check_open()
            types = self._types_of(series_ids)
            if not types:
                return
            statements: list[str] = []
            for one in tables.select(types, start_ns, end_ns):
                statements += self._upkeep.delete_statements(one)
            is_whole = start_ns is None and end_ns is None
            if is_whole:
                statements.append(f"DELETE FROM series WHERE {one_of('id', types)}")  # noqa: S608 - integers only
            with self._changing():
                tables.write(*statements)
                self._recent.delete(types, start_ns, end_ns)
            if is_whole:
                for series_id in types:
                    del self._types[series_id]

    def maintain(self) -> bool:
        with self._engine("put its files in order"):
            has_sorted = self._sort_recent()
            return self._upkeep.step() or has_sorted

    def _sort_recent(self) -> bool:
        """Bring some of what arrived last into the order of series; False when that is not wanted."""
        found = self._recent.unsorted()
        if found is None:
            return False
        value_type, chunk = found
        in_order = chunk.sorted()
        with self._tables.writing:
            self._recent.replace(value_type, chunk, in_order)
        return True

    def backlog(self) -> int:
        return self._upkeep.backlog()

    def interrupt_maintenance(self) -> None:
        self._upkeep.interrupt()

    def snapshot(self) -> Mapping[str, BinaryIO]:
        with self._copying, self._engine("copy its files"):
            return take_snapshot(self._tables)

    def close(self) -> None:
        with engine_errors("close its files"):
            self._tables.close()

    def _read(
        self,
        doing: str,
        wanted: Wanted,
        work: Callable[[duckdb.DuckDBPyConnection, list[Selection]], T],
        stop: Cancellation | None = None,
    ) -> T:
        """Do reading work with a view of all tables at one moment; see `Tables.read`."""

        def interruptible(cursor: duckdb.DuckDBPyConnection, selections: list[Selection]) -> T:
            with interrupting(cursor, stop):
                return work(cursor, selections)

        with self._querying(doing):
            return self._tables.read(wanted, interruptible)

    @contextmanager
    def _querying(self, doing: str) -> Iterator[None]:
        """Raise as `_engine` does, and TooLarge for a query that takes more memory than there is."""
        try:
            with self._engine(doing):
                yield
        except StorageError as error:
            if isinstance(error.__cause__, duckdb.OutOfMemoryException):
                raise TooLarge(
                    "This needs more memory than the telemetry store may use for all queries together "
                    "(store.memory_limit_mb and store.max_spill_mb): ask for less at a time."
                ) from error
            raise

    @contextmanager
    def _engine(self, doing: str) -> Iterator[None]:
        """Raise `StorageError` for the engine's errors. If it gave up (it does when it cannot move its log into its
        file), open the files anew first: what was committed is in them."""
        if self._revive_at_s is not None:
            self._revive()
        try:
            with engine_errors(doing):
                yield
        except StorageError as error:
            if isinstance(error.__cause__, duckdb.FatalException) and self._revive_at_s is None:
                self._revive_at_s = self._now_s() + _REVIVE_EVERY_S
            raise

    def _revive(self) -> None:
        with self._reviving:
            if self._revive_at_s is None:  # somebody else has done it meanwhile
                return
            if self._now_s() < self._revive_at_s:
                raise StorageError("The telemetry store has stopped, and will be opened again in a few seconds.")
            self._revive_at_s = self._now_s() + _REVIVE_EVERY_S
            # No step of upkeep may be half done: its new file would be taken for a leftover.
            with self._upkeep.working, self._tables.writing, engine_errors("open its files again"):
                self._tables.check_open()
                self._tables.check_room()
                self._tables.revive()
                self._recent.begin(self._tables.last_times())
                self._prepare_appends(self._tables.connection)
            self._revive_at_s = None

    def _prepare_appends(self, connection: duckdb.DuckDBPyConnection) -> None:
        for value_type, incoming in self._incoming.items():
            connection.register(f"incoming_{value_type.name.lower()}", incoming)
            connection.execute(prepare_append(self._tables.layouts[value_type].active))
        connection.register("incoming_series", self._incoming_series)
        connection.execute(
            "PREPARE append_series AS INSERT INTO series "
            "SELECT id, bucket_id, measurement, tags, field, type FROM incoming_series"
        )

    def _types_of(self, series_ids: Iterable[int]) -> dict[int, ValueType]:
        """The types of those series that exist, in the given order."""
        found = ((series_id, self._types.get(series_id)) for series_id in series_ids)  # a writer may delete meanwhile
        return {series_id: value_type for series_id, value_type in found if value_type is not None}

    def _types_of_new(self, series: Sequence[Series]) -> dict[int, ValueType]:
        new_types = {one.id: one.type for one in series}
        if len(new_types) != len(series) or not new_types.keys().isdisjoint(self._types):
            raise StorageError("The telemetry store was given a new series with the number of another.")
        return new_types


@contextmanager
def interrupting(cursor: duckdb.DuckDBPyConnection, stop: Cancellation | None) -> Iterator[None]:
    """Let a query of this cursor be broken off."""
    if stop is None:
        yield
        return
    with stop.interrupting(cursor.interrupt):
        yield
