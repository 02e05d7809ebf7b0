"""The SQL of a query, and the search for the newest rows. Knows tables and series numbers; runs what it is given.

All that enters the SQL from outside is integers, written as such.

Newest wins: in each table the rows of one series and time are reduced to the value with the greatest `rowid`, and
only then are series turned into columns. (Both in one aggregation takes twice as long: a filter on arrival order
leaves DuckDB many small vectors, and every aggregate walks each of them.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import ValueType
from headwater.store.duck.schema import hot_table

Run = Callable[[str], pa.Table]

_FAR = 2**64
"""Outside of every time: what lies further out would not be an integer to DuckDB any more."""

_RETRY_FACTOR = 8
"""How many times more rows are tried when replaced points left too few; rare, so the step is wide."""


def span_condition(start_ns: int | None, end_ns: int | None) -> str:
    """The condition of a span of time, beginning with AND; empty without bounds."""
    start = "" if start_ns is None else f" AND at_ns >= {max(-_FAR, min(start_ns, _FAR)):d}"
    end = "" if end_ns is None else f" AND at_ns < {max(-_FAR, min(end_ns, _FAR)):d}"
    return start + end


def in_list(integers: Iterable[int]) -> str:
    """Series numbers or times as what follows IN."""
    return f"({', '.join(f'{integer:d}' for integer in integers)})"


def read_rows(run: Run, types: Mapping[int, ValueType], span: str, newest: int | None) -> pa.Table:
    """The rows of `Store.rows` for series that exist, as columns `at_ns` and one per series.

    `newest` is answered from the latest rows of each table, which DuckDB finds without scanning all of it (10 M rows,
    8 series, 100 rows: 4.5 ms). Of a table that had more rows than were taken, the earliest time taken may be
    incomplete, and earlier ones are missing: only later times count. If replaced points leave fewer than asked for,
    more is taken.
    """
    series_of: dict[ValueType, list[int]] = {}
    for series_id, value_type in types.items():
        series_of.setdefault(value_type, []).append(series_id)
    names = ["at_ns", *(str(series_id) for series_id in types)]
    if newest is None:
        return run(_rows_sql(series_of, span, {})).select(names)
    # One more than `newest` full rows have, so that without replaced points one round is enough.
    limits = {value_type: newest * len(ids) + 1 for value_type, ids in series_of.items()}
    while True:
        table = run(_rows_sql(series_of, span, limits))
        cut_off = [value_type for value_type in limits if _taken(table, value_type) >= limits[value_type]]
        complete = table
        for value_type in cut_off:
            times = table.filter(pc.is_valid(table.column(_count_name(value_type)))).column("at_ns")
            complete = complete.filter(pc.greater(complete.column("at_ns"), times[0]))
        if complete.num_rows >= newest or not cut_off:
            return complete.slice(max(0, complete.num_rows - newest)).select(names)
        for value_type in cut_off:
            limits[value_type] *= _RETRY_FACTOR


def maxima_sql(series_ids: Iterable[int], value_type: ValueType) -> str:
    """Series and the greatest of its values that were not replaced."""
    latest = _latest_sql(value_type, series_ids, "", None)
    value = _value_name(value_type)
    return f"SELECT series_id, max({value}) FROM ({latest}) GROUP BY series_id"  # noqa: S608 - integers only


def newest_times_sql(series_ids: Iterable[int], value_type: ValueType) -> str:
    """Series and the latest of its times."""
    table, ids = hot_table(value_type), in_list(series_ids)
    return f"SELECT series_id, max(at_ns) FROM {table} WHERE series_id IN {ids} GROUP BY series_id"  # noqa: S608


def times_sql(series_id: int, value_type: ValueType, at_ns: Iterable[int]) -> str:
    """Those of the given times at which a series has a point."""
    table, times = hot_table(value_type), in_list(at_ns)
    return f"SELECT DISTINCT at_ns FROM {table} WHERE series_id = {series_id:d} AND at_ns IN {times}"  # noqa: S608


def _rows_sql(series_of: Mapping[ValueType, list[int]], span: str, limits: Mapping[ValueType, int]) -> str:
    columns = ["at_ns"]
    for value_type, ids in series_of.items():
        value, count = _value_name(value_type), _count_name(value_type)
        columns += [f'any_value({value}) FILTER (series_id = {series_id:d}) AS "{series_id:d}"' for series_id in ids]
        columns.append(f"sum({count})::BIGINT AS {count}")
    sources = " UNION ALL BY NAME ".join(
        _latest_sql(value_type, ids, span, limits.get(value_type)) for value_type, ids in series_of.items()
    )
    return f"SELECT {', '.join(columns)} FROM ({sources}) GROUP BY at_ns ORDER BY at_ns"  # noqa: S608


def _latest_sql(value_type: ValueType, series_ids: Iterable[int], span: str, limit: int | None) -> str:
    """One row for each series and time: the latest value, and how many rows the table had for it.

    With a limit, of the table's rows with the latest times only.
    """
    latest = "" if limit is None else f" ORDER BY at_ns DESC LIMIT {limit:d}"
    return (
        f"SELECT series_id, at_ns, arg_max(value, arrival) AS {_value_name(value_type)}, "  # noqa: S608
        f"count(*) AS {_count_name(value_type)} "
        f"FROM (SELECT series_id, at_ns, value, rowid AS arrival FROM {hot_table(value_type)} "
        f"WHERE series_id IN {in_list(series_ids)}{span}{latest}) GROUP BY series_id, at_ns"
    )


def _value_name(value_type: ValueType) -> str:
    return f"value_{value_type.name.lower()}"


def _count_name(value_type: ValueType) -> str:
    return f"count_{value_type.name.lower()}"


def _taken(table: pa.Table, value_type: ValueType) -> int:
    return pc.sum(table.column(_count_name(value_type)), min_count=0).as_py() or 0
