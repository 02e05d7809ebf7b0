"""Aggregates computed in plain Python, for the store in memory. What they are is said in `aggregates`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, ValueType
from headwater.store.aggregates import Aggregate, Function
from headwater.store.windows import Progression


class Point(NamedTuple):
    at_ns: int
    series_id: int
    value: Any


_RANGES = {ValueType.INTEGER: (INTEGER_MIN, INTEGER_MAX), ValueType.UNSIGNED: (0, UNSIGNED_MAX)}


def by_window(points: Iterable[Point], progressions: Sequence[Progression]) -> dict[int, list[Point]]:
    """The points of each window, by when it begins, ascending; in it they are sorted by time and series."""
    found: dict[int, list[Point]] = {}
    for point in sorted(points, key=itemgetter(0, 1)):
        progression = progressions[bisect_right(progressions, point.at_ns, key=itemgetter(0)) - 1]
        found.setdefault(progression.window_of(point.at_ns), []).append(point)
    return found


def aggregated(aggregate: Aggregate, value_type: ValueType, points: Sequence[Point]) -> Any:
    """One aggregate of the points of a window; None for an integer that does not fit its type."""
    values = [point.value for point in points]
    if aggregate.function is Function.PERCENTILE:
        rank = math.ceil(aggregate.fraction * len(values))
        return sorted(values, key=_order)[max(rank, 1) - 1]
    result = _FUNCTIONS[aggregate.function](values)
    if aggregate.function in (Function.SUM, Function.SPREAD) and value_type in _RANGES:
        least, greatest = _RANGES[value_type]
        return result if least <= result <= greatest else None
    return result


def _order(value: Any) -> tuple[bool, Any]:
    """What sorts values so that NaN comes last, and all NaN are one."""
    is_nan = value != value
    return is_nan, 0.0 if is_nan else value


def _mean(values: Sequence[Any]) -> float:
    return float(sum(values) / len(values))


def _median(values: Sequence[Any]) -> float:
    middle = sorted(values, key=_order)[(len(values) - 1) // 2 : len(values) // 2 + 1]
    return float(middle[0] if middle[0] == middle[-1] else middle[0] / 2 + middle[-1] / 2)


def _mode(values: Sequence[Any]) -> Any:
    counted = Counter(map(_order, values))
    most = max(counted.values())
    is_nan, value = min(key for key, count in counted.items() if count == most)
    return math.nan if is_nan else value


def _stddev(values: Sequence[Any]) -> float | None:
    if len(values) < 2:
        return None
    mean = squares = 0.0
    for count, value in enumerate(map(float, values), start=1):  # Welford: no difference of large sums
        step = value - mean
        mean += step / count
        squares += step * (value - mean)
    return math.sqrt(squares / (len(values) - 1))


def _min(values: Sequence[Any]) -> Any:
    return min(values, key=_order)


def _max(values: Sequence[Any]) -> Any:
    return max(values, key=_order)


_FUNCTIONS: Mapping[Function, Callable[[Sequence[Any]], Any]] = {
    Function.COUNT: len,
    Function.SUM: sum,
    Function.MEAN: _mean,
    Function.MEDIAN: _median,
    Function.MODE: _mode,
    Function.STDDEV: _stddev,
    Function.SPREAD: lambda values: _max(values) - _min(values),
    Function.MIN: _min,
    Function.MAX: _max,
    Function.FIRST: itemgetter(0),
    Function.LAST: itemgetter(-1),
}
