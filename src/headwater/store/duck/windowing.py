"""The SQL of window aggregates. Knows tables, series numbers and times; runs nothing.

All that enters the SQL from outside is numbers, written as such. What each aggregate is stands in
`headwater.store.aggregates`.
"""

from __future__ import annotations

from collections.abc import Sequence

from headwater.model.series import ValueType
from headwater.store.aggregates import Aggregate, Function
from headwater.store.duck.layout import LATEST_NS
from headwater.store.duck.reading import Selection, points_sql, unnested
from headwater.store.duck.schema import SQL_TYPES
from headwater.store.windows import Progression

_MAX_CASES = 256
"""So many progressions are told apart by comparing (100: 0.05 µs for each point). The cost grows with their number,
that of the join which is used for more (0.2 µs) hardly does."""
_OF_NEXT_SERIES = 2**63
_SQL = {
    Function.COUNT: "count(*)",
    Function.SUM: "sum(value)",
    Function.MEAN: "avg(value)",
    Function.MEDIAN: "median(value)",
    # The keys of a histogram ascend. (DuckDB's mode() takes any of several.)
    Function.MODE: "map_keys(histogram(value))"
    "[list_position(map_values(histogram(value)), list_max(map_values(histogram(value))))]",
    Function.STDDEV: "stddev_samp(value)",
    Function.SPREAD: "max(value) - min(value)",
    Function.MIN: "min(value)",
    Function.MAX: "max(value)",
    Function.FIRST: "arg_min(value, at_ns)",
    Function.LAST: "arg_max(value, at_ns)",
}


def grouped_sql(
    wanted: Sequence[Selection],
    groups: Sequence[Sequence[int]],
    value_type: ValueType,
    aggregates: Sequence[Aggregate],
    progressions: Sequence[Progression],
    last_ns: int,
) -> str:
    """Columns `key`, `group` if there are several, and one for each aggregate, in any order of rows; `begin_of` tells
    from its key when a window begins. An integer that does not fit its type is null.

    `wanted` are points of types whose values `value_type` can stand for; they have no time after `last_ns`, and none
    before the first of `progressions`.

    Each SELECT within another costs DuckDB as much as to aggregate a thousand points: so there are few.
    """
    is_joined = len(groups) > 1
    unit_ns = _unit_ns(wanted, progressions)
    wanted = [one._replace(unit_ns=unit_ns) for one in wanted]
    sources = [_values_sql(one, value_type, is_joined=is_joined) for one in wanted]
    points = f"({' UNION ALL '.join(sources)}) points"
    if is_joined:
        places = [(n, number) for number, ids in enumerate(groups) for n in dict.fromkeys(ids)]
        series_ids, numbers = unnested(n for n, _ in places), unnested(number for _, number in places)
        points += f" JOIN (SELECT {series_ids} AS series_id, {numbers} AS number) groups USING (series_id)"
    if len(progressions) > _MAX_CASES:
        rows = ", ".join(f"({first:d}, {last:d}, {every:d})" for first, last, every in progressions)
        points += f" ASOF JOIN (VALUES {rows}) begun(first_ns, last_ns, every_ns) ON points.at_ns >= begun.first_ns"
    is_of_one = all(len(set(ids)) <= 1 for ids in groups)
    columns = "".join(f', {_aggregate_sql(one, value_type, is_of_one)} AS "{one.name}"' for one in aggregates)
    key = _key_sql(progressions, last_ns, unit_ns)
    if not is_joined:
        return f"SELECT {key} AS key{columns} FROM {points} GROUP BY 1"  # noqa: S608 - numbers only, here and below
    return f'SELECT {key} AS key, groups.number AS "group"{columns} FROM {points} GROUP BY 1, 2'  # noqa: S608


def windows_sql(grouped: str, progressions: Sequence[Progression], max_rows: int, *, is_joined: bool) -> str:
    """The columns of `Store.windows`, in their order and at most so many, of what `grouped_sql` gave (`is_joined`: for
    several groups)."""
    begins = "key"
    if len(progressions) == 1:
        ((first, _, every),) = progressions
        begins = f"CAST({first:d} + key * {every:d} AS BIGINT)"
    group, others = ('"group"', '"group", key') if is_joined else ('0::BIGINT AS "group"', "key")
    return (
        f"SELECT {group}, {begins} AS at_ns, * EXCLUDE ({others}) FROM ({grouped}) "  # noqa: S608
        f"ORDER BY 1, 2 LIMIT {max_rows:d}"
    )


