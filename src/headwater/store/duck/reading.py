"""The SQL of a query. Knows tables and series numbers; runs nothing.

All that enters the SQL from outside is integers, written as such. Many of them are written as one text that DuckDB
turns into a list: of 100,000 that takes 40 ms, as a parameter 180 ms, and one by one in the SQL 2.5 s.

Newest wins: within a hot table the rows of one series and time are reduced to the value with the greatest `rowid`;
a run has no two. Of two parts the newer wins. Telemetry mostly arrives in the order of its times: then hardly any two
parts overlap, and nothing has to be compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from headwater.model.series import ValueType
from headwater.store.duck.layout import EARLIEST_NS, LATEST_NS, Part
from headwater.store.duck.schema import SQL_TYPES

_END = LATEST_NS + 1
_MANY_SERIES = 256
"""From so many scattered series on, each part is read from the first to the last of them, and they are picked out
once, of all parts together: a list of 100,000 takes 40 ms wherever it stands."""


class Selection(NamedTuple):
    """Which points of one value type."""

    type: ValueType
    parts: Sequence[Part] = ()
    """Where they may be, from the oldest to the newest."""
    series_ids: tuple[int, ...] | None = None
    """None: of all series."""
    start_ns: int = EARLIEST_NS
    end_ns: int = _END
    has_deletions: bool = False
    """Whether the table `deletions` has to be asked."""
    condition: str = ""
    """What picks the series out of a part; empty for all of them."""
    is_exact: bool = True
    """Whether `condition` leaves no other series."""
    unit_ns: int = 1
    """In what `at_ns` is told; another than nanoseconds only where that is asked for."""

    def unit_of_times_ns(self) -> int:
        """The largest unit in which all its times are whole numbers, as far as is known without looking."""
        if self.has_deletions:  # which are in nanoseconds
            return 1
        return min((part.unit_ns for part in _kept(self)), default=1)

    @property
    def never_changes(self) -> bool:
        """Whether its points are in files alone, all of which stand."""
        return not self.has_deletions and not any(part.is_hot for part in _kept(self))


def selection(
    value_type: ValueType,
    parts: Sequence[Part],
    series_ids: Collection[int] | None,
    start_ns: int | None,
    end_ns: int | None,
    *,
    has_deletions: bool,
) -> Selection:
    """Points of some series, each given once, in a span; bounds that lie beyond every time are none."""
    start = EARLIEST_NS if start_ns is None else min(max(start_ns, EARLIEST_NS), _END)
    end = _END if end_ns is None else min(max(end_ns, EARLIEST_NS), _END)
    if series_ids is None:
        return Selection(value_type, parts, None, start, end, has_deletions)
    ids = tuple(series_ids)
    first, last = min(ids), max(ids)
    is_exact = len(ids) <= _MANY_SERIES or last - first < len(ids)
    condition = one_of("series_id", ids if is_exact else range(first, last + 1))
    return Selection(value_type, parts, ids, start, end, has_deletions, condition, is_exact)


def unnested(integers: Iterable[int]) -> str:
    """Any number of integers as rows: what stands behind SELECT."""
    return f"unnest('[{','.join(map(int.__repr__, integers))}]'::BIGINT[])"  # of nothing else than an int


def one_of(column: str, integers: Collection[int]) -> str:
    """The condition that a column is one of some integers, none of which is given twice."""
    first, last = min(integers), max(integers)
    if first == last:
        return f"{column} = {first:d}"
    if last - first < len(integers):
        return f"{column} BETWEEN {first:d} AND {last:d}"
    return f"{column} IN (SELECT {unnested(integers)})"


def reach(wanted: Iterable[Selection]) -> tuple[int, int] | None:
    """The first and the last time that points of some selections may have; None when there are none."""
    spans = [
        (max(part.first_ns, one.start_ns), min(part.last_ns, one.end_ns - 1))
        for one in wanted
        for part in _kept(one)
        if one.start_ns < one.end_ns
    ]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def _kept(wanted: Selection) -> list[Part]:
    """The parts that a query has to look at."""
    return [part for part in wanted.parts if part.rows and part.overlaps(wanted.start_ns, wanted.end_ns)]


def points_sql(wanted: Selection, *, is_joined: bool = False) -> str:
    """The points that stand, as `series_id, at_ns, value`: no two of one series and time.

    `is_joined`: other series are left out by what is done with the points.
    """
    kept = _kept(wanted)
    if not kept:
        return _nothing_sql(wanted)
    points = " UNION ALL ".join(_standing_sql(together, wanted) for together in _overlapping(kept))
    return points if is_joined else _picked_sql(points, wanted)


def arrivals_sql(wanted: Selection) -> str:
    """All points there are, as `series_id, at_ns, value`, those that were replaced or deleted too; and perhaps some of
    other series. For estimates."""
    kept = _kept(wanted)
    if not kept:
        return _nothing_sql(wanted)
    return " UNION ALL ".join(_rows_sql(part, wanted) for part in kept)


def stacked_sql(wanted: Selection) -> str:
    """The points that stand, and below them those that they replaced: of several of one series and time the last row
    stands. (DuckDB keeps the order of rows, and that of what UNION ALL brings together.)"""
    kept = _kept(wanted)
    if not kept:
        return _nothing_sql(wanted)
    return " UNION ALL ".join(_rows_sql(part, wanted) if part.is_hot else _part_sql(part, wanted) for part in kept)


def _nothing_sql(wanted: Selection) -> str:
    return f"SELECT 0::BIGINT AS series_id, 0::BIGINT AS at_ns, NULL::{SQL_TYPES[wanted.type]} AS value WHERE false"


def _picked_sql(source: str, wanted: Selection) -> str:
    """What has columns of a selection's parts, without series that its `condition` left."""
    if wanted.is_exact or wanted.series_ids is None:
        return source
    return f"SELECT * FROM ({source}) WHERE {one_of('series_id', wanted.series_ids)}"  # noqa: S608 - integers only


