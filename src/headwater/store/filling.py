"""Fills the windows in which a group has no points. Pure: works on what `Store.windows` answered."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.store import MAX_WINDOW_ROWS
from headwater.store.aggregates import Function, too_many_rows
from headwater.store.windows import Windows


class Filling(enum.StrEnum):
    """What stands in the place of a value that is not there."""

    NULL = "null"
    """Nothing, except that there are 0 points where points were counted."""
    PREVIOUS = "previous"
    """The value of the latest window before, of the same group; nothing where there is none."""
    LINEAR = "linear"
    """What is between the windows before and after, by time, of the same group: of integers the nearest integer.
    Nothing before the first and after the last one, and in columns of strings and booleans."""
    VALUE = "value"
    """The same everywhere."""


def fill(
    answer: pa.Table, windows: Windows, filling: Filling, value: Any = None, *, max_rows: int = MAX_WINDOW_ROWS
) -> pa.Table:
    """An answer of `Store.windows` with a row for every window of each group that it has, and its nulls filled.

    Nulls of windows that have points (the deviation of a single one) are filled like the others, and so are counts.

    Args: `windows`, those of the answer, whose span may be longer or shorter as long as it has all rows of the answer;
    `value`, for `Filling.VALUE` alone.

    Raises `TooLarge` for more than `max_rows` rows, `BadRequest` for a value that is not of a column's type.
    """
    groups = answer.column("group").unique().to_pylist()
    if len(groups) * windows.count() > max_rows:
        raise too_many_rows(max_rows)
    starts = list(windows.starts()) if groups else []
    row_of = {start: number for number, start in enumerate(starts)}
    first_row_of = {group: number * len(starts) for number, group in enumerate(groups)}
    keys = zip(answer.column("group").to_pylist(), answer.column("at_ns").to_pylist(), strict=True)
    rows = [first_row_of[group] + row_of[at_ns] for group, at_ns in keys]
    columns = {
        "group": pa.array([group for group in groups for _ in starts], pa.int64()),
        "at_ns": pa.array(starts * len(groups), pa.int64()),
    }
    for field in answer.schema:
        if field.name in columns:
            continue
        values = [None] * (len(groups) * len(starts))
        for row, found in zip(rows, answer.column(field.name).to_pylist(), strict=True):
            values[row] = found
        filled: list[Any] = []
        for first_row in first_row_of.values():
            of_group = values[first_row : first_row + len(starts)]
            filled += _filled(of_group, starts, field, filling, value)
        columns[field.name] = pa.array(filled, field.type)
    return pa.table(columns, schema=answer.schema)


def _filled(
    values: Sequence[Any], starts: Sequence[int], field: pa.Field, filling: Filling, value: Any
) -> Sequence[Any] | Iterator[Any]:
    """The values of one column and group, one for each window."""
    match filling:
        case Filling.PREVIOUS:
            return _previous(values)
        case Filling.LINEAR:
            is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
            return _linear(values, starts) if is_number else values
        case Filling.VALUE:
            instead = _typed(value, field)
        case Filling.NULL:
            instead = 0 if field.name == Function.COUNT else None
    return [instead if one is None else one for one in values]


def _typed(value: Any, field: pa.Field) -> Any:
    with suppress(pa.ArrowException, TypeError, OverflowError):
        typed = pa.scalar(value, field.type).as_py()
        if typed == value:  # Arrow makes an integer of 0.5 without a word
            return typed
    raise BadRequest(f"{field.name} cannot be filled with a value of another type")


def _previous(values: Sequence[Any]) -> Iterator[Any]:
    latest = None
    for one in values:
        latest = latest if one is None else one
        yield latest


def _linear(values: Sequence[Any], starts: Sequence[int]) -> list[Any]:
    filled = list(values)
    known = [row for row, one in enumerate(values) if one is not None]
    for before, after in pairwise(known):
        for row in range(before + 1, after):
            passed_ns, whole_ns = starts[row] - starts[before], starts[after] - starts[before]
            filled[row] = _between(values[before], values[after], passed_ns, whole_ns)
    return filled


def _between(before: Any, after: Any, passed_ns: int, whole_ns: int) -> Any:
    if isinstance(before, int):  # exact, and half is rounded up
        return before + (2 * (after - before) * passed_ns + whole_ns) // (2 * whole_ns)
    share = passed_ns / whole_ns
    return before * (1 - share) + after * share  # not by the difference: that of two large numbers is infinite