def begin_of(key: int, progressions: Sequence[Progression]) -> int:
    """When the window begins that has a key of `grouped_sql`."""
    if len(progressions) > 1:
        return key
    return progressions[0].first_ns + key * progressions[0].every_ns


def _values_sql(wanted: Selection, value_type: ValueType, *, is_joined: bool) -> str:
    """Points with their values as a type."""
    points = points_sql(wanted, is_joined=is_joined)
    if wanted.type is value_type:
        return points
    return f"SELECT series_id, at_ns, value::{SQL_TYPES[value_type]} AS value FROM ({points})"  # noqa: S608


def _aggregate_sql(aggregate: Aggregate, value_type: ValueType, is_of_one: bool) -> str:
    """An aggregate of `value`; `is_of_one`: no group has two series, so that no time is there twice."""
    is_integer = value_type in (ValueType.INTEGER, ValueType.UNSIGNED)
    match aggregate.function:
        case Function.PERCENTILE:
            # Written out, it is a DECIMAL, with which DuckDB finds the rank in exact arithmetic.
            return f"quantile_disc(value, {aggregate.fraction:f})"
        case Function.SUM if is_integer:
            return f"TRY_CAST(sum(value) AS {SQL_TYPES[value_type]})"
        case Function.SPREAD if is_integer:
            return f"TRY_CAST(max(value)::HUGEINT - min(value)::HUGEINT AS {SQL_TYPES[value_type]})"
        case (Function.FIRST | Function.LAST) as function if not is_of_one:
            name = "arg_min" if function is Function.FIRST else "arg_max"
            # One number to compare is twice as fast as a row of two.
            return f"{name}(value, at_ns::HUGEINT * {_OF_NEXT_SERIES:d} + series_id)"
        case function:
            return _SQL[function]


def _unit_ns(wanted: Sequence[Selection], progressions: Sequence[Progression]) -> int:
    """In what times are compared with those of windows: the larger the unit, the less there is to compute."""
    if len(progressions) > 1:
        return 1
    unit_ns = min(one.unit_of_times_ns() for one in wanted)
    return 1 if progressions[0].first_ns % unit_ns or progressions[0].every_ns % unit_ns else unit_ns


def _key_sql(progressions: Sequence[Progression], last_ns: int, unit_ns: int) -> str:
    """By what the points of one window are told from others: its number, or its beginning where there are several
    progressions."""
    if len(progressions) > 1:
        return _begins_sql(progressions, last_ns)
    ((first, last, every),) = progressions
    if first == last:
        return "0::BIGINT"
    return f"(at_ns{_wide(progressions, last_ns)} - {first // unit_ns:d}) // {every // unit_ns:d}"


def _wide(progressions: Sequence[Progression], last_ns: int) -> str:
    """Differences of times may need a bit more than times do; that is slow, and never so with times of one century."""
    return "::HUGEINT" if last_ns - progressions[0].first_ns > LATEST_NS else ""


def _begins_sql(progressions: Sequence[Progression], last_ns: int) -> str:
    """When the window of `at_ns` begins, which is not after `last_ns`."""
    wide = _wide(progressions, last_ns)
    if len(progressions) > _MAX_CASES:
        return f"least(first_ns + (at_ns{wide} - first_ns) // every_ns * every_ns, last_ns)::BIGINT"
    return _cases_sql(progressions, [*(one.first_ns for one in progressions[1:]), None], wide)


def _cases_sql(progressions: Sequence[Progression], ends: Sequence[int | None], wide: str) -> str:
    """The same by comparing; `ends` is when the next progression begins. Halved again and again: few comparisons."""
    if len(progressions) > 1:
        half = len(progressions) // 2
        before, after = (
            _cases_sql(progressions[:half], ends[:half], wide),
            _cases_sql(progressions[half:], ends[half:], wide),
        )
        return f"CASE WHEN at_ns < {progressions[half].first_ns:d} THEN {before} ELSE {after} END"
    (first, last, every), end = progressions[0], ends[0]
    if first == last:
        return f"CAST({first:d} AS BIGINT)"
    begins = f"{first:d} + (at_ns{wide} - {first:d}) // {every:d} * {every:d}"
    return f"CAST({begins if end is None or end - last <= every else f'least({begins}, {last:d})'} AS BIGINT)"
