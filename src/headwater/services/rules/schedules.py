"""When a schedule is due. Pure: the time and the chance come in.

Local times follow the clock changes of their zone: one that a change skips is due as much later as the clock was put
forward, one that comes twice is due the first time. So each is due exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from headwater.services.rules.definitions import Every, Once, Schedule, Timed, Weekly

S_NS = 1_000_000_000
MINUTE_NS = 60 * S_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_DAYS = 9
"""A week and a day at each end: so far away is the next time at most."""


def next_after(schedule: Schedule, after_ns: int) -> int | None:
    """The first time later than `after_ns`; None when there is none any more."""
    match schedule:
        case Once(at, zone):
            at_ns = _instant_ns(datetime.fromisoformat(at), ZoneInfo(zone))
            return at_ns if at_ns > after_ns else None
        case Every(minutes, since_ns):
            step_ns = minutes * MINUTE_NS
            return max(since_ns, since_ns + ((after_ns - since_ns) // step_ns + 1) * step_ns)
        case Weekly():
            return _next_weekly(schedule, after_ns)


def fire_at_ns(timed: Timed, due_ns: int, now_ns: int, draw: Callable[[int, int], int]) -> int:
    """When to run what is due: then, or at random around it, but not before now. `draw` answers a whole number between
    two, both included."""
    fuzzy_ns = timed.fuzzy_min * MINUTE_NS
    if not fuzzy_ns:
        return due_ns
    return max(now_ns, due_ns + draw(-fuzzy_ns, fuzzy_ns))


def _next_weekly(schedule: Weekly, after_ns: int) -> int | None:
    zone = ZoneInfo(schedule.zone)
    today = _local(after_ns, zone).date()
    # From the day before: a time that a clock change skips may be due on the day after its own.
    for days in range(-1, _MOST_DAYS):
        day = today + timedelta(days=days)
        if day.weekday() in schedule.weekdays:
            at_ns = _at(day, schedule, zone)
            if at_ns > after_ns:
                return at_ns
    return None


def _at(day: date, schedule: Weekly, zone: ZoneInfo) -> int:
    return _instant_ns(datetime.combine(day, time(schedule.hour, schedule.minute)), zone)


def _instant_ns(local: datetime, zone: ZoneInfo) -> int:
    # `fold` is 0: the first of two, and for a time that does not exist the offset from before the change.
    since = local.replace(tzinfo=zone).astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * S_NS


def _local(at_ns: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(seconds=at_ns // S_NS)).astimezone(zone)
