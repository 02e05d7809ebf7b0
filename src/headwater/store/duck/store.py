"""The DuckDB store: transactions and threads. SQL of queries is in `reading`, opening of files in `files`.

Durability: DuckDB writes a transaction to its write-ahead log with one write and one fdatasync before the commit
returns. When the log passes its limit, the committing call also moves it into the database file and waits for that,
about 3 ms for each MB; nothing that was measured (a checkpoint from another thread included) lets commits run
meanwhile, so the limit is kept small enough that a stall is short.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import ARROW_TYPES, Batch
from headwater.store.duck.errors import engine_errors
from headwater.store.duck.files import open_database
from headwater.store.duck.incoming import SERIES_SCHEMA, Incoming, points_schema, points_table, series_table
from headwater.store.duck.reading import (
    in_list,
    maxima_sql,
    newest_times_sql,
    read_rows,
    span_condition,
    times_sql,
)
from headwater.store.duck.schema import SQL_TYPES, hot_table

WAL_LIMIT_MB = 8
"""About 340,000 points, and 20 ms for the commit that passes it (16: 35 ms; 64: 110 ms; 4: still 20 ms, more often)."""

_CATALOGUE_ROWS = 10_000
"""How many series are turned into Python objects at a time."""


def open_duck_store(
    directory: Path,
    *,
    memory_limit_mb: int = 1024,
    threads: int = 2,
    wal_limit_mb: int = WAL_LIMIT_MB,
) -> DuckStore:
    """Open the store in a directory of its own, which is made (for this user alone) if there is none.

    Args: `memory_limit_mb`, above which queries use files in the directory; `threads` that one query may use;
    `wal_limit_mb`: size of the log at which a commit also moves it into the database file.
    Raises `ConfigurationError` when the directory is in use by another process, holds something else or a newer
    format, and `StorageError` when its file is damaged.
    """
    settings = {
        "memory_limit": f"{memory_limit_mb}MiB",
        "threads": str(threads),
        "checkpoint_threshold": f"{wal_limit_mb}MiB",
    }
    connection = open_database(directory, settings)
    try:
        return DuckStore(connection)
    except BaseException:
        connection.close()
        raise


class DuckStore:
    """A `Store` in a DuckDB database. Made by `open_duck_store`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._writing = threading.Lock()
        self._is_closed = False
        self._types: dict[int, ValueType] = {}
        self._incoming = {value_type: Incoming(points_schema(value_type)) for value_type in SQL_TYPES}
        self._incoming_series = Incoming(SERIES_SCHEMA)
        with engine_errors("read its catalogue"):
            self._prepare_appends()
            found = connection.execute("SELECT id, type FROM series").fetchall()
        self._types.update((series_id, ValueType(number)) for series_id, number in found)

    def append(self, batch: Batch) -> None:
        filled = {value_type: columns for value_type, columns in batch.columns.items() if len(columns)}
        statements = [f"EXECUTE append_{hot_table(value_type)}" for value_type in filled]
        if batch.new_series:
            statements.append("EXECUTE append_series")
        with self._writing, engine_errors("append points"):
            self._check_open()
            if not statements:
                return
            # Several statements go in one call: each call hands the interpreter's lock back and forth.
            sql = statements[0] if len(statements) == 1 else "; ".join(["BEGIN", *statements, "COMMIT"])
            new_types = self._types_of_new(batch.new_series)
            try:
                for value_type, columns in filled.items():
                    self._incoming[value_type].put(points_table(value_type, columns))
                if batch.new_series:
                    self._incoming_series.put(series_table(batch.new_series))
                # Before the commit: a read that sees the points must know the types of all of them.
                self._types.update(new_types)
                self._write(sql)
            except BaseException:
                for series_id in new_types:
                    self._types.pop(series_id, None)
                raise
            finally:
                for incoming in self._incoming.values():
                    incoming.clear()
                self._incoming_series.clear()

    def catalogue(self) -> Iterator[Series]:
        with engine_errors("read its catalogue"), self._cursor() as cursor:
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
    ) -> pa.Table:
        wanted = list(dict.fromkeys(series_ids))
        types = self._types_of(wanted)
        with engine_errors("read points"), self._cursor() as cursor:
            if types and newest != 0:
                found = read_rows(
                    lambda sql: cursor.sql(sql).to_arrow_table(), types, span_condition(start_ns, end_ns), newest
                )
            else:
                found = _empty_rows(types)
        columns = {"at_ns": found.column("at_ns")}
        for series_id in wanted:
            name = str(series_id)
            columns[name] = found.column(name) if series_id in types else pa.nulls(found.num_rows)
        return pa.table(columns)

    def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        types = self._types_of(series_ids)
        maxima: dict[int, int] = {}
        with engine_errors("read points"), self._cursor() as cursor:
            for value_type in (ValueType.INTEGER, ValueType.UNSIGNED):
                ids = [series_id for series_id, its_type in types.items() if its_type is value_type]
                if ids:
                    maxima.update(cursor.execute(maxima_sql(ids, value_type)).fetchall())
        return maxima

    def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        newest: dict[int, int] = {}
        ids_of: dict[ValueType, list[int]] = {}
        for series_id, value_type in self._types_of(series_ids).items():
            ids_of.setdefault(value_type, []).append(series_id)
        with engine_errors("read points"), self._cursor() as cursor:
            for value_type, ids in ids_of.items():
                newest.update(cursor.execute(newest_times_sql(ids, value_type)).fetchall())
        return newest

    def times(self, series_id: int, at_ns: Collection[int]) -> set[int]:
        value_type = self._types.get(series_id)
        with engine_errors("read points"), self._cursor() as cursor:
            if value_type is None or not at_ns:
                return set()
            return {row[0] for row in cursor.execute(times_sql(series_id, value_type, at_ns)).fetchall()}

    def delete(self, series_ids: Sequence[int], *, start_ns: int | None = None, end_ns: int | None = None) -> None:
        with self._writing, engine_errors("delete points"):
            self._check_open()
            types = self._types_of(series_ids)
            if not types:
                return
            condition = f"series_id IN {in_list(types)}{span_condition(start_ns, end_ns)}"
            statements = [
                f"DELETE FROM {hot_table(value_type)} WHERE {condition}"  # noqa: S608 - integers only
                for value_type in sorted(set(types.values()))
            ]
            if start_ns is None and end_ns is None:
                statements.append(f"DELETE FROM series WHERE id IN {in_list(types)}")  # noqa: S608
            self._write("; ".join(["BEGIN", *statements, "COMMIT"]))
            if start_ns is None and end_ns is None:
                for series_id in types:
                    del self._types[series_id]

    def close(self) -> None:
        with self._writing, engine_errors("close its files"):
            self._is_closed = True
            self._connection.close()

    def _prepare_appends(self) -> None:
        for value_type, sql_type in SQL_TYPES.items():
            table = hot_table(value_type)
            self._connection.register(f"incoming_{table}", self._incoming[value_type])
            self._connection.execute(
                f"PREPARE append_{table} AS INSERT INTO {table} "  # noqa: S608 - constants
                f"SELECT series_id, at_ns, value::{sql_type} FROM incoming_{table}"
            )
        self._connection.register("incoming_series", self._incoming_series)
        self._connection.execute(
            "PREPARE append_series AS INSERT INTO series "
            "SELECT id, bucket_id, measurement, tags, field, type FROM incoming_series"
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageError("The telemetry store is closed.")

    def _cursor(self) -> closing[duckdb.DuckDBPyConnection]:
        """A connection of a reader's own, to be used in a `with` statement."""
        self._check_open()
        return closing(self._connection.cursor())

    def _write(self, sql: str) -> None:
        """Run one transaction; if it fails, nothing of it stays and the connection is ready for the next."""
        try:
            self._connection.execute(sql)
        except BaseException:  # whatever it was, no transaction may stay open: the next batch would end up in it
            with suppress(duckdb.Error):  # none is open where the failing statement was a transaction of its own
                self._connection.rollback()
            raise

    def _types_of(self, series_ids: Sequence[int]) -> dict[int, ValueType]:
        """The types of those series that exist, in the given order."""
        found = ((series_id, self._types.get(series_id)) for series_id in series_ids)  # a writer may delete meanwhile
        return {series_id: value_type for series_id, value_type in found if value_type is not None}

    def _types_of_new(self, series: Sequence[Series]) -> dict[int, ValueType]:
        new_types = {one.id: one.type for one in series}
        if len(new_types) != len(series) or not new_types.keys().isdisjoint(self._types):
            raise StorageError("The telemetry store was given a new series with the number of another.")
        return new_types


def _empty_rows(types: Mapping[int, ValueType]) -> pa.Table:
    fields = [(str(series_id), ARROW_TYPES[value_type]) for series_id, value_type in types.items()]
    return pa.schema([("at_ns", pa.int64()), *fields]).empty_table()
