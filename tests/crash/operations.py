"""What the process does that is killed, by number: so that both sides know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns

SERIES = (
    Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT),
    Series(2, SeriesKey(1, "m"), "g", ValueType.STRING),
)
PER_BATCH = 40
Points: TypeAlias = dict[tuple[int, int], float | str]


@dataclass(frozen=True)
class Append:
    """Points of both series from a time on, some of which replace those of the batch before."""

    number: int
    start_ns: int

    def batch(self) -> Batch:
        floats, texts = Columns(ValueType.FLOAT), Columns(ValueType.STRING)
        for at_ns in range(self.start_ns, self.start_ns + PER_BATCH):
            floats.append(1, at_ns, float(self.number))
            texts.append(2, at_ns, f"{self.number}")
        return Batch([], {ValueType.FLOAT: floats, ValueType.STRING: texts})

    def apply(self, points: Points) -> None:
        for at_ns in range(self.start_ns, self.start_ns + PER_BATCH):
            points[1, at_ns] = float(self.number)
            points[2, at_ns] = f"{self.number}"


@dataclass(frozen=True)
class Delete:
    """A span of one series, partly of old points, which are in runs by now."""

    series_id: int
    start_ns: int
    end_ns: int

    def apply(self, points: Points) -> None:
        for at_ns in range(self.start_ns, self.end_ns):
            points.pop((self.series_id, at_ns), None)


@dataclass(frozen=True)
class Expire:
    """All points of both series before a time, as when a retention has passed: whole runs, and a part of one."""

    end_ns: int

    def apply(self, points: Points) -> None:
        for series_id, at_ns in [key for key in points if key[1] < self.end_ns]:
            del points[series_id, at_ns]


def operation(number: int) -> Append | Delete | Expire:
    """Mostly new points in the order of their times; at times old ones again, at times a deletion."""
    now = number * (PER_BATCH - 5)
    if number % 25 == 24:
        return Expire(now - 3_000)
    if number % 9 == 8:
        return Delete(1 + number % 2, max(0, now - 700), max(0, now - 690 + number % 50))
    if number % 13 == 12:
        return Append(number, max(0, now - 1_500))
    return Append(number, now)
