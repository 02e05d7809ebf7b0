"""Looks into SQLite files without changing them or anything beside them. Knows no tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headwater.errors import StorageError

_MOST_TOLD = 3


@contextmanager
def open_to_look(path: Path) -> Iterator[sqlite3.Connection]:
    """Also beside a writer. Raises StorageError for a file that cannot be read, in the block too."""
    # Without a log nobody writes, and then SQLite need not make files of its own to read beside writers.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be read ({error}): restore it from a backup") from error


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Read everything there is. Raises StorageError for damage, and for rows that refer to nothing."""
    found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_TOLD})")]
    if found != ["ok"]:
        raise StorageError(f"{path} is damaged, restore it from a backup: {found[0].strip().splitlines()[0]}")
    dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(1)
    if dangling:
        raise StorageError(f"{path} is damaged, restore it from a backup: rows of {dangling[0][0]} refer to nothing")
