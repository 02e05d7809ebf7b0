"""Times as requests write them, to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.read_query import parse_read_query
from headwater.dialects.thingspeak.render import render_time
from headwater.dialects.thingspeak.times import decimals_of, free_time_ns, parse_precision, parse_time_ns
from headwater.errors import BadRequest

SECOND_NS = 1_000_000_000
AT_NS = 1_767_323_045 * SECOND_NS


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("2026-01-02 03:04:05", AT_NS),
        ("2026-01-02T03:04:05.5Z", AT_NS + 500_000_000),
        ("2026-01-02 03:04:05,25", AT_NS + 250_000_000),
        ("2026-01-02T03:04:05.123456Z", AT_NS + 123_456_000),
        ("2026-01-02T03:04:05.123456789Z", AT_NS + 123_456_789),
        ("2026-01-02T04:04:05.1234567+01:00", AT_NS + 123_456_700),
        ("2026-01-02T03:04:05.1234567899", AT_NS + 123_456_789),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_fractions(text: str, at_ns: int) -> None:
    assert parse_time_ns(text, UTC) == at_ns


@given(
    st.integers(-(2**62), 2**62),
    st.sampled_from([None, UTC, timezone(timedelta(hours=-5, minutes=-30))]),
    st.sampled_from([0, 3, 6, 9]),
)
def test_what_is_shown_is_read_again(at_ns: int, zone: timezone | None, precision: int) -> None:
    text = render_time(at_ns, zone, precision)
    assert parse_time_ns(text, UTC) == at_ns - at_ns % 10 ** (9 - precision), text
    assert decimals_of(text) == precision
    datetime.fromisoformat(text)


def test_the_precision_that_is_asked_for() -> None:
    assert [parse_precision({"precision": name}) for name in ("s", "ms", "us", "ns", "")] == [0, 3, 6, 9, 0]
    assert parse_precision({}) == 0
    with pytest.raises(BadRequest, match="s, ms, us or ns"):
        parse_precision({"precision": "minutes"})


def test_the_end_includes_what_it_names() -> None:
    for text, width_ns in (("", SECOND_NS), (".5", 100_000_000), (".500", 1_000_000), (".500000000", 1)):
        query = parse_read_query({"start": "2026-01-02 03:04:05.5", "end": f"2026-01-02 03:04:05{text}"}, 0, 8000)
        assert query.start_ns == AT_NS + 500_000_000
        assert query.end_ns == AT_NS + (500_000_000 if text else 0) + width_ns


@given(st.lists(st.integers(0, 8), max_size=30))
def test_a_free_time_is_the_first_that_nobody_has(times: list[int]) -> None:
    taken: list[int] = []
    next_free: dict[int, int] = {}
    for at_ns in times:
        expected = next(free for free in range(at_ns, 100) if free not in taken)
        taken.append(free_time_ns(at_ns, next_free))
        assert taken[-1] == expected
