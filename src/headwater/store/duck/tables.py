"""What the store's writers and readers share: the connection, where the points are, and the one lock of writers.

Reading takes no lock. A reader first fixes its view of the tables, then asks where the points are: it may learn of
more than its view has, never of less. Files never change, so that who reads nothing else needs no view. If a table or a
file is gone by the time it is read, its points are elsewhere now, and the reader begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb

from headwater.errors import StorageError
from headwater.files import free_bytes
from headwater.model.series import ValueType
from headwater.store.duck.files import DATABASE_NAME
from headwater.store.duck.layout import Hot, Layout, Run, ids_by_type
from headwater.store.duck.reading import Selection, selection
from headwater.store.duck.runs import attach_run, remove_leftovers, run_path
from headwater.store.duck.schema import SQL_TYPES, hot_table

T = TypeVar("T")

_FIX_VIEW = f"BEGIN; USE {Path(DATABASE_NAME).stem}"
"""A transaction sees a database as it was when it first had to do with it. (Less than a query of a table: 0.15 ms.)"""
_MAX_TRIES = 20
"""A query that begins anew so often is not unlucky: something is wrong."""


class Wanted(NamedTuple):
    """Which points a reader asks for: of series of these types, in [start, end)."""

    types: Mapping[int, ValueType]
    start_ns: int | None = None
    end_ns: int | None = None


class Tables:
    """The parts of one store. Whoever changes anything holds `writing`.

    `min_free_bytes`: how much room is left to others on the disk. It is also what DuckDB needs to move its log into its
    file: were that to fail, it would answer nothing more until it is opened anew.
    """

    def __init__(
        self,
        open_connection: Callable[[], duckdb.DuckDBPyConnection],
        directory: Path,
        min_free_bytes: int = 0,
        room_of: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._open_connection = open_connection
        self.directory = directory
        self._min_free_bytes = min_free_bytes
        self._room_of = room_of
        self.writing = threading.Lock()
        self.is_closed = False
        self.connection = open_connection()
        """For writers."""
        try:
            self._load()
        except BaseException:
            self.connection.close()
            raise

    def revive(self) -> None:
        """Open the files anew after the engine has given up. The caller holds `writing`."""
        with suppress(duckdb.Error):
            self.connection.close()
        self.connection = self._open_connection()
        self._load()

    def check_room(self, more_bytes: int = 0) -> None:
        """Raises StorageError when there is not enough room on the disk, for so much more."""
        if self._room_of(self.directory) < self._min_free_bytes + more_bytes:
            raise StorageError(
                f"The disk of {self.directory} is full but for {self._min_free_bytes // 2**20} MB (store.min_free_mb): "
                "free some room, and storing goes on by itself."
            )

    def _load(self) -> None:
        """Find out where the points are, and bring the files to what the tables say."""
        connection, directory = self.connection, self.directory
        runs = load_runs(connection)
        remove_leftovers(directory, {run.number for run in runs})
        for run in runs:
            self._attach(run)
        hots = self._load_hots()
        self.layouts = {
            value_type: Layout(
                tuple(run for run in runs if run.type is value_type),
                tuple(hot for hot in hots if hot.type is value_type),
            )
            for value_type in SQL_TYPES
        }
        """Where the points of each type are; see `Layout`."""
        self.last_run = max((run.number for run in runs), default=0)
        known, last = connection.execute("SELECT count(*), coalesce(max(number), 0) FROM deletions").fetchall()[0]
        self.has_deletions = known > 0
        """Whether some are waiting to be carried out in runs. May be true too long, never too short."""
        self.last_deletion: int = max([last, *(run.deletions_applied for run in runs)])

    def _attach(self, run: Run) -> None:
        """Raises StorageError for a file that is missing or damaged: without it, the store is not what it was."""
        path = run_path(self.directory, run.number)
        if not path.exists():
            raise StorageError(f"{path} is missing: restore it from a backup, or the whole directory.")
        try:
            attach_run(self.connection, self.directory, run.number, run.rows)
        except (duckdb.Error, StorageError) as error:
            raise StorageError(f"{path} cannot be read, it may be damaged: restore it from a backup.") from error

    def _load_hots(self) -> list[Hot]:
        hots = []
        generations = self.connection.execute("SELECT type, number FROM generations ORDER BY number").fetchall()
        for type_number, generation in generations:
            table = hot_table(ValueType(type_number), generation)
            found = self.connection.execute(f"SELECT count(*), min(at_ns), max(at_ns) FROM {table}")  # noqa: S608
            rows, first_ns, last_ns = found.fetchall()[0]
            hot = Hot(ValueType(type_number), generation)
            if rows:
                hot.reach(rows, first_ns, last_ns)
            hots.append(hot)
        return hots

    def check_open(self) -> None:
        """Raises StorageError after `close`."""
        if self.is_closed:
            raise StorageError("The telemetry store is closed.")

    def write(self, *statements: str) -> None:
        """Run statements in one transaction; if it fails, nothing of it stays and the connection is ready for the
        next. Several go in one call: each call hands the interpreter's lock back and forth."""
        sql = statements[0] if len(statements) == 1 else "; ".join(["BEGIN", *statements, "COMMIT"])
        try:
            self.connection.execute(sql)
        except BaseException:  # whatever it was, no transaction may stay open: the next batch would end up in it
            with suppress(duckdb.Error):  # none is open where the failing statement was a transaction of its own
                self.connection.rollback()
            raise

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own beside the writer's."""
        self.check_open()
        cursor = self.connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def select(self, types: Mapping[int, ValueType], start_ns: int | None, end_ns: int | None) -> list[Selection]:
        """What is wanted of each type, for series of these types, as far as is known now."""
        has_deletions = self.has_deletions
        layouts = dict(self.layouts)  # all of one moment: a batch of several types is in each of them or in none
        return [
            selection(value_type, layouts[value_type].parts(), ids, start_ns, end_ns, has_deletions=has_deletions)
            for value_type, ids in ids_by_type(types).items()
        ]

    def last_times(self) -> dict[ValueType, int]:
        """For each type, a time that no point is later than."""
        return {value_type: layout.last_ns for value_type, layout in self.layouts.items()}

    def read(self, wanted: Wanted, work: Callable[[duckdb.DuckDBPyConnection, list[Selection]], T]) -> T:
        """Do reading work with a view of all tables at one moment. It is done again if what it reads was moved."""
        with self.reading(wanted, work) as found:
            return found

    @contextmanager
    def reading(self, wanted: Wanted, work: Callable[[duckdb.DuckDBPyConnection, list[Selection]], T]) -> Iterator[T]:
        """As `read`, for an answer that is fetched bit by bit within the block. `work` begins the query: one that has
        begun reads on, wherever its points are moved."""
        for tries_left in reversed(range(_MAX_TRIES)):
            before = dict(self.layouts)
            with ExitStack() as stack:
                cursor = stack.enter_context(self.cursor())
                selections = self.select(*wanted)
                if not all(one.never_changes for one in selections):
                    cursor.execute(_FIX_VIEW)
                    selections = self.select(*wanted)
                try:
                    found = work(cursor, selections)
                except (duckdb.CatalogException, duckdb.BinderException):
                    with self.writing:  # a change that is on disk already may only now become known
                        has_moved = self.layouts != before
                    if not has_moved or not tries_left:
                        raise
                    continue
                yield found
                return

    def close(self) -> None:
        """Release the files, once reads that are under way have ended."""
        with self.writing:
            self.is_closed = True
            self.connection.close()


def load_runs(connection: duckdb.DuckDBPyConnection) -> list[Run]:
    """The runs that belong to a store, from the oldest to the newest."""
    found = connection.execute(
        "SELECT number, type, first_generation, last_generation, rows, first_ns, last_ns, unit_ns, "
        "deletions_applied FROM runs ORDER BY last_generation"
    ).fetchall()
    return [Run(number, ValueType(type_number), *rest) for number, type_number, *rest in found]
