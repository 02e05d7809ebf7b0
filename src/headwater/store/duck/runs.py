"""Files of sorted points: writes them, attaches them, takes them away. Knows no generations and no deletions.

A run is written under a name of its own, put on disk, and only then given its final name: whatever is found under
that name is whole. Which of the files count is said by the table `runs`; the others are leftovers of an interruption.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb

from headwater.errors import StorageError
from headwater.files import sync_directory, sync_file
from headwater.store.duck.files import log_of, quoted, remove_database

SLICE_ROWS = 4_000_000
"""So many rows are sorted at a time, which takes about 300 MB: sorting is what needs the most memory here."""
ROW_GROUP_ROWS = 245_760
"""DuckDB gives each column of a row group blocks of 256 KiB of its own. With half as many rows, its default, they stay
half empty: random walks of two decimals every 10 s took 4.2 bytes a value, and take 2.8 so. Larger row groups save no
more, and of a million rows they make reading one series half as fast."""
SNAPSHOT_NAME = "snapshot.new"
"""A copy of the database, which has this name only while it is made."""
_POLL_S = 0.005
_UNITS_NS = (1_000_000_000, 1_000_000, 1_000)
_RUN_NAME = re.compile(r"run-(\d+)\.duckdb")


class Written(NamedTuple):
    """What a run that was written has in it."""

    rows: int
    first_ns: int
    last_ns: int
    unit_ns: int


def run_path(directory: Path, number: int) -> Path:
    return directory / f"run-{number:d}.duckdb"


def common_unit_ns(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    """The largest unit that all times of a table of arrivals are multiples of."""
    units = ", ".join(f"bool_and(at_ns % {unit_ns:d} = 0)" for unit_ns in _UNITS_NS)
    (fitting,) = cursor.execute(f"SELECT {units} FROM {table}").fetchall()  # noqa: S608 - a name of ours
    return next((unit_ns for unit_ns, fits in zip(_UNITS_NS, fitting, strict=True) if fits), 1)


def write_run(
    cursor: duckdb.DuckDBPyConnection,
    directory: Path,
    number: int,
    points_sql: str,
    *,
    unit_ns: int,
    most_rows: int,
    slice_rows: int = SLICE_ROWS,
) -> Written | None:
    """Write the points that a query gives (`series_id, at_ns, value`, no two of one series and time) into a file.

    Their times are multiples of `unit_ns`, and there are not more than `most_rows`. Answers None, and leaves no file,
    when there are none.
    """
    path = run_path(directory, number)
    unfinished = path.with_suffix(".new")
    remove_database(unfinished)
    name = f"building_{number:d}"
    cursor.execute(f"ATTACH {quoted(unfinished)} AS {name} (ROW_GROUP_SIZE {ROW_GROUP_ROWS:d})")
    try:
        source = f"SELECT series_id, at_ns // {unit_ns:d} AS time, value FROM ({points_sql})"  # noqa: S608
        cursor.execute(f"CREATE TABLE {name}.points AS {source} LIMIT 0")
        for condition in _slices(cursor, points_sql, most_rows, slice_rows):
            cursor.execute(f"INSERT INTO {name}.points {source} WHERE {condition} ORDER BY series_id, time")
        found = cursor.execute(f"SELECT count(*), min(time), max(time) FROM {name}.points").fetchall()  # noqa: S608
    finally:
        cursor.execute(f"DETACH {name}")
    wait_until_whole(unfinished)
    ((rows, first, last),) = found
    if not rows:
        remove_database(unfinished)
        return None
    unfinished.chmod(0o600)
    sync_file(unfinished)
    unfinished.replace(path)
    sync_directory(directory)
    return Written(rows, first * unit_ns, last * unit_ns, unit_ns)


def _slices(cursor: duckdb.DuckDBPyConnection, points_sql: str, most_rows: int, slice_rows: int) -> Iterator[str]:
    """Conditions for portions of whole series that are about so long, in the order of the series."""
    last_of_slices: list[int] = []
    if most_rows > slice_rows:
        so_far = "sum(count(*)) OVER (ORDER BY series_id)"
        found = cursor.execute(
            f"SELECT max(series_id) FROM (SELECT series_id, {so_far} AS so_far FROM ({points_sql}) "  # noqa: S608
            f"GROUP BY series_id) GROUP BY so_far // {slice_rows:d} ORDER BY 1"
        )
        last_of_slices = [last for (last,) in found.fetchall()][:-1]
    after = -1
    for last in last_of_slices:
        yield f"series_id > {after:d} AND series_id <= {last:d}"
        after = last
    yield f"series_id > {after:d}"


def wait_until_whole(path: Path, timeout_s: float = 30.0) -> None:
    """Wait until all that was written is in a file itself that was let go of. Raises StorageError if that takes long.

    DETACH leaves it in the file's log while anybody looks at the file, and whoever asks for a table that does not exist
    looks at all files there are. When the last one has looked, the log is moved into the file and removed. (CHECKPOINT
    would be refused: it cannot be had while anything is written anywhere.)
    """
    waited_s = 0.0
    while log_of(path).exists():
        if waited_s >= timeout_s:
            raise StorageError(f"{path.name} could not be finished; it is tried again.")
        time.sleep(_POLL_S)
        waited_s += _POLL_S


def attach_run(cursor: duckdb.DuckDBPyConnection, directory: Path, number: int, rows: int) -> None:
    """Make a run readable. Raises StorageError if it does not have so many rows."""
    cursor.execute(f"ATTACH {quoted(run_path(directory, number))} AS run_{number:d} (READ_ONLY)")
    try:
        ((found,),) = cursor.execute(f"SELECT count(*) FROM run_{number:d}.points").fetchall()  # noqa: S608 - an integer
    except duckdb.CatalogException:
        found = 0
    if found != rows:
        cursor.execute(f"DETACH run_{number:d}")
        raise StorageError(f"{run_path(directory, number).name} has {found} of its {rows} points.")


def drop_run(cursor: duckdb.DuckDBPyConnection, directory: Path, number: int) -> None:
    """Let go of a file that does not count any more. Queries that read it go on; its room is free when they end."""
    cursor.execute(f"DETACH DATABASE IF EXISTS run_{number:d}")
    remove_database(run_path(directory, number))


def remove_leftovers(directory: Path, numbers: Collection[int]) -> list[Path]:
    """Remove files of runs that do not count, and unfinished ones; which they were."""
    leftovers = [*directory.glob("run-*.new"), *directory.glob(SNAPSHOT_NAME)]
    for path in directory.glob("run-*.duckdb"):
        found = _RUN_NAME.fullmatch(path.name)
        if found and int(found[1]) not in numbers:
            leftovers.append(path)
    for path in leftovers:
        remove_database(path)
    return leftovers
