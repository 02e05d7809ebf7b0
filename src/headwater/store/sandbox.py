"""Runs queries that people wrote, in a DuckDB of their own: in memory, with a memory limit that nobody shares, without
files, network or settings, and with nothing in it but the streams of points that a query was given.

So what a query can reach does not hang on the check of its text alone, and a query that takes all the memory there is
takes none from what is stored meanwhile. DuckDB reads the streams as it goes; nothing is copied into tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from headwater.errors import BadRequest, HeadwaterError, TooLarge
from headwater.store.cancellation import Cancellation
from headwater.store.duck.files import SAFE_SETTINGS

ROWS_AT_ONCE = 10_000
SCHEMA = "scan"
EARLIEST_NS, LATEST_NS = -(2**63) + 2, 2**63 - 2
"""Of what a query sees: what the engine has beyond stands for the infinite, and most functions fail on it."""
_CONFINED: Mapping[str, str] = {
    **SAFE_SETTINGS,
    "temp_directory": "",  # what does not fit into memory is refused: no query fills the disk
}
_MAX_ERROR_CHARS = 300


@dataclass(slots=True)
class Source:
    """What stands behind one table of a query."""

    schema: pa.Schema
    """Of the batches: `key` and `at_ns` (int64), then columns of values."""
    open: Callable[[], Iterator[pa.RecordBatch]]
    """Begins the stream; it may be asked for more than once. Columns of the schema that a batch lacks are null."""
    fields: Mapping[str, Sequence[str]]
    """Which columns of values a field has; numbers of several types become floats."""
    tags: pa.Table | None = None
    """A row for each key: `key` (int64), then a column for each tag. None: there are no tags."""
    errors: list[HeadwaterError] = field(default_factory=list)
    """What broke a stream off."""

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.open():
                columns = [
                    batch.column(one.name) if one.name in batch.schema.names else pa.nulls(batch.num_rows, one.type)
                    for one in self.schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
        except HeadwaterError as error:
            self.errors.append(error)  # through the engine, only its text would come
            raise


class Sandbox:
    """One query's engine. Made by `open_sandbox`; used by one thread at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory_mb: int) -> None:
        self._connection = connection
        self._memory_mb = memory_mb
        self._sources: list[Source] = []

    def time_ns(self, expression: str) -> int | None:
        """The time that a constant expression stands for; None when it is none."""
        with suppress(duckdb.Error):
            found = self._connection.sql(f"SELECT epoch_ns(CAST(({expression}) AS TIMESTAMP_NS))").fetchall()
            if isinstance(found[0][0], int):
                return found[0][0]
        return None

    def add(self, source: Source) -> None:
        """The next table: `scan."0"`, `scan."1"`, and so on."""
        number = len(self._sources)
        self._connection.register(f"points_{number:d}", source)
        columns = ['make_timestamp_ns(at_ns) AS "time"']
        joined = ""
        if source.tags is not None:
            self._connection.register(f"tags_{number:d}", source.tags)
            columns += [f"tags.{_quoted(name)}" for name in source.tags.column_names[1:]]
            joined = f"JOIN tags_{number:d} AS tags USING (key)"
        for name, of_types in source.fields.items():
            if len(of_types) == 1:
                columns.append(f"points.{_quoted(of_types[0])} AS {_quoted(name)}")
            else:
                values = ", ".join(f"points.{_quoted(one)}::DOUBLE" for one in of_types)
                columns.append(f"coalesce({values}) AS {_quoted(name)}")
        self._connection.execute(
            f'CREATE VIEW {SCHEMA}."{number:d}" AS SELECT {", ".join(columns)} '  # noqa: S608 - quoted names
            f"FROM points_{number:d} AS points {joined} WHERE at_ns BETWEEN {EARLIEST_NS:d} AND {LATEST_NS:d}"
        )
        self._sources.append(source)

    def batches(self, sql: str, *, max_rows: int, stop: Cancellation) -> Iterator[pa.RecordBatch]:
        """The answer, bit by bit; at least one batch, which tells the columns.

        Raises BadRequest with the engine's words, TooLarge above a limit, and what a source raises.
        """
        with self._errors_explained():
            with stop.interrupting(self._connection.interrupt):
                statements = self._connection.extract_statements(sql)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise BadRequest("only one query can be run at a time")
                reader = self._connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE)
            try:
                yield pa.RecordBatch.from_pylist([], reader.schema)
                rows = 0
                while (batch := _next_of(reader, self._connection, stop)) is not None:
                    rows += batch.num_rows
                    if rows > max_rows:
                        raise TooLarge(
                            f"the answer has more than {max_rows} rows: ask for less, add LIMIT, or bring rows "
                            "together with GROUP BY"
                        )
                    yield batch
            finally:
                self._connection.interrupt()  # else letting go of the reader waits for what is under way

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise TooLarge(
                f"the query needs more than {self._memory_mb} MB of memory: ask for a shorter time, fewer columns or "
                "fewer groups"
            ) from error
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            for source in self._sources:
                for raised in source.errors:
                    raise raised from error
            if "Out of Memory" in str(error):
                raise TooLarge(f"the query needs more than {self._memory_mb} MB of memory: ask for less") from error
            raise BadRequest(f"the query cannot be run: {_words_of(error)}") from error


@contextmanager
def open_sandbox(*, memory_mb: int, threads: int) -> Iterator[Sandbox]:
    """An engine for one query, which is gone with all that it holds at the end of the block."""
    settings = {**_CONFINED, "memory_limit": f"{memory_mb:d}MiB", "threads": f"{threads:d}"}
    connection = duckdb.connect(":memory:", config=dict(settings))
    try:
        connection.execute(
            f"CREATE SCHEMA {SCHEMA}; SET TimeZone = 'UTC'; SET enable_progress_bar = false; "
            "SET enable_external_access = false; SET lock_configuration = true"
        )
        yield Sandbox(connection, memory_mb)
    finally:
        connection.close()


def _next_of(
    reader: pa.RecordBatchReader, connection: duckdb.DuckDBPyConnection, stop: Cancellation
) -> pa.RecordBatch | None:
    with stop.interrupting(connection.interrupt):
        return next(reader, None)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _words_of(error: Exception) -> str:
    lines = str(error).splitlines()
    words = lines[0].rstrip("!") if lines else ""
    near = [line.partition(":")[2].strip(" :") for line in lines if line.startswith("Candidate bindings:")]
    return f"{words}; perhaps {near[0]}"[:_MAX_ERROR_CHARS] if near else words[:_MAX_ERROR_CHARS]