def _overlapping(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts in groups, so that no part's times overlap with those of another group. In each, the order stays."""
    groups: list[list[Part]] = []
    reach_ns = EARLIEST_NS
    for part in sorted(parts, key=lambda part: part.first_ns):
        if groups and part.first_ns <= reach_ns:
            groups[-1].append(part)
        else:
            groups.append([part])
        reach_ns = max(reach_ns, part.last_ns)
    for group in groups:
        group.sort(key=lambda part: part.last_generation)
    return groups


def _standing_sql(parts: Sequence[Part], wanted: Selection) -> str:
    """The points that stand of parts that may have the same times.

    Two are united by leaving out of the older what the newer has: that needs memory only for the newer, which is
    usually the smaller by far. For more, which would have to be compared each with each, all are brought together by
    series and time.
    """
    if len(parts) == 1:
        return _part_sql(parts[0], wanted)
    if len(parts) == 2:
        older, newer = parts
        both = wanted._replace(
            start_ns=max(wanted.start_ns, older.first_ns, newer.first_ns),
            end_ns=min(wanted.end_ns, older.last_ns + 1, newer.last_ns + 1),
        )
        replaced = f"SELECT series_id, {_time_sql(newer, wanted)} AS at_ns FROM {newer.table}{_where(newer, both)}"  # noqa: S608 - integers only
        return (
            f"SELECT series_id, at_ns, value FROM ({_part_sql(older, wanted)}) "  # noqa: S608
            f"ANTI JOIN ({replaced}) USING (series_id, at_ns) UNION ALL {_part_sql(newer, wanted)}"
        )
    all_parts = " UNION ALL ".join(
        f"SELECT series_id, at_ns, value, {age:d} AS age FROM ({_part_sql(part, wanted)})"  # noqa: S608
        for age, part in enumerate(parts)
    )
    return f"SELECT series_id, at_ns, arg_max(value, age) AS value FROM ({all_parts}) GROUP BY series_id, at_ns"  # noqa: S608


def _part_sql(part: Part, wanted: Selection) -> str:
    """The points of one part: no two of one series and time, and none that was deleted."""
    if part.is_hot:
        return (
            f"SELECT series_id, at_ns, arg_max(value, rowid) AS value FROM {part.table}{_where(part, wanted)} "  # noqa: S608
            "GROUP BY series_id, at_ns"
        )
    source = _rows_sql(part, wanted)
    if not wanted.has_deletions:
        return source
    of_series = f" AND {wanted.condition}" if wanted.condition else ""
    return (
        f"SELECT series_id, at_ns, value FROM ({source}) kept ANTI JOIN "  # noqa: S608
        f"(SELECT series_id, first_ns, last_ns FROM deletions WHERE type = {wanted.type:d} "
        f"AND number > {part.deletions_applied:d}{of_series}) gone "
        "ON kept.series_id = gone.series_id AND kept.at_ns BETWEEN gone.first_ns AND gone.last_ns"
    )


def _rows_sql(part: Part, wanted: Selection) -> str:
    return f"SELECT series_id, {_time_sql(part, wanted)} AS at_ns, value FROM {part.table}{_where(part, wanted)}"  # noqa: S608


def _time_sql(part: Part, wanted: Selection) -> str:
    if part.is_hot:
        return "at_ns"
    factor = part.unit_ns // wanted.unit_ns
    return "time" if factor == 1 else f"time * {factor:d}"


def _where(part: Part, wanted: Selection) -> str:
    """The conditions of a selection on one part's own columns; those that all its rows fulfil are left out."""
    conditions = [wanted.condition] if wanted.condition else []
    column, unit_ns = ("at_ns", 1) if part.is_hot else ("time", part.unit_ns)
    if wanted.start_ns > part.first_ns:
        conditions.append(f"{column} >= {-(-wanted.start_ns // unit_ns):d}")
    if wanted.end_ns <= part.last_ns:
        conditions.append(f"{column} < {-(-wanted.end_ns // unit_ns):d}")
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def rows_sql(wanted: Sequence[Selection], most: int | None, *, are_oldest: bool = False) -> str:
    """The rows of `Store.rows` for series that exist, as columns `at_ns` and one per series.

    With `most`, that many of the newest, or of the oldest. Of each type only as many points as could be needed are
    turned into rows then: that many of each series.
    """
    ids = [series_id for one in wanted for series_id in one.series_ids or ()]
    if len(ids) == 1:  # its points are the rows already, and to group them takes as long as to find them
        rows = f'SELECT at_ns, value AS "{ids[0]:d}" FROM ({points_sql(wanted[0])})'  # noqa: S608 - numbers only, here and below
        return f"{_limited_sql(rows, most, are_oldest)} ORDER BY at_ns"
    columns, sources = ["at_ns"], []
    for one in wanted:
        assert one.series_ids is not None
        value = f"value_{one.type.name.lower()}"
        columns += [f'any_value({value}) FILTER (series_id = {n:d}) AS "{n:d}"' for n in one.series_ids]
        source = f"SELECT series_id, at_ns, value AS {value} FROM ({points_sql(one)})"  # noqa: S608
        sources.append(_limited_sql(source, most and most * len(one.series_ids), are_oldest))
    rows = f"SELECT {', '.join(columns)} FROM ({' UNION ALL BY NAME '.join(sources)}) GROUP BY at_ns"  # noqa: S608
    return f"{_limited_sql(rows, most, are_oldest)} ORDER BY at_ns"


def _limited_sql(source: str, most: int | None, are_oldest: bool) -> str:
    """So many rows with the latest or the earliest `at_ns`, or all of them, in any order."""
    if most is None:
        return source
    order = "" if are_oldest else " DESC"
    return f"SELECT * FROM ({source} ORDER BY at_ns{order} LIMIT {most:d})"  # noqa: S608 - integers and a word of ours


def maxima_sql(wanted: Selection) -> str:
    """Series and the greatest of its values that were not replaced."""
    return f"SELECT series_id, max(value) FROM ({points_sql(wanted)}) GROUP BY series_id"  # noqa: S608


def newest_times_sql(wanted: Selection) -> str:
    """Series and the latest of its times, for which it does not matter which of two values stands."""
    of_parts = " UNION ALL ".join(
        f"SELECT series_id, max(at_ns) AS at_ns FROM ({_part_sql(part, wanted)}) GROUP BY series_id"  # noqa: S608
        for part in wanted.parts
    )
    return f"SELECT series_id, max(at_ns) FROM ({_picked_sql(of_parts, wanted)}) GROUP BY series_id"  # noqa: S608


def times_of_sql(wanted: Selection, least: int, most: int, newest: int) -> str:
    """When a series has a value from `least` to `most`: the latest so many times."""
    span = f"value BETWEEN {least:d} AND {most:d}"
    return f"SELECT at_ns FROM ({points_sql(wanted)}) WHERE {span} ORDER BY at_ns DESC LIMIT {newest:d}"  # noqa: S608 - integers only


def times_sql(wanted: Selection, at_ns: Collection[int]) -> str:
    """Those of the given times at which a series has a point."""
    return f"SELECT DISTINCT at_ns FROM ({points_sql(wanted)}) WHERE {one_of('at_ns', at_ns)}"  # noqa: S608
