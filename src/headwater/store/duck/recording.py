"""The SQL of records: points of many series keys, pivoted. Knows tables and series numbers; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.model.series import ValueType
from headwater.store.duck.layout import Part
from headwater.store.duck.reading import Selection, points_sql


def records_sql(
    parts: Mapping[ValueType, Sequence[Part]],
    wanted: Sequence[Selection],
    keys: Mapping[int, Mapping[str, int]],
    columns: Sequence[str],
) -> tuple[str, dict[str, list[int]]]:
    """The columns of `Store.records` for some keys by their numbers, whose series exist. With the parameters of the
    SQL."""
    number_of = {name: number for number, name in enumerate(columns)}
    places = [(n, key, number_of[name]) for key, named in keys.items() for name, n in named.items()]
    parameters = {
        "series_ids": [n for n, _, _ in places],
        "keys": [key for _, key, _ in places],
        "columns": [column for _, _, column in places],
    }
    value_of: dict[int, str] = {}
    sources = []
    for one in wanted:
        value = f"value_{one.type.name.lower()}"
        assert one.series_ids is not None
        value_of |= dict.fromkeys(one.series_ids, value)
        sources.append(f"SELECT series_id, at_ns, value AS {value} FROM ({points_sql(parts[one.type], one)})")  # noqa: S608 - numbers only, here and below
    kind_of = {column: value_of[n] for n, _, column in places}
    values = "".join(
        f", any_value({kind_of[number]}) FILTER (number = {number:d}) AS column_{number:d}"
        for number in range(len(columns))
    )
    pairs = ", ".join(
        f"unnest(${name}::BIGINT[]) AS {column}"
        for name, column in (("series_ids", "series_id"), ("keys", "key"), ("columns", "number"))
    )
    points = " UNION ALL BY NAME ".join(sources)
    sql = (
        f"SELECT key, at_ns{values} FROM ({points}) JOIN (SELECT {pairs}) places USING (series_id) "  # noqa: S608
        "GROUP BY key, at_ns ORDER BY key, at_ns"
    )
    return sql, parameters
