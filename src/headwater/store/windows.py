"""Windows of time: where they begin, and how those without points are filled. Pure; knows no store.

A window begins at a mark of the clock and lasts until the next one. Marks are the multiples of a width, counted from
1970-01-01 00:00 (or the beginnings of months), moved by an offset. Without a time zone the clock is UTC, as in
ThingSpeak's rules; with one it is the local clock, for widths below a day too, as InfluxQL's `tz()` and Flux's
`location` have it. Weeks (7 days) so begin on Thursdays; an offset of 4 days makes that Mondays.

Where the local clock is put forward, a mark that it leaves out is the moment of the change. Where it is put back, the
marks that it shows twice begin a window only the first time, unless the width is not longer than the change: a day of
25 hours is one window, and the two hours from 02:00 to 03:00 are two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headwater.errors import BadRequest

EARLIEST_NS, LATEST_NS = -(2**63), 2**63 - 1
_SECOND_NS = 1_000_000_000
_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOOK_EVERY_S = 3 * _DAY_S
"""Clocks were never changed twice within so little time: the least in tzdata is 4 days."""
_NO_CHANGE_BEFORE_S = -170 * 365 * _DAY_S
"""Around 1800: until later, every place in tzdata kept the mean time of its longitude."""
_LONGEST_SHIFT_NS = 2 * _DAY_S * _SECOND_NS
"""More than any clock is off from UTC or was ever changed by (a day, across the date line)."""
_MAX_MONTHS = 12_000


class Progression(NamedTuple):
    """Windows that begin at `first_ns`, each `every_ns` after the one before, up to `last_ns`. A time belongs to the
    latest window that began, of the latest progression that began: the last window of one may be longer or shorter."""

    first_ns: int
    last_ns: int
    every_ns: int

    @property
    def length(self) -> int:
        """How many windows."""
        return (self.last_ns - self.first_ns) // self.every_ns + 1

    def window_of(self, at_ns: int) -> int:
        """The beginning of the window to which a time belongs that is not before the first one."""
        return min(_floor(at_ns, self.every_ns, self.first_ns), self.last_ns)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows over [start_ns, end_ns), of `every_ns` or of so many calendar months: one of the two.

    The first window may begin before `start_ns` and the last one end after `end_ns`; points outside do not count.
    Raises `BadRequest` for a width or an offset that cannot be, and for a time zone that does not exist.
    """

    start_ns: int
    end_ns: int
    every_ns: int = 0
    every_months: int = 0
    offset_ns: int = 0
    """Windows begin so much after the marks (negative: before them), on the same clock."""
    zone: str | None = None
    """An IANA name, such as `Europe/Berlin`."""

    def __post_init__(self) -> None:
        if not (0 <= self.every_ns <= LATEST_NS and 0 <= self.every_months <= _MAX_MONTHS):
            raise BadRequest("windows cannot be so wide, or negative")
        if bool(self.every_ns) is bool(self.every_months):
            raise BadRequest("windows need a width, either a duration or a number of months")
        if abs(self.offset_ns) > LATEST_NS:
            raise BadRequest("the offset of windows is too large")
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise BadRequest("the time zone must be an IANA name, such as Europe/Berlin or UTC") from error

    def progressions(self, first_ns: int, last_ns: int) -> list[Progression]:
        """The windows of all times from the first to the last (inclusive), and no others.

        A window that would begin before the first time that can be stored begins with that.
        """
        first_ns, last_ns = max(first_ns, EARLIEST_NS), min(last_ns, LATEST_NS)
        if first_ns > last_ns:
            return []
        found = self._of_months(first_ns, last_ns) if self.every_months else self._of_width(first_ns, last_ns)
        found = _joined(found, first_ns)
        first, last, every = found[0]
        if first < EARLIEST_NS:
            found[0] = Progression(EARLIEST_NS, EARLIEST_NS, every)
            if first < last:
                found.insert(1, Progression(first + every, last, every))
        return found

    def starts(self) -> Iterator[int]:
        """When the windows of the whole span begin, in order."""
        for first, last, every in self.progressions(self.start_ns, self.end_ns - 1):
            yield from range(first, last + 1, every)

    def count(self) -> int:
        """How many windows the whole span has."""
        return sum(one.length for one in self.progressions(self.start_ns, self.end_ns - 1))

    def _of_width(self, first_ns: int, last_ns: int) -> list[Progression]:
        every, offset = self.every_ns, self.offset_ns
        if self.zone is None:
            return [Progression(_floor(first_ns, every, offset), _floor(last_ns, every, offset), every)]
        found: list[Progression] = []
        for period in _periods(self.zone, first_ns - every - _LONGEST_SHIFT_NS, last_ns):
            shown = period.from_ns + period.utc_offset_ns
            mark = _ceiling(shown, every, offset)
            if period.shift_ns > 0 and mark != shown and mark - every >= shown - period.shift_ns:
                found.append(Progression(period.from_ns, period.from_ns, every))  # for the marks that were left out
            elif -every < period.shift_ns < 0:
                mark = _ceiling(shown - period.shift_ns, every, offset)  # the first that was not shown before
            last = _floor(min(period.until_ns - 1, last_ns) + period.utc_offset_ns, every, offset)
            if mark <= last:
                found.append(Progression(mark - period.utc_offset_ns, last - period.utc_offset_ns, every))
        return found

    def _of_months(self, first_ns: int, last_ns: int) -> list[Progression]:
        first = _month_number(first_ns - self.offset_ns - _LONGEST_SHIFT_NS)
        last = _month_number(last_ns - self.offset_ns + _LONGEST_SHIFT_NS)
        numbers = range(first - first % self.every_months, last + 1, self.every_months)
        starts = [_month_start_ns(number) + self.offset_ns for number in numbers]
        if self.zone is not None:
            around = starts[0] - _LONGEST_SHIFT_NS, starts[-1] + _LONGEST_SHIFT_NS
            starts = _instants(starts, _periods(self.zone, *around))
        return [Progression(start, start, 1) for start in starts if start <= last_ns]


