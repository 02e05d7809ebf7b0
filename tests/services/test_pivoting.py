"""Rows put together from several answers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from headwater.services.grouping import Group
from headwater.services.pivoting import pivot
from headwater.services.query import Windowed


def group(room: str, *series_ids: int) -> Group:
    return Group("air", None, (("room", room),), series_ids)


def windowed(groups: list[Group], rows: list[tuple[int, int, Any]], name: str, value_type: pa.DataType) -> Windowed:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = {"group": pa.int64(), "at_ns": pa.int64(), name: value_type}
    arrays = [pa.array(column, one) for column, one in zip(columns, types.values(), strict=True)]
    return Windowed(groups, pa.table(arrays, names=list(types)))


MEANS = windowed(
    [group("attic", 1), group("hall", 2)], [(0, 10, 1.5), (0, 20, None), (1, 10, 3.5)], "mean", pa.float64()
)
LASTS = windowed(
    [group("cellar", 5), group("hall", 6)], [(0, 10, "on"), (1, 0, "x"), (1, 10, "y")], "last", pa.string()
)


def test_groups_that_agree_are_one_and_rows_of_one_window_too() -> None:
    found = pivot([(MEANS, "mean"), (LASTS, "last")])
    assert found.groups == [group("attic", 1), group("cellar", 5), group("hall", 2, 6)]
    assert found.table.schema == pa.schema(
        [("group", pa.int64()), ("at_ns", pa.int64()), ("0", pa.float64()), ("1", pa.string())]
    )
    assert [tuple(row.values()) for row in found.table.to_pylist()] == [
        (0, 10, 1.5, None),
        (0, 20, None, None),
        (1, 10, None, "on"),
        (2, 0, None, "x"),
        (2, 10, 3.5, "y"),
    ]


@pytest.mark.parametrize("value_type", [pa.float64(), pa.int64(), pa.uint64(), pa.bool_(), pa.string()])
def test_an_answer_without_rows(value_type: pa.DataType) -> None:
    nothing = windowed([], [], "last", value_type)
    found = pivot([(nothing, "last"), (LASTS, "last")])
    assert found.table.column("1").to_pylist() == ["on", "x", "y"]
    assert found.table.column("0").type == value_type
    assert pivot([(nothing, "last")]).table.num_rows == 0
