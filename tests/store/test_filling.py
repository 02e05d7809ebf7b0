"""What stands where a group has no points."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest, TooLarge
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, ValueType
from headwater.store import ARROW_TYPES
from headwater.store.filling import Filling, fill
from headwater.store.windows import Windows

WINDOWS = Windows(0, 60, every_ns=10)


def answer(value_type: ValueType, values: dict[tuple[int, int], Any], name: str = "last") -> pa.Table:
    """An answer with one column, of values by group and beginning."""
    schema = pa.schema([("group", pa.int64()), ("at_ns", pa.int64()), (name, ARROW_TYPES[value_type])])
    rows = [{"group": group, "at_ns": at_ns, name: value} for (group, at_ns), value in values.items()]
    return pa.Table.from_pylist(rows, schema)


def filled(
    value_type: ValueType, values: dict[int, Any], filling: Filling, value: Any = None, name: str = "last"
) -> list[Any]:
    """The column of one group when it was filled."""
    before = answer(value_type, {(3, at_ns): one for at_ns, one in values.items()}, name)
    table = fill(before, WINDOWS, filling, value)
    assert table.schema == before.schema
    assert table.column("group").to_pylist() == [3] * 6
    assert table.column("at_ns").to_pylist() == [0, 10, 20, 30, 40, 50]
    found: list[Any] = table.column(name).to_pylist()
    return found


def test_windows_without_points_are_null() -> None:
    assert filled(ValueType.STRING, {10: "a", 40: ""}, Filling.NULL) == [None, "a", None, None, "", None]


def test_where_no_points_are_none_are_counted() -> None:
    assert filled(ValueType.INTEGER, {10: 7}, Filling.NULL, name="count") == [0, 7, 0, 0, 0, 0]
    assert filled(ValueType.INTEGER, {10: 7}, Filling.PREVIOUS, name="count") == [None, 7, 7, 7, 7, 7]


def test_the_previous_value_goes_on() -> None:
    assert filled(ValueType.FLOAT, {10: 1.5, 30: 2.5}, Filling.PREVIOUS) == [None, 1.5, 1.5, 2.5, 2.5, 2.5]
    assert filled(ValueType.BOOLEAN, {0: True, 30: False}, Filling.PREVIOUS) == [True] * 3 + [False] * 3


def test_between_two_values_is_a_line() -> None:
    assert filled(ValueType.FLOAT, {10: 1.0, 40: 4.0}, Filling.LINEAR) == [None, 1.0, 2.0, 3.0, 4.0, None]
    assert filled(ValueType.FLOAT, {0: 1e308, 20: -1e308}, Filling.LINEAR)[1] == 0.0
    assert filled(ValueType.STRING, {0: "a", 20: "b"}, Filling.LINEAR) == ["a", None, "b", None, None, None]
    assert filled(ValueType.BOOLEAN, {0: False, 20: True}, Filling.LINEAR)[1] is None


def test_a_line_of_integers_is_of_the_nearest_integers() -> None:
    assert filled(ValueType.INTEGER, {0: 0, 30: 2, 50: -1}, Filling.LINEAR) == [0, 1, 1, 2, 1, -1]
    assert filled(ValueType.INTEGER, {0: INTEGER_MIN, 20: INTEGER_MAX}, Filling.LINEAR)[1] == 0
    assert filled(ValueType.UNSIGNED, {0: UNSIGNED_MAX, 20: UNSIGNED_MAX}, Filling.LINEAR)[1] == UNSIGNED_MAX


def test_a_line_follows_time_and_not_the_number_of_windows() -> None:
    months = Windows(0, 90 * 86400 * 10**9, every_months=1)
    january, february, march = months.starts()
    table = fill(answer(ValueType.FLOAT, {(0, january): 0.0, (0, march): 59.0}), months, Filling.LINEAR)
    assert table.column("last").to_pylist() == [0.0, pytest.approx(31.0), 59.0]
    assert table.column("at_ns").to_pylist() == [january, february, march]


def test_a_value_takes_the_type_of_its_column() -> None:
    assert filled(ValueType.FLOAT, {10: 1.5}, Filling.VALUE, 0) == [0.0, 1.5, 0.0, 0.0, 0.0, 0.0]
    assert filled(ValueType.STRING, {10: "a"}, Filling.VALUE, "none")[0] == "none"
    for value_type, value in (
        (ValueType.INTEGER, 0.5),
        (ValueType.UNSIGNED, -1),
        (ValueType.STRING, 0),
        (ValueType.FLOAT, "x"),
        (ValueType.INTEGER, 2**63),
    ):
        with pytest.raises(BadRequest, match="last cannot be filled"):
            filled(value_type, {0: None}, Filling.VALUE, value)


def test_nulls_of_windows_with_points_are_filled_too() -> None:
    assert filled(ValueType.FLOAT, {0: 1.0, 10: None, 20: 3.0}, Filling.LINEAR)[1] == 2.0
    assert filled(ValueType.FLOAT, {0: None, 10: math.nan}, Filling.VALUE, 5)[0] == 5.0


def test_groups_are_filled_apart_and_only_those_that_have_points() -> None:
    table = fill(answer(ValueType.INTEGER, {(0, 0): 1, (2, 10): 5}), Windows(0, 30, every_ns=10), Filling.PREVIOUS)
    assert table.to_pydict() == {
        "group": [0, 0, 0, 2, 2, 2],
        "at_ns": [0, 10, 20, 0, 10, 20],
        "last": [1, 1, 1, None, 5, 5],
    }
    nothing = answer(ValueType.INTEGER, {})
    assert fill(nothing, Windows(0, 10**18, every_ns=1), Filling.NULL) == nothing


def test_filling_has_a_limit() -> None:
    two = answer(ValueType.INTEGER, {(0, 0): 1, (1, 10): 5})
    assert fill(two, WINDOWS, Filling.NULL, max_rows=12).num_rows == 12
    with pytest.raises(TooLarge, match="more than 11 windows"):
        fill(two, WINDOWS, Filling.NULL, max_rows=11)
    with pytest.raises(TooLarge):
        fill(two, Windows(0, 10**18, every_ns=1), Filling.NULL)


@given(
    values=st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 5)), st.integers(-5, 5)),
    filling=st.sampled_from([Filling.NULL, Filling.PREVIOUS, Filling.LINEAR]),
)
def test_any_answer_keeps_its_values(values: dict[tuple[int, int], int], filling: Filling) -> None:
    of_windows = {(group, number * 10): value for (group, number), value in sorted(values.items())}
    rows = fill(answer(ValueType.INTEGER, of_windows), WINDOWS, filling).to_pylist()
    assert [(row["group"], row["at_ns"]) for row in rows] == [
        (group, at_ns) for group in sorted({group for group, _ in values}) for at_ns in WINDOWS.starts()
    ]
    for row in rows:
        group, at_ns, found = row.values()
        before = [at for of, at in of_windows if of == group and at <= at_ns]
        after = [at for of, at in of_windows if of == group and at >= at_ns]
        if at_ns in before:
            assert found == of_windows[group, at_ns]
        elif filling is Filling.PREVIOUS and before:
            assert found == of_windows[group, max(before)]
        elif filling is Filling.LINEAR and before and after:
            start, end = of_windows[group, max(before)], of_windows[group, min(after)]
            exact = start + (end - start) * (at_ns - max(before)) / (min(after) - max(before))
            assert abs(found - exact) <= 0.5 + 1e-9
        else:
            assert found is None
