"""Schedules of rules: the next time, clock changes included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.services.rules.definitions import Every, Once, Schedule, Timed, Weekly
from headwater.services.rules.schedules import MINUTE_NS, S_NS, fire_at_ns, next_after

BERLIN = "Europe/Berlin"
ZONES = ["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Tehran"]
EVERY_DAY = tuple(range(7))
instants = st.integers(0, 4_102_444_800).map(lambda s: s * S_NS)  # until 2100
weeklies = st.builds(
    Weekly,
    st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(ZONES),
)


def ns(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * S_NS


def times(schedule: Schedule, start: str, count: int) -> list[str]:
    at_ns, found = ns(start), []
    for _ in range(count):
        following = next_after(schedule, at_ns)
        assert following is not None
        assert following > at_ns
        at_ns = following
        found.append(datetime.fromtimestamp(at_ns // S_NS, UTC).strftime("%Y-%m-%dT%H:%M"))
    return found


def test_a_time_that_does_not_exist_is_due_once_an_hour_later() -> None:
    daily = Weekly(EVERY_DAY, 2, 30, BERLIN)
    assert times(daily, "2026-03-28T00:00", 3) == ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]


def test_a_time_that_exists_twice_is_due_the_first_time_alone() -> None:
    daily = Weekly(EVERY_DAY, 2, 30, BERLIN)
    assert times(daily, "2026-10-24T12:00", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]


def test_weekdays_are_those_of_the_zone() -> None:
    mondays = Weekly((0,), 0, 15, "Pacific/Auckland")
    assert times(mondays, "2026-11-20T00:00", 2) == ["2026-11-22T11:15", "2026-11-29T11:15"]


def test_one_time_is_due_once() -> None:
    once = Once("2026-03-29T02:30", BERLIN)
    assert next_after(once, 0) == ns("2026-03-29T01:30")
    assert next_after(once, ns("2026-03-29T01:30")) is None


@given(st.integers(1, 100_000), instants, instants)
def test_every_so_often_is_on_its_grid(minutes: int, since_ns: int, after_ns: int) -> None:
    found = next_after(Every(minutes, since_ns), after_ns)
    assert found is not None
    assert found >= since_ns
    assert (found - since_ns) % (minutes * MINUTE_NS) == 0
    assert found > after_ns or found == since_ns > after_ns
    assert found == since_ns or found - minutes * MINUTE_NS <= after_ns


@given(weeklies, instants)
def test_the_next_time_is_the_first_one_later(schedule: Weekly, after_ns: int) -> None:
    found = next_after(schedule, after_ns)
    assert found is not None
    assert after_ns < found <= after_ns + 9 * 86_400 * S_NS
    assert next_after(schedule, found - 1) == found
    # Nothing lies between: asked from anywhere in between, the answer is the same.
    assert next_after(schedule, (after_ns + found) // 2) == found


@given(weeklies, st.integers(1980, 2090))
def test_each_day_of_a_year_is_due_exactly_once(schedule: Weekly, year: int) -> None:
    """However the clocks are changed meanwhile. A zone that moves over the date line has a day less."""
    zone = ZoneInfo(schedule.zone)
    at_ns, last_ns = (int(datetime(y, 1, 1, tzinfo=zone).timestamp()) * S_NS - 1 for y in (year, year + 1))
    days = [
        datetime(year, 1, 1) + timedelta(days=n) for n in range((datetime(year + 1, 1, 1) - datetime(year, 1, 1)).days)
    ]
    expected = sum(day.weekday() in schedule.weekdays for day in days)
    count = 0
    while (found := next_after(schedule, at_ns)) is not None and found <= last_ns:
        count += 1
        local = datetime.fromtimestamp(found // S_NS, zone)
        late_min = (local.hour * 60 + local.minute) - (schedule.hour * 60 + schedule.minute)
        assert late_min % 1440 in (0, 30, 60, 120)
        at_ns = found
    assert count == expected or (schedule.zone == "Pacific/Apia" and year == 2011 and count == expected - 1)


@given(instants, st.integers(0, 60), st.integers(-3600, 3600), st.floats(0, 1))
def test_fuzzy_times_stay_near_and_never_lie_in_the_past(due: int, fuzzy: int, shift_s: int, chance: float) -> None:
    timed = Timed(Once("2026-01-01T00:00", "UTC"), fuzzy)
    now_ns = due + shift_s * S_NS
    found = fire_at_ns(timed, due, now_ns, lambda least, most: round(least + (most - least) * chance))
    if fuzzy:
        assert found >= now_ns
        assert abs(found - due) <= max(fuzzy * MINUTE_NS + 1, found == now_ns and abs(now_ns - due))
    else:
        assert found == due


@pytest.mark.parametrize("chance", [0, 1])
def test_fuzzy_times_reach_their_ends(chance: int) -> None:
    timed = Timed(Once("2026-01-01T00:00", "UTC"), 5)
    found = fire_at_ns(timed, ns("2026-01-01"), 0, lambda least, most: (least, most)[chance])
    assert found == ns("2026-01-01") + (-5, 5)[chance] * MINUTE_NS
