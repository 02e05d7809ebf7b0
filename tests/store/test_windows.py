"""Where windows begin, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadRequest
from headwater.store.windows import EARLIEST_NS, LATEST_NS, Windows

SECOND, MINUTE, HOUR, DAY = 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def local(at_ns: int, zone: str) -> datetime:
    return (EPOCH + timedelta(seconds=at_ns // SECOND)).astimezone(ZoneInfo(zone))


def shown(windows: Windows) -> list[str]:
    """When windows begin, on the local clock."""
    return [local(at_ns, windows.zone or "UTC").strftime("%d %H:%M%z") for at_ns in windows.starts()]


def test_without_a_zone_windows_are_counted_from_the_epoch() -> None:
    assert list(Windows(-1, 21, every_ns=10).starts()) == [-10, 0, 10, 20]
    assert list(Windows(-1, 21, every_ns=10, offset_ns=-7).starts()) == [-7, 3, 13]
    assert list(Windows(0, 20, every_ns=10, offset_ns=34).starts()) == [-6, 4, 14]
    assert list(Windows(5, 5, every_ns=10).starts()) == []
    assert list(Windows(6, 5, every_months=1).starts()) == []


def test_weeks_begin_on_thursdays_unless_moved() -> None:
    start, end = ns("2024-01-01T00:00Z"), ns("2024-01-15T00:00Z")
    assert [local(at, "UTC").day for at in Windows(start, end, every_ns=7 * DAY).starts()] == [28, 4, 11]
    assert [local(at, "UTC").day for at in Windows(start, end, every_ns=7 * DAY, offset_ns=4 * DAY).starts()] == [1, 8]


@pytest.mark.parametrize(
    ("zone", "start", "end", "every_ns", "expected"),
    [
        ("Europe/Berlin", "2024-03-30T23:00Z", "2024-04-01T00:00Z", DAY, ["31 00:00+0100", "01 00:00+0200"]),
        ("Europe/Berlin", "2024-10-26T22:00Z", "2024-10-28T00:00Z", DAY, ["27 00:00+0200", "28 00:00+0100"]),
        # Hours are counted by the clock, and the hour that is there twice is two.
        (
            "Europe/Berlin",
            "2024-10-26T23:00Z",
            "2024-10-27T03:00Z",
            HOUR,
            ["27 01:00+0200", "27 02:00+0200", "27 02:00+0100", "27 03:00+0100"],
        ),
        # 02:00 begins a window of two hours once, and so three hours pass.
        (
            "Europe/Berlin",
            "2024-10-26T22:00Z",
            "2024-10-27T05:00Z",
            2 * HOUR,
            ["27 00:00+0200", "27 02:00+0200", "27 04:00+0100"],
        ),
        (
            "Europe/Berlin",
            "2024-03-30T23:00Z",
            "2024-03-31T05:00Z",
            2 * HOUR,
            ["31 00:00+0100", "31 03:00+0200", "31 04:00+0200", "31 06:00+0200"],
        ),
        # Midnight is left out.
        (
            "America/Sao_Paulo",
            "2018-11-03T03:00Z",
            "2018-11-05T03:00Z",
            DAY,
            ["03 00:00-0300", "04 01:00-0200", "05 00:00-0200"],
        ),
        # Midnight is there twice: 23:00 comes again.
        ("America/Sao_Paulo", "2019-02-16T02:00Z", "2019-02-18T00:00Z", DAY, ["16 00:00-0200", "17 00:00-0300"]),
        # The clock is changed by half an hour.
        (
            "Australia/Lord_Howe",
            "2024-04-06T14:00Z",
            "2024-04-06T17:00Z",
            HOUR,
            ["07 01:00+1100", "07 02:00+1030", "07 03:00+1030"],
        ),
        (
            "Australia/Lord_Howe",
            "2024-10-05T14:30Z",
            "2024-10-05T17:00Z",
            HOUR,
            ["06 01:00+1030", "06 02:30+1100", "06 03:00+1100"],
        ),
        ("Asia/Kolkata", "2024-01-01T00:00Z", "2024-01-01T01:00Z", HOUR, ["01 05:00+0530", "01 06:00+0530"]),
        # A day that Samoa did not have.
        (
            "Pacific/Apia",
            "2011-12-29T12:00Z",
            "2011-12-31T12:00Z",
            DAY,
            ["29 00:00-1000", "31 00:00+1400", "01 00:00+1400"],
        ),
    ],
)
def test_windows_follow_the_clock(zone: str, start: str, end: str, every_ns: int, expected: list[str]) -> None:
    assert shown(Windows(ns(start), ns(end), every_ns=every_ns, zone=zone)) == expected


def test_months_begin_on_their_first_day() -> None:
    start, end = ns("2023-12-31T23:30Z"), ns("2024-04-01T00:00Z")
    utc = Windows(start, end, every_months=1)
    assert shown(utc) == ["01 00:00+0000"] * 4
    berlin = Windows(start, end, every_months=1, zone="Europe/Berlin")
    assert shown(berlin) == ["01 00:00+0100", "01 00:00+0100", "01 00:00+0100", "01 00:00+0200"]
    assert [local(at, "Europe/Berlin").month for at in berlin.starts()] == [1, 2, 3, 4]
    quarters = Windows(start, end, every_months=3, offset_ns=6 * HOUR, zone="Europe/Berlin")
    assert [str(local(at, "Europe/Berlin"))[:16] for at in quarters.starts()] == [
        "2023-10-01 06:00",
        "2024-01-01 06:00",
    ]
    years = Windows(ns("2023-06-01T00:00Z"), end, every_months=12, zone="America/Sao_Paulo")
    assert [local(at, "America/Sao_Paulo").year for at in years.starts()] == [2023, 2024]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "Pacific/Apia"])
@pytest.mark.parametrize(
    "width", [{"every_ns": LATEST_NS}, {"every_ns": 7 * DAY}, {"every_months": 1}, {"every_months": 12_000}]
)
def test_the_whole_range_of_times_has_windows(zone: str | None, width: dict[str, int]) -> None:
    for offset_ns in (0, LATEST_NS, -LATEST_NS):
        windows = Windows(-(10**30), 10**30, offset_ns=offset_ns, zone=zone, **width)
        starts = list(windows.starts())
        assert starts == sorted(set(starts))
        assert starts[0] == EARLIEST_NS
        assert starts[-1] <= LATEST_NS
        assert windows.count() == len(starts)


def test_what_cannot_be_is_refused() -> None:
    for width in ({}, {"every_ns": -1}, {"every_months": -1}, {"every_ns": 1, "every_months": 1}, {"every_ns": 2**63}):
        with pytest.raises(BadRequest, match="windows"):
            Windows(0, 1, **width)
    with pytest.raises(BadRequest, match="offset"):
        Windows(0, 1, every_ns=1, offset_ns=2**63)
    for zone in ("Europe/Nowhere", "", "../../etc/passwd", "a\0b", "Europe"):
        with pytest.raises(BadRequest, match="time zone"):
            Windows(0, 1, every_ns=1, zone=zone)


# -- against a brute-force oracle ---------------------------------------------------------------------------------

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
WIDTHS_MIN = [15, 30, 45, 60, 120, 360, 1440, 10080]


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    year=st.integers(2009, 2030),
    day=st.integers(0, 360),
    days=st.integers(1, 20),
    width=st.sampled_from(WIDTHS_MIN),
    offset=st.sampled_from([0, 30, -45, 4 * 1440]),
)
def test_windows_begin_when_the_clock_passes_a_mark(
    zone: str, year: int, day: int, days: int, width: int, offset: int
) -> None:
    """Walk a clock from quarter to quarter of an hour, and look when it passes a mark."""
    start = ns(f"{year}-01-01T00:00Z") + day * DAY + 5 * HOUR
    end = start + days * DAY
    windows = Windows(start, end, every_ns=width * MINUTE, offset_ns=offset * MINUTE, zone=zone)

    def shows(at_ns: int) -> int:
        offset = local(at_ns, zone).utcoffset()
        assert offset is not None
        return at_ns // MINUTE + int(offset.total_seconds()) // 60

    expected: list[int] = []
    at_ns = start - (width + 2 * 1440) * MINUTE
    before = furthest = shows(at_ns)
    while (at_ns := at_ns + 15 * MINUTE) < end:
        now = shows(at_ns)
        if now < before + 15 and width <= before + 15 - now:
            furthest = now - 1  # marks that are shown again count again
        if (now - offset) // width > (furthest - offset) // width:
            expected.append(at_ns)
        before, furthest = now, max(furthest, now)
    begun = [at_ns for at_ns in expected if at_ns <= start][-1:]
    assert list(windows.starts()) == begun + [at_ns for at_ns in expected if at_ns > start]
