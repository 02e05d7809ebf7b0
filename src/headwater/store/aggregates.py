"""What a window's points can be summed up to: the aggregates, and the types of their results. Computes nothing.

Definitions, the same in every store:

- `count`: how many points.
- `sum`: of integers an integer; one that does not fit the type is an error, it is never wrapped or rounded.
- `mean`: always a float.
- `median`: the middle value, of an even number of values the mean of the middle two; always a float.
- `percentile(p)`: nearest rank, the least value such that at least `p` percent of the values are not above it; `p` of 0
  gives the least value. (InfluxQL rounds the rank instead of raising it, so it may answer the value one below.)
- `mode`: the value that is there most often; of several the least.
- `stddev`: the standard deviation of a sample (divided by n - 1); null for a single point. Always a float.
- `min`, `max`, and `spread`, which is max - min; a spread of integers that does not fit the type is an error.
- `first`, `last`: the value of the earliest and of the latest time; of several series with a value at that time, that
  of the least (`first`) or greatest (`last`) series number.

Floats: NaN is greater than every other value (so `max` finds it, and `min` only where there is nothing else), and NaN
and infinities go into sums and what is made of them by the rules of IEEE 754. Sums of floats are taken in no
particular order: the last digits may differ from one call to the next.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

from headwater.errors import BadRequest, TooLarge
from headwater.model.series import ValueType
from headwater.store import ARROW_TYPES

_PERCENT_DIGITS = 6
"""A percentile is taken this exactly."""


class Function(enum.StrEnum):
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MEDIAN = "median"
    PERCENTILE = "percentile"
    MODE = "mode"
    STDDEV = "stddev"
    SPREAD = "spread"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"


OF_ALL_TYPES = frozenset({Function.COUNT, Function.MODE, Function.FIRST, Function.LAST})
"""The others are of numbers only, not of strings and booleans."""
_ALWAYS_FLOAT = frozenset({Function.MEAN, Function.MEDIAN, Function.STDDEV})
_NUMBERS = frozenset({ValueType.FLOAT, ValueType.INTEGER, ValueType.UNSIGNED})


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate of a query. Raises `BadRequest` for a percentile without or outside of 0 to 100."""

    function: Function
    percent: float | None = None
    """Of a percentile, and of nothing else."""

    def __post_init__(self) -> None:
        if (self.percent is None) is (self.function is Function.PERCENTILE):
            raise BadRequest("a percentile needs a number from 0 to 100, and no other aggregate has one")
        if self.percent is not None:
            if not 0 <= self.percent <= 100:
                raise BadRequest("a percentile is a number from 0 to 100")
            object.__setattr__(self, "percent", round(self.percent, _PERCENT_DIGITS) + 0.0)  # + 0.0: no -0.0

    @property
    def name(self) -> str:
        """The name of its column: `mean`, `percentile_99.9`."""
        if self.percent is None:
            return self.function.value
        return f"{self.function}_{self.percent:.{_PERCENT_DIGITS}f}".rstrip("0").rstrip(".")

    @property
    def fraction(self) -> Decimal:
        """A percentile as an exact number from 0 to 1."""
        assert self.percent is not None
        return Decimal(f"{self.percent:.{_PERCENT_DIGITS}f}") / 100


def answer_schema(value_type: ValueType, aggregates: Collection[Aggregate]) -> pa.Schema:
    """The columns of `Store.windows` for values of a type."""
    fields = [("group", pa.int64()), ("at_ns", pa.int64())]
    for aggregate in aggregates:
        arrow_type = pa.float64() if aggregate.function in _ALWAYS_FLOAT else ARROW_TYPES[value_type]
        fields.append((aggregate.name, pa.int64() if aggregate.function is Function.COUNT else arrow_type))
    return pa.schema(fields)


def common_type(value_types: Collection[ValueType], aggregates: Collection[Aggregate]) -> ValueType:
    """The type as which values of several types are aggregated together: numbers of different types as floats.

    Raises `BadRequest` where that cannot be: numbers with others, or an aggregate that their type does not have.
    """
    kinds = set(value_types) or {ValueType.FLOAT}
    if len(kinds) > 1 and not kinds <= _NUMBERS:
        raise BadRequest("strings, booleans and numbers cannot be aggregated together: ask for one kind at a time")
    if not kinds <= _NUMBERS:
        for aggregate in aggregates:
            if aggregate.function not in OF_ALL_TYPES:
                raise BadRequest(f"{aggregate.function} is of numbers only, strings and booleans do not have it")
    return kinds.pop() if len(kinds) == 1 else ValueType.FLOAT


def checked(answer: pa.Table, value_type: ValueType, aggregates: Collection[Aggregate]) -> pa.Table:
    """An answer with the types of `answer_schema`. Raises `BadRequest` for integers that did not fit: they are null."""
    for aggregate in aggregates:
        if aggregate.function in (Function.SUM, Function.SPREAD) and answer.column(aggregate.name).null_count:
            raise BadRequest(
                f"the {aggregate.function} of some window does not fit in 64 bits: ask for the mean instead"
            )
    return answer.cast(answer_schema(value_type, aggregates))


def too_many_rows(max_rows: int) -> TooLarge:
    """The error for an answer above its limit."""
    return TooLarge(f"the answer would have more than {max_rows} windows: ask for wider ones, or for a shorter time")
