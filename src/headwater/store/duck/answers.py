"""Reads what `Store.rows` and `Store.windows` answer. Knows tables and series numbers; the store gives it a cursor with
a view of them.

What is asked most often, some hundred points that came last, costs DuckDB more to plan than to read: so few are fetched
as they are found, and sorted, united and put beside each other here. Answers that are short are fetched as Python
objects, because for columns DuckDB plans a query twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa

from headwater.model.series import ValueType
from headwater.store import ARROW_TYPES
from headwater.store.aggregates import Aggregate, answer_schema
from headwater.store.duck.layout import Part
from headwater.store.duck.reading import Selection, reach, rows_sql, stacked_sql
from headwater.store.duck.recent import Points
from headwater.store.duck.windowing import begin_of, grouped_sql, windows_sql
from headwater.store.windows import Windows

_FEW_POINTS = 5_000
"""So many are cheaper to put in order here (1 µs each) than by DuckDB."""
_FEW_WINDOWS = 2_000
_MARGIN = 1.25
"""By how much more than the average a series may have paused, before the newest are looked for again."""


def empty_rows(types: Mapping[int, ValueType]) -> pa.Table:
    """No rows, of series with these types."""
    fields = [(str(series_id), ARROW_TYPES[value_type]) for series_id, value_type in types.items()]
    return pa.schema([("at_ns", pa.int64()), *fields]).empty_table()


def read_rows(
    cursor: duckdb.DuckDBPyConnection,
    wanted: Sequence[Selection],
    newest: int | None,
    series: int,
) -> pa.Table:
    """The rows of series that exist, with columns in any order. `newest` is not 0.

    `series`: how many there are in the store, for an estimate of how long one takes to send so many points.
    """
    types = {series_id: one.type for one in wanted for series_id in one.series_ids or ()}
    span = reach(wanted)
    if span is None:
        return empty_rows(types)
    if newest is None:
        return cursor.sql(rows_sql(wanted, newest)).to_arrow_table()
    first_ns, last_ns = span
    is_few = newest * len(types) <= _FEW_POINTS and all(one.is_exact for one in wanted)
    span_ns = _likely_span_ns(wanted, newest, series)
    while True:
        # To read twice as much is cheaper than to look twice.
        start_ns = last_ns + 1 - span_ns if span_ns < (last_ns - first_ns) // 2 else first_ns
        late = [one._replace(start_ns=max(one.start_ns, start_ns)) for one in wanted]
        points = _few_points(cursor, late, types) if is_few else None
        if points is None:
            found = cursor.sql(rows_sql(late, newest)).to_arrow_table()
        else:
            found = side_by_side(points, types, newest)
        if found.num_rows >= newest or start_ns == first_ns:
            return found
        span_ns *= _larger(newest, found.num_rows)


def read_oldest_rows(
    cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection], oldest: int, series: int
) -> pa.Table:
    """The first so many rows of series that exist, with columns in any order. `oldest` is not 0; `series` as for
    `read_rows`. Only as long a time is read as is likely to have them: the middle of a long history costs no more than
    its beginning."""
    types = {series_id: one.type for one in wanted for series_id in one.series_ids or ()}
    span = reach(wanted)
    if span is None:
        return empty_rows(types)
    first_ns, last_ns = span
    near = [part for one in wanted for part in one.parts if part.rows and part.overlaps(first_ns, last_ns + 1)]
    span_ns = _span_of_rows(sorted(near, key=lambda part: part.first_ns), oldest, series)
    while True:
        end_ns = first_ns + span_ns if span_ns < (last_ns - first_ns) // 2 else last_ns + 1
        early = [one._replace(end_ns=min(one.end_ns, end_ns)) for one in wanted]
        found = cursor.sql(rows_sql(early, oldest, are_oldest=True)).to_arrow_table()
        if found.num_rows >= oldest or end_ns > last_ns:
            return found
        span_ns *= _larger(oldest, found.num_rows)


def _larger(most: int, found: int) -> int:
    """How many times as long a time to look through, when one had fewer rows than were wanted."""
    return min(64, max(8, 2 * most // found)) if found else 64


def _likely_span_ns(wanted: Sequence[Selection], newest: int, series: int) -> int:
    """In how long a time before the last there will be so many rows, if all series have about as many points."""
    parts = sorted((part for one in wanted for part in one.parts if part.rows), key=lambda part: -part.last_ns)
    return _span_of_rows(parts, newest, series)


def _span_of_rows(parts: Iterable[Part], most: int, series: int) -> int:
    """In how long a time of the first of these parts there will be so many rows."""
    rows, spans = 0, []
    for part in parts:
        rows += part.rows
        spans.append((part.first_ns, part.last_ns))
        if rows >= most * series:
            break
    span_ns = max(last for _, last in spans) - min(first for first, _ in spans) + 1
    return int(span_ns / rows * most * series * _MARGIN) + 1


def _few_points(
    cursor: duckdb.DuckDBPyConnection, wanted: Sequence[Selection], types: Iterable[int]
) -> dict[int, dict[int, Any]] | None:
    """All points that are wanted, by series and time, or None if they are more than should be dealt with here."""
    points: dict[int, dict[int, Any]] = {series_id: {} for series_id in types}
    for one in wanted:
        found = cursor.execute(stacked_sql(one)).fetchmany(2 * _FEW_POINTS)
        if len(found) == 2 * _FEW_POINTS:
            cursor.abort()
            return None
        for series_id, at_ns, value in found:
            points[series_id][at_ns] = value  # the last of one time stands
    return points


def side_by_side(
    points: Points, types: Mapping[int, ValueType], newest: int | None, oldest: int | None = None
) -> pa.Table:
    """The rows of these points, or so many of the newest or the oldest."""
    times = sorted(set().union(*points.values()))
    if newest is not None:
        times = times[-newest:]
    times = times[:oldest]
    arrays = [pa.array(times, pa.int64())]
    arrays += [pa.array(map(points[n].get, times), ARROW_TYPES[value_type]) for n, value_type in types.items()]
    return pa.table(arrays, ["at_ns", *map(str, types)])


def read_windows(
    cursor: duckdb.DuckDBPyConnection,
    wanted: Sequence[Selection],
    groups: Sequence[Sequence[int]],
    value_type: ValueType,
    aggregates: Sequence[Aggregate],
    windows: Windows,
    max_rows: int,
) -> pa.Table:
    """The aggregates of `Store.windows` for series that exist, at most `max_rows` rows; not yet `checked`."""
    schema = answer_schema(value_type, aggregates)
    span = reach(wanted)
    if span is None:
        return schema.empty_table()
    first_ns, last_ns = span
    progressions = windows.progressions(first_ns, last_ns)
    grouped = grouped_sql(wanted, groups, value_type, aggregates, progressions, last_ns)
    if len(groups) * sum(one.length for one in progressions) > _FEW_WINDOWS:
        sql = windows_sql(grouped, progressions, max_rows, is_joined=len(groups) > 1)
        return cursor.sql(sql).to_arrow_table()
    rows = cursor.execute(grouped).fetchall()
    if len(groups) > 1:
        found = [(group, begin_of(key, progressions), *of) for key, group, *of in rows]
    else:
        found = [(0, begin_of(key, progressions), *of) for key, *of in rows]
    found.sort(key=itemgetter(0, 1))
    columns = zip(*found[:max_rows], strict=True)
    arrays = [pa.array(values, one.type) for values, one in zip(columns, schema, strict=False)]
    return pa.table(arrays, schema) if arrays else schema.empty_table()
