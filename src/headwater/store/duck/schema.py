"""What is on disk: tables, their names and the format's version. Runs nothing.

- `meta`: one row that says whose file this is and in which format.
- `series`: the catalogue.
- `hot_<type>`, one for each value type: points in the order in which they arrived. Nothing is ever updated in place:
  a point that replaces another is just a later row, and a query takes, of the rows with equal series and time, the
  one with the greatest `rowid` (DuckDB keeps rowids in order of insertion, through deletes and checkpoints too).

Points arrive nearly in the order of their times, so DuckDB's statistics of each 122,880 rows let a query for the
newest points, or for a span of time, skip nearly all of a table. What they cannot do is to skip by series. When that
is wanted, a `cold_<type>` table sorted by series and time joins each hot one: a compaction moves the deduplicated hot
rows there in one transaction, and `reading` unites both, hot winning over cold.
"""

from __future__ import annotations

from collections.abc import Iterator

from headwater.model.series import ValueType

APPLICATION = "headwater"
FORMAT_VERSION = 1
"""Grows with every change of the tables that an older Headwater could not read."""

SQL_TYPES = {
    ValueType.FLOAT: "DOUBLE",
    ValueType.INTEGER: "BIGINT",
    ValueType.UNSIGNED: "UBIGINT",
    ValueType.BOOLEAN: "BOOLEAN",
    ValueType.STRING: "VARCHAR",
}


def hot_table(value_type: ValueType) -> str:
    return f"hot_{value_type.name.lower()}"


def create_statements() -> Iterator[str]:
    """What makes an empty database ours."""
    yield "CREATE TABLE meta (application VARCHAR NOT NULL, format_version INTEGER NOT NULL)"
    yield f"INSERT INTO meta VALUES ('{APPLICATION}', {FORMAT_VERSION})"  # noqa: S608 - constants
    yield (
        "CREATE TABLE series (id BIGINT NOT NULL, bucket_id BIGINT NOT NULL, measurement VARCHAR NOT NULL, "
        "tags MAP(VARCHAR, VARCHAR) NOT NULL, field VARCHAR NOT NULL, type UTINYINT NOT NULL)"
    )
    for value_type, sql_type in SQL_TYPES.items():
        yield (
            f"CREATE TABLE {hot_table(value_type)} "
            f"(series_id BIGINT NOT NULL, at_ns BIGINT NOT NULL, value {sql_type} NOT NULL)"
        )
