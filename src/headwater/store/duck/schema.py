"""What is on disk: tables, their names and the format's version. Runs nothing. See docs/storage.md.

In `points.duckdb`:

- `meta`: one row that says whose file this is and in which format.
- `series`: the catalogue.
- `hot_<type>_<generation>`: points in the order in which they arrived. Of rows with equal series and time the one with
  the greatest `rowid` stands (DuckDB keeps rowids in order of insertion, through deletes and checkpoints too).
- `generations`: which of these tables there are. The latest of a type takes new points; the others only wait to be
  moved into a run.
- `runs`: which files of sorted points belong to the store, and what of the deletions they have in them.
- `deletions`: spans of series that were deleted and of which files may still have points.

In `run-<number>.duckdb`, one for each run: `points`, sorted by series and time, where no two rows have both equal.
Such a file is never changed; a new one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from headwater.model.series import ValueType

APPLICATION = "headwater"
FORMAT_VERSION = 2
"""Grows with every change of the tables that an older Headwater could not read."""

SQL_TYPES = {
    ValueType.FLOAT: "DOUBLE",
    ValueType.INTEGER: "BIGINT",
    ValueType.UNSIGNED: "UBIGINT",
    ValueType.BOOLEAN: "BOOLEAN",
    ValueType.STRING: "VARCHAR",
}


def hot_table(value_type: ValueType, generation: int) -> str:
    return f"hot_{value_type.name.lower()}_{generation:d}"


def create_hot(value_type: ValueType, generation: int) -> tuple[str, str]:
    """Statements, for one transaction, that make the table of a new generation and list it."""
    columns = f"(series_id BIGINT NOT NULL, at_ns BIGINT NOT NULL, value {SQL_TYPES[value_type]} NOT NULL)"
    return (
        f"CREATE TABLE {hot_table(value_type, generation)} {columns}",
        f"INSERT INTO generations VALUES ({value_type:d}, {generation:d})",  # noqa: S608 - integers
    )


def create_statements() -> Iterator[str]:
    """What makes an empty database ours."""
    yield "CREATE TABLE meta (application VARCHAR NOT NULL, format_version INTEGER NOT NULL)"
    yield f"INSERT INTO meta VALUES ('{APPLICATION}', {FORMAT_VERSION})"  # noqa: S608 - constants
    yield (
        "CREATE TABLE series (id BIGINT NOT NULL, bucket_id BIGINT NOT NULL, measurement VARCHAR NOT NULL, "
        "tags MAP(VARCHAR, VARCHAR) NOT NULL, field VARCHAR NOT NULL, type UTINYINT NOT NULL)"
    )
    yield from _create_layout()
    for value_type in SQL_TYPES:
        yield from create_hot(value_type, 1)


def migrate_from_1() -> Iterator[str]:
    """Format 1 had one table of arrivals for each type, and nothing else."""
    yield from _create_layout()
    for value_type in SQL_TYPES:
        yield f"ALTER TABLE hot_{value_type.name.lower()} RENAME TO {hot_table(value_type, 1)}"
        yield f"INSERT INTO generations VALUES ({value_type:d}, 1)"  # noqa: S608
    yield "UPDATE meta SET format_version = 2"


def _create_layout() -> Iterator[str]:
    yield "CREATE TABLE generations (type UTINYINT NOT NULL, number BIGINT NOT NULL)"
    yield (
        "CREATE TABLE runs (number BIGINT NOT NULL, type UTINYINT NOT NULL, first_generation BIGINT NOT NULL, "
        "last_generation BIGINT NOT NULL, rows BIGINT NOT NULL, first_ns BIGINT NOT NULL, last_ns BIGINT NOT NULL, "
        "unit_ns BIGINT NOT NULL, deletions_applied BIGINT NOT NULL)"
    )
    yield (
        "CREATE TABLE deletions (number BIGINT NOT NULL, type UTINYINT NOT NULL, series_id BIGINT NOT NULL, "
        "first_ns BIGINT NOT NULL, last_ns BIGINT NOT NULL)"
    )
