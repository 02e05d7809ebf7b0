"""A copy of the store as it is at one moment, for backups. Beside writing and upkeep; knows no archive.

The database is copied, as one transaction sees it, into a file of its own. The runs are not: a file that is open can
be read to its end, also when a merge has removed its name meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import BinaryIO

import duckdb

from headwater.errors import StorageError
from headwater.store.duck.files import DATABASE_NAME, quoted, remove_database
from headwater.store.duck.runs import SNAPSHOT_NAME, run_path, wait_until_whole
from headwater.store.duck.tables import Tables

_MAX_TRIES = 20
"""A merge that comes between takes a file away; so many in a row do not happen by chance."""


def take_snapshot(tables: Tables) -> dict[str, BinaryIO]:
    """Files, open for reading, that together are the store, by their names in its directory. The caller closes them.

    To be called by one thread at a time. It is done again when a run was removed before it could be opened.
    """
    for tries_left in reversed(range(_MAX_TRIES)):
        try:
            return _try_snapshot(tables)
        except FileNotFoundError as error:
            if not tries_left:
                raise StorageError(f"{error.filename} is missing: see `headwater check`.") from error
    raise AssertionError("the last try returns or raises")


def _try_snapshot(tables: Tables) -> dict[str, BinaryIO]:
    tables.check_room((tables.directory / DATABASE_NAME).stat().st_size)
    path = tables.directory / SNAPSHOT_NAME
    remove_database(path)
    # What is open needs no name.
    with ExitStack() as stack, ExitStack() as opened, tables.cursor() as cursor:
        stack.callback(remove_database, path)
        cursor.execute(f"ATTACH {quoted(path)} AS snapshot")
        try:
            runs = [run_path(tables.directory, number) for number in _copy_tables(cursor)]
            files: dict[str, BinaryIO] = {run.name: opened.enter_context(run.open("rb")) for run in runs}
        finally:
            cursor.execute("DETACH snapshot")
        wait_until_whole(path)
        files[DATABASE_NAME] = opened.enter_context(path.open("rb"))
        opened.pop_all()  # from here on they are the caller's
        return files


def _copy_tables(cursor: duckdb.DuckDBPyConnection) -> list[int]:
    """Copy all tables in one transaction; the numbers of the runs that they name."""
    (source,) = cursor.execute("SELECT current_database()").fetchall()[0]
    cursor.execute("BEGIN; SELECT 1 FROM meta").fetchall()  # only what is looked at fixes the view
    try:
        cursor.execute(f"COPY FROM DATABASE {source} TO snapshot (SCHEMA)")
        tables = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'snapshot'").fetchall()
        for (table,) in tables:
            # In order: of two rows of one point, the one that came later stands.
            cursor.execute(f"INSERT INTO snapshot.{table} SELECT * FROM {source}.{table} ORDER BY rowid")  # noqa: S608
        numbers = [number for (number,) in cursor.execute(f"SELECT number FROM {source}.runs").fetchall()]  # noqa: S608
        cursor.execute("COMMIT")
    except BaseException:
        cursor.rollback()
        raise
    return numbers
