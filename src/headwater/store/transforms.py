"""What can be made of the values of one series, or of one group of an answer, in the order of time. Pure.

Definitions (those of InfluxQL, where it has them). Values that are not there (null) are left out first; `before` is the
value that then comes before, and each result has the time of the value it was made at:

- `difference`: value - before. Integers give integers, unsigned ones too (they may get smaller).
- `derivative`: the difference divided by the time that passed, per unit. Always a float.
- `cumulative_sum`: the sum of all values so far. Integers give integers of the same type.
- `moving_average`: the mean of the last so many values, from the first of which there are so many. Always a float.
- `elapsed`: how many whole units passed since the value before. An integer.
- `integral`: the area below the straight lines between values (negative where these are), per unit. Always a float.
  With windows, each has the area between its borders: a line that crosses a border is cut there. Windows without a
  value between two that have one have their part too (InfluxQL adds it to the next window with a value). A single value
  has the area 0.

The variants that are not negative leave out results below 0 (a counter that was set back). Integers that do not fit in
64 bits are an error, never wrapped or rounded; floats follow IEEE 754.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX
from headwater.store import MAX_WINDOW_ROWS
from headwater.store.aggregates import too_many_rows
from headwater.store.windows import Windows


class Curve(NamedTuple):
    """Values by strictly ascending times. None of them is null."""

    at_ns: list[int]
    values: list[Any]
    type: pa.DataType
    """Of the values: float64, int64 or uint64."""


def transform(answer: pa.Table, name: str, made: Callable[[Curve], Curve]) -> pa.Table:
    """One column of an answer of `Store.windows` (columns `group` and `at_ns`, ascending), transformed for each group
    by itself: columns `group`, `at_ns` and the one named.

    Raises `BadRequest` for values that are not numbers, and what `made` raises.
    """
    numbers = answer.select(["group", "at_ns", name]).filter(answer.column(name).is_valid())
    value_type = numbers.schema.field(name).type
    if value_type not in (pa.float64(), pa.int64(), pa.uint64()):
        raise BadRequest(f"{name} is not of numbers, and only of those there are differences, sums and means")
    curves: dict[int, Curve] = {}
    rows = zip(*(numbers.column(column).to_pylist() for column in numbers.column_names), strict=True)
    for group, at_ns, value in rows:
        curve = curves.setdefault(group, Curve([], [], value_type))
        curve.at_ns.append(at_ns)
        curve.values.append(value)
    results = {group: made(curve) for group, curve in curves.items()}
    result_type = made(Curve([], [], value_type)).type
    return pa.table(
        {
            "group": pa.array([group for group, one in results.items() for _ in one.at_ns], pa.int64()),
            "at_ns": pa.array([at_ns for one in results.values() for at_ns in one.at_ns], pa.int64()),
            name: pa.array([value for one in results.values() for value in one.values], result_type),
        }
    )


def difference(curve: Curve, *, non_negative: bool = False) -> Curve:
    """What each value is more than the one before. Raises BadRequest for one that does not fit in 64 bits."""
    steps = [after - before for before, after in pairwise(curve.values)]
    kept = [
        (at_ns, step) for at_ns, step in zip(curve.at_ns[1:], steps, strict=True) if not (non_negative and step < 0)
    ]
    result_type = curve.type if pa.types.is_floating(curve.type) else pa.int64()
    return _curve(kept, result_type, "difference")


def derivative(curve: Curve, unit_ns: int, *, non_negative: bool = False) -> Curve:
    """How much the value changes per unit of time. Raises BadRequest for a unit that is not above 0."""
    _check_unit(unit_ns)
    kept = []
    for (at_ns, before), (after_ns, after) in pairwise(zip(curve.at_ns, curve.values, strict=True)):
        slope = float(after - before) / ((after_ns - at_ns) / unit_ns)
        if not (non_negative and slope < 0):
            kept.append((after_ns, slope))
    return _curve(kept, pa.float64(), "derivative")


def cumulative_sum(curve: Curve) -> Curve:
    """The sum of all values so far. Raises BadRequest for one that does not fit its type."""
    return _curve(zip(curve.at_ns, accumulate(curve.values), strict=True), curve.type, "cumulative sum")


def moving_average(curve: Curve, count: int) -> Curve:
    """The mean of the last `count` values. Raises BadRequest for less than 1."""
    if count < 1:
        raise BadRequest("a moving average is of at least one value")
    kept, sums = [], _MovingSum()
    for number, (at_ns, value) in enumerate(zip(curve.at_ns, curve.values, strict=True), start=1):
        sums.push(value)
        if number >= count:
            kept.append((at_ns, float(sums.total() / count)))
            sums.pop()
    return _curve(kept, pa.float64(), "moving average")


def elapsed(curve: Curve, unit_ns: int) -> Curve:
    """How many whole units passed since the value before. Raises BadRequest for a unit that is not above 0."""
    _check_unit(unit_ns)
    passed = [(after - before) // unit_ns for before, after in pairwise(curve.at_ns)]
    return _curve(zip(curve.at_ns[1:], passed, strict=True), pa.int64(), "time that passed")


def integral(curve: Curve, unit_ns: int, windows: Windows | None = None, *, max_rows: int = MAX_WINDOW_ROWS) -> Curve:
    """The area below the curve, value times units of time: of everything, with the time of the first value; or of each
    window from that of the first value to that of the last, with the time at which the window begins.

    Raises BadRequest for a unit that is not above 0, TooLarge for more than `max_rows` windows.
    """
    _check_unit(unit_ns)
    if not curve.at_ns:
        return Curve([], [], pa.float64())
    starts = curve.at_ns[:1] if windows is None else _starts(windows, curve.at_ns[0], curve.at_ns[-1], max_rows)
    areas = [0.0] * len(starts)
    window = 0
    for (at_ns, value), (last_ns, last) in pairwise(zip(curve.at_ns, map(float, curve.values), strict=True)):
        from_ns, height = at_ns, value
        while window + 1 < len(starts) and starts[window + 1] <= last_ns:
            border_ns = starts[window + 1]
            share = (border_ns - at_ns) / (last_ns - at_ns)
            at_border = value * (1 - share) + last * share
            areas[window] += (height / 2 + at_border / 2) * ((border_ns - from_ns) / unit_ns)
            from_ns, height = border_ns, at_border
            window += 1
        areas[window] += (height / 2 + last / 2) * ((last_ns - from_ns) / unit_ns)
    return Curve(starts, areas, pa.float64())


def _starts(windows: Windows, first_ns: int, last_ns: int, max_rows: int) -> list[int]:
    """When the windows of all times from the first to the last begin."""
    progressions = windows.progressions(first_ns, last_ns)
    if sum(one.length for one in progressions) > max_rows:
        raise too_many_rows(max_rows)
    return [start for first, last, every in progressions for start in range(first, last + 1, every)]


class _MovingSum:
    """The sum of a queue of numbers, without ever taking one away from a sum: what was infinite or very large leaves
    nothing behind. Each number is added twice."""

    def __init__(self) -> None:
        self._sums_from: list[Any] = []
        """Of the older numbers, from the newest back: the sum of each and all newer ones of them."""
        self._newer: list[Any] = []
        self._sum_of_newer: Any = 0

    def push(self, value: Any) -> None:
        self._newer.append(value)
        self._sum_of_newer += value

    def pop(self) -> None:
        """Let go of the oldest."""
        if not self._sums_from:
            self._sums_from = list(accumulate(reversed(self._newer)))
            self._newer, self._sum_of_newer = [], 0
        self._sums_from.pop()

    def total(self) -> Any:
        return self._sums_from[-1] + self._sum_of_newer if self._sums_from else self._sum_of_newer


def _check_unit(unit_ns: int) -> None:
    if unit_ns < 1:
        raise BadRequest("the unit of time must be longer than nothing")


def _curve(points: Iterable[tuple[int, Any]], value_type: pa.DataType, what: str) -> Curve:
    """Results with their times, once it is certain that they fit their type."""
    points = list(points)
    values = [value for _, value in points]
    if values and not pa.types.is_floating(value_type):
        least, greatest = (0, UNSIGNED_MAX) if value_type == pa.uint64() else (INTEGER_MIN, INTEGER_MAX)
        if min(values) < least or max(values) > greatest:
            raise BadRequest(f"a {what} does not fit in 64 bits: ask for a shorter time, or for floats")
    return Curve([at_ns for at_ns, _ in points], values, value_type)
