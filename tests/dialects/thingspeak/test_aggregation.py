"""Buckets of time, by the rules of ThingSpeak's open-source server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.aggregation import (
    Aggregation,
    Method,
    aggregate,
    parse_aggregation,
    parse_number,
    round_text,
)
from headwater.model.entry import Entry

HOUR_NS = 3_600_000_000_000
MINUTE_NS = 60_000_000_000
FAR = 8_000


def entries(*minutes_and_texts: tuple[float, str | None]) -> list[Entry]:
    return [
        Entry(number, int(minute * MINUTE_NS), {} if text is None else {1: text})
        for number, (minute, text) in enumerate(minutes_and_texts, 1)
    ]


def texts(method: Method, found: list[Entry], decimals: int | None = None, most: int = FAR) -> list[str | None]:
    return [bucket.fields.get(1) for bucket in aggregate(found, Aggregation(method, HOUR_NS), [1], decimals, most)]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"timescale": "10"}, (Method.TIMESCALE, 10)),
        ({"median": "daily"}, (Method.MEDIAN, 1440)),
        ({"median": "60", "average": "30", "sum": "20"}, (Method.SUM, 20)),
        ({"average": "7", "median": "15"}, (Method.MEDIAN, 15)),
        ({"timescale": "0"}, None),
        ({"average": "x"}, None),
        ({}, None),
    ],
)
def test_which_one_applies(parameters: dict[str, str], expected: tuple[Method, int] | None) -> None:
    found = parse_aggregation(parameters)
    assert found == (None if expected is None else Aggregation(expected[0], expected[1] * MINUTE_NS))


def test_every_bucket_is_there() -> None:
    found = entries((61, "1"), (62, "2"), (250, "3"))
    buckets = aggregate(found, Aggregation(Method.SUM, HOUR_NS), [1, 2], None, FAR)
    assert [bucket.at_ns // HOUR_NS for bucket in buckets] == [1, 2, 3, 4]
    assert [bucket.fields for bucket in buckets] == [{1: "3.0"}, {}, {}, {1: "3.0"}]
    assert aggregate([], Aggregation(Method.SUM, HOUR_NS), [1], None, FAR) == []


def test_a_mean_counts_what_is_missing_as_0() -> None:
    found = entries((0, "5"), (1, None), (2, "on"), (3, "1e3"), (4, "46"))
    assert texts(Method.AVERAGE, found) == ["10.2"]
    assert texts(Method.SUM, found) == ["51.0"]
    assert texts(Method.MEDIAN, found) == ["25.5"]
    assert texts(Method.MEDIAN, entries((0, "3"), (1, "1"), (2, "2"))) == ["2.0"]
    assert texts(Method.AVERAGE, entries((0, "on"), (1, None))) == [None]


def test_a_timescale_is_the_first_entry_as_it_was() -> None:
    found = entries((0, "on"), (1, "2"), (60, None), (61, "3"), (120, "1.25"))
    assert texts(Method.TIMESCALE, found) == ["on", None, "1.25"]
    assert texts(Method.TIMESCALE, found, 1) == ["on", None, "1.2"]


def test_numbers_are_shown_as_thingspeak_shows_them() -> None:
    assert texts(Method.AVERAGE, entries(*((n, "51") for n in range(7)))) == ["51.0"]
    assert texts(Method.AVERAGE, entries((0, "51"), *((n, "0") for n in range(1, 7)))) == ["7.285714285714286"]
    assert texts(Method.AVERAGE, entries((0, "51"), (1, "0"), (2, "0")), 2) == ["17.00"]
    assert texts(Method.SUM, entries((0, "1,5"), (1, "2"))) == ["3,5"], "a comma stays a comma"


def test_a_long_gap_does_not_make_a_long_answer() -> None:
    found = entries((0, "1"), (60 * 24 * 365 * 50, "2"))
    buckets = aggregate(found, Aggregation(Method.SUM, HOUR_NS), [1], None, 100)
    assert len(buckets) == 100
    assert buckets[-1].fields == {1: "2.0"}


@pytest.mark.parametrize("text", ["1", "-1.5", "+7", "0,5", " 3 "])
def test_numbers(text: str) -> None:
    assert parse_number(text) == float(text.replace(",", "."))


@pytest.mark.parametrize("text", ["", "1e3", "nan", "INF", ".5", "5.", "0x1", "1 2", "\u0663", "1\n2"])
def test_no_numbers(text: str) -> None:
    assert parse_number(text) is None
    assert round_text(text, 2) == text


def test_rounding() -> None:
    assert round_text("21.456", 2) == "21.46"
    assert round_text("21", 2) == "21.00"
    assert round_text("21,456", 0) == "21"
    assert round_text("21.456", None) == "21.456"


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.none() | st.sampled_from(["1", "2.5", "-3", "on"])), max_size=30),
    st.sampled_from(list(Method)),
)
def test_every_entry_is_in_one_bucket(points: list[tuple[int, str | None]], method: Method) -> None:
    found = entries(*sorted(points, key=lambda point: point[0]))
    buckets = aggregate(found, Aggregation(method, HOUR_NS), [1], None, FAR)
    begins = [bucket.at_ns for bucket in buckets]
    assert begins == (list(range(begins[0], begins[-1] + 1, HOUR_NS)) if begins else [])
    assert {entry.at_ns // HOUR_NS * HOUR_NS for entry in found} <= set(begins)
    if method is Method.SUM:
        numbers = [float(text) for _, text in points if text not in (None, "on")]
        assert sum(float(text) for bucket in buckets if (text := bucket.fields.get(1))) == pytest.approx(sum(numbers))