class _Period(NamedTuple):
    """A time in which the clock of a zone is off from UTC by the same: [from_ns, until_ns)."""

    from_ns: int
    until_ns: int
    utc_offset_ns: int
    shift_ns: int
    """By how much the clock was put forward when it began (negative: back)."""


def _periods(zone: str, first_ns: int, last_ns: int) -> list[_Period]:
    """The periods of a zone from a first to a last time."""
    info = ZoneInfo(zone)

    def utc_offset(at_s: int) -> timedelta:
        offset = (_EPOCH + timedelta(seconds=at_s)).astimezone(info).utcoffset()
        assert offset is not None
        return offset

    at_s, last_s = first_ns // _SECOND_NS, last_ns // _SECOND_NS
    begun_ns, shift_ns, current = first_ns, 0, utc_offset(at_s)
    found = []
    at_s = max(at_s, min(_NO_CHANGE_BEFORE_S, last_s))
    while at_s < last_s:
        next_s = min(at_s + _LOOK_EVERY_S, last_s)
        if (changed := utc_offset(next_s)) != current:
            while next_s - at_s > 1:
                middle_s = (at_s + next_s) // 2
                if utc_offset(middle_s) == current:
                    at_s = middle_s
                else:
                    next_s = middle_s
            found.append(_Period(begun_ns, next_s * _SECOND_NS, _ns(current), shift_ns))
            begun_ns, shift_ns, current = next_s * _SECOND_NS, _ns(changed - current), changed
        at_s = next_s
    found.append(_Period(begun_ns, last_ns + 1, _ns(current), shift_ns))
    return found


def _instants(shown: Sequence[int], periods: Sequence[_Period]) -> list[int]:
    """When a local clock first shows each of some ascending times, or passes over it."""
    found, rest = [], list(reversed(periods))
    for mark in shown:
        while len(rest) > 1 and mark >= rest[-1].until_ns + rest[-1].utc_offset_ns:
            rest.pop()
        found.append(max(rest[-1].from_ns, mark - rest[-1].utc_offset_ns))
    return found


def _joined(progressions: Sequence[Progression], first_ns: int) -> list[Progression]:
    """Those that matter from a first time on, beginning with its window; those that go on evenly are made one."""
    found: list[Progression] = []
    for one in progressions:
        if one.first_ns <= first_ns:
            found = [one._replace(first_ns=one.window_of(first_ns))]
        elif found and found[-1].every_ns == one.every_ns == one.first_ns - found[-1].last_ns:
            found[-1] = found[-1]._replace(last_ns=one.last_ns)
        else:
            found.append(one)
    return found


def _month_number(at_ns: int) -> int:
    """How many months after January 1970 a time is."""
    day = _EPOCH + timedelta(seconds=at_ns // _SECOND_NS)
    return (day.year - 1970) * 12 + day.month - 1


def _month_start_ns(number: int) -> int:
    years, month = divmod(number, 12)
    return (datetime(1970 + years, month + 1, 1, tzinfo=UTC) - _EPOCH).days * _DAY_S * _SECOND_NS


def _floor(at_ns: int, every_ns: int, offset_ns: int) -> int:
    return at_ns - (at_ns - offset_ns) % every_ns


def _ceiling(at_ns: int, every_ns: int, offset_ns: int) -> int:
    return at_ns + (offset_ns - at_ns) % every_ns


def _ns(duration: timedelta) -> int:
    return (duration.days * _DAY_S + duration.seconds) * _SECOND_NS
