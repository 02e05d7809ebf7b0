"""Looks whether a store is sound: reads everything that is on disk, changes nothing.

Every file is opened by itself, because DuckDB closes all of a database when a part of it turns out to be damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb

from headwater.errors import ConfigurationError, StorageError
from headwater.model.series import ValueType
from headwater.store.duck.files import SAFE_SETTINGS, open_to_look
from headwater.store.duck.layout import Run
from headwater.store.duck.runs import run_path
from headwater.store.duck.schema import FORMAT_VERSION, hot_table
from headwater.store.duck.tables import load_runs

_MOST_TOLD = 3


class Soundness(NamedTuple):
    """What there is in a store that is sound."""

    series: int
    points: int
    """With those that were replaced."""
    runs: int
    last_bucket_id: int


def inspect_store(directory: Path, settings: Mapping[str, str]) -> Soundness:
    """Read all of a store that no process has open. `settings` are DuckDB's.

    Raises ConfigurationError when the directory is not a store that this Headwater can use, or in use, and StorageError
    that says what is damaged, and what to do.
    """
    problems: list[str] = []
    runs: list[Run] = []
    with closing(open_to_look(directory, settings)) as connection:
        try:
            (version,) = connection.execute("SELECT format_version FROM meta").fetchall()[0]
            if version < FORMAT_VERSION:
                raise ConfigurationError(f"{directory} has format {version}: start Headwater once, then look again")
            series, distinct, last_bucket_id = connection.execute(
                "SELECT count(*), count(DISTINCT id), coalesce(max(bucket_id), 0) FROM series"
            ).fetchall()[0]
            if series != distinct:
                problems.append("points.duckdb has two series of one number")
            points = _read_arrivals(connection)
            connection.execute("SELECT bit_xor(hash(deletions)) FROM deletions").fetchall()
            runs = load_runs(connection)
        except duckdb.Error as error:
            raise _damaged(directory, [_explain("points.duckdb", error)]) from error
    problems += _find_wrong_order(runs)
    for run in runs:
        problems += _find_problems(run, run_path(directory, run.number), settings)
    if problems:
        raise _damaged(directory, problems)
    return Soundness(series, points + sum(run.rows for run in runs), len(runs), last_bucket_id)


def _read_arrivals(connection: duckdb.DuckDBPyConnection) -> int:
    """Read the tables of arrivals; how many points they have."""
    points = 0
    for value_type, generation in connection.execute("SELECT type, number FROM generations").fetchall():
        table = hot_table(ValueType(value_type), generation)
        # The hash, because it needs every value; counting reads none.
        found = connection.execute(f"SELECT count(*), bit_xor(hash(series_id, at_ns, value)) FROM {table}")  # noqa: S608
        points += found.fetchall()[0][0]
    return points


def _find_wrong_order(runs: list[Run]) -> list[str]:
    """Runs of one type that have generations in common: it cannot be told which of two points is newer."""
    return [
        f"run {older.number} and run {newer.number} have the same generations"
        for value_type in ValueType
        for older, newer in pairwise(run for run in runs if run.type is value_type)
        if newer.first_generation <= older.last_generation
    ]


def _find_problems(run: Run, path: Path, settings: Mapping[str, str]) -> list[str]:
    if not path.exists():
        return [f"{path.name} is missing"]
    try:
        with closing(duckdb.connect(path, read_only=True, config={**settings, **SAFE_SETTINGS})) as connection:
            rows, first, last, _ = connection.execute(
                "SELECT count(*), min(time), max(time), bit_xor(hash(series_id, time, value)) FROM points"
            ).fetchall()[0]
            unsorted = connection.execute(
                "SELECT count(*) FROM (SELECT series_id, time, lag(series_id) OVER () AS former_id, "
                "lag(time) OVER () AS former FROM points) "
                "WHERE series_id < former_id OR (series_id = former_id AND time <= former)"
            ).fetchall()[0][0]
    except duckdb.Error as error:
        return [_explain(path.name, error)]
    problems = []
    if rows != run.rows:
        problems.append(f"{path.name} has {rows} points instead of {run.rows}")
    if unsorted:
        problems.append(f"{path.name} is not sorted")
    if rows and not run.first_ns <= first * run.unit_ns <= last * run.unit_ns <= run.last_ns:
        problems.append(f"{path.name} has points of other times than it should")
    return problems


def _explain(name: str, error: duckdb.Error) -> str:
    return f"{name} cannot be read ({type(error).__name__})"


def _damaged(directory: Path, problems: list[str]) -> StorageError:
    more = f" and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return StorageError(
        f"{directory} is damaged: {', '.join(problems[:_MOST_TOLD])}{more}; restore a backup (`headwater restore`)"
    )
