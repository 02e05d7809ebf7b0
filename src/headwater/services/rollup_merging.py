"""Window aggregates of neighbouring spans made one answer. Pure; knows no store and no rule."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, ValueType
from headwater.store.aggregates import Aggregate, Function

Row: TypeAlias = dict[str, Any]
_RANGES = {ValueType.INTEGER: (INTEGER_MIN, INTEGER_MAX), ValueType.UNSIGNED: (0, UNSIGNED_MAX)}


def merged(
    tables: Sequence[pa.Table],
    schema: pa.Schema,
    parted: Collection[int],
    value_type: ValueType,
    aggregates: Sequence[Aggregate],
) -> pa.Table:
    """One row for each group and window, with the columns of `aggregates`; an integer that does not fit is null.

    Args: `tables` of spans in the order of time, in this schema (with a count beside each mean, and the least and the
    greatest value for a spread); `parted`: when the windows begin that may be in several tables.
    """
    whole = pa.concat_tables([table.cast(schema) for table in tables])
    is_parted = pc.is_in(whole.column("at_ns"), value_set=pa.array(sorted(parted), pa.int64()))
    rows = _united(whole.filter(is_parted).to_pylist(), value_type)
    columns = {name: [row[name] for row in rows] for name in schema.names}
    united = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    found = pa.concat_tables([whole.filter(pc.invert(is_parted)), united])
    found = found.sort_by([("group", "ascending"), ("at_ns", "ascending")])
    answer = {"group": found.column("group"), "at_ns": found.column("at_ns")}
    for one in aggregates:
        answer[one.name] = _spread(found) if one.function is Function.SPREAD else found.column(one.name)
    return pa.table(answer)


def _spread(found: pa.Table) -> pa.Array:
    least, greatest = found.column("min"), found.column("max")
    try:
        return pc.subtract_checked(greatest, least)
    except pa.ArrowInvalid:  # does not fit in some window
        return pa.nulls(found.num_rows, least.type)


def _united(rows: Sequence[Row], value_type: ValueType) -> list[Row]:
    """Rows of the same group and window made one; earlier ones come first."""
    found: dict[tuple[int, int], Row] = {}
    for row in rows:
        place = row["group"], row["at_ns"]
        found[place] = _both(found[place], row) if place in found else row
    if value_type in _RANGES:
        least, greatest = _RANGES[value_type]
        for row in found.values():
            if row.get("sum") is not None and not least <= row["sum"] <= greatest:
                row["sum"] = None
    return list(found.values())


def _both(earlier: Row, later: Row) -> Row:
    row = dict(earlier)
    for name, first in earlier.items():
        second = later[name]
        match name:
            case Function.COUNT | Function.SUM:
                row[name] = first + second
            case Function.MEAN:
                whole = earlier["count"] + later["count"]
                row[name] = (first * earlier["count"] + second * later["count"]) / whole
            case Function.MIN:
                row[name] = min(first, second, key=_order)
            case Function.MAX:
                row[name] = max(first, second, key=_order)
            case Function.LAST:
                row[name] = second
    return row


def _order(value: float) -> tuple[bool, float]:
    """What sorts values so that NaN comes last."""
    return (True, 0.0) if math.isnan(value) else (False, value)
