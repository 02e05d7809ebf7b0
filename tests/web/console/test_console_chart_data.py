"""Entries to columns, live entries and sparklines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.model.entry import Entry
from headwater.web.console.chart_data import columns_of, live_entry_of, sparkline_of

S = 1_000_000_000


def test_columns_tell_left_out_from_not_a_number() -> None:
    entries = [
        Entry(1, 1 * S, {1: "20.5"}),
        Entry(2, 2 * S, {2: "x"}),
        Entry(3, 3 * S + 1_234_567, {1: "nan", 2: "7"}),
    ]
    columns = columns_of(entries, [1, 2, 3])
    assert columns["1"] == {"at_s": [1.0, 3.001], "numbers": [20.5, None], "last": {"text": "nan", "at_s": 3.001}}
    assert columns["2"]["numbers"] == [None, 7.0]
    assert columns["3"] == {"at_s": [], "numbers": [], "last": None}


def test_a_live_entry_carries_text_and_number() -> None:
    assert live_entry_of(Entry(9, 5 * S, {1: "21.50", 4: "on"})) == {
        "entry_id": 9,
        "at_s": 5.0,
        "fields": {"1": {"text": "21.50", "number": 21.5}, "4": {"text": "on", "number": None}},
    }


def test_a_sparkline_shows_the_first_field_with_numbers() -> None:
    entries = [Entry(1, 0, {1: "on", 2: "1"}), Entry(2, 10, {1: "off", 2: "3"}), Entry(3, 20, {2: "2"})]
    assert sparkline_of(entries, [1, 2], 100, 10) == "0.0,10.0 50.0,0.0 100.0,5.0"
    assert sparkline_of(entries, [1], 100, 10) == ""
    assert sparkline_of([], [1], 100, 10) == ""


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_a_sparkline_stays_in_its_box(numbers: list[float]) -> None:
    entries = [Entry(n, n * S, {1: repr(number)}) for n, number in enumerate(numbers)]
    for point in sparkline_of(entries, [1], 100, 10).split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 100
        assert 0 <= y <= 10
