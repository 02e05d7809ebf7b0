"""A channel elsewhere, read in windows: whatever its entries' times, each comes once, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadRequest
from headwater.exchange.thingspeak_client import Page, Row
from headwater.exchange.thingspeak_reading import FIRST_S, History, Window, blocks_of
from headwater.model.entry import ENTRY_ID
from headwater.model.series import ValueType

MADE_S = 1_700_000_000
PAGE = 10


def text_of(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Elsewhere:
    """A server with entries at these seconds, numbered in the order that they came in."""

    seconds: list[int]
    most: int = 8000
    """What it gives at most, whatever it is asked for."""
    counts_last_second: bool = True
    """Whether `end` includes all of its second; entries are a quarter of a second later than they say."""
    pages: list[int] = field(default_factory=list)

    def ask(self, start_s: int | None, end_s: int | None, results: int) -> Page:
        def is_inside(at_s: int) -> bool:
            end = None if end_s is None else end_s + (0.5 if self.counts_last_second else 0)
            return (start_s is None or start_s <= at_s) and (end is None or at_s + 0.25 <= end)

        numbered = sorted((at_s, number) for number, at_s in enumerate(self.seconds, 1) if is_inside(at_s))
        rows: list[Row] = [
            {"created_at": text_of(at_s), "entry_id": str(number), "field1": "1"}
            for at_s, number in numbered[-min(results, self.most) :]
        ]
        self.pages.append(len(rows))
        return Page({"created_at": text_of(MADE_S), "last_entry_id": str(len(self.seconds))}, rows)

    def ids(self, windows: list[Window]) -> list[int]:
        return [int(row["entry_id"] or 0) for window in windows for row in window.rows]


def in_order(seconds: list[int]) -> list[int]:
    return [number for _, number in sorted((at_s, number) for number, at_s in enumerate(seconds, 1))]


SECONDS = st.lists(
    st.one_of(
        st.integers(MADE_S, MADE_S + 60),
        st.integers(MADE_S - 10**6, MADE_S + 10**8),
        st.integers(FIRST_S + 1, MADE_S),
    ),
    max_size=60,
).filter(lambda seconds: all(seconds.count(one) < PAGE for one in seconds))


@settings(max_examples=150, deadline=None)
@given(SECONDS, st.booleans())
def test_each_entry_comes_once_and_in_order(seconds: list[int], counts_last_second: bool) -> None:
    server = Elsewhere(seconds, counts_last_second=counts_last_second)
    windows = list(History(server.ask, page_entries=PAGE).windows(None))
    assert server.ids(windows) == in_order(seconds)
    assert [window.until_s for window in windows] == sorted(window.until_s for window in windows)


@settings(max_examples=100, deadline=None)
@given(SECONDS, st.integers(0, 60))
def test_it_goes_on_behind_any_window(seconds: list[int], stopped_after: int) -> None:
    """What was stored when it stopped, and what comes then, is everything; at most the newest second comes twice."""
    server = Elsewhere(seconds)
    stored = list(History(server.ask, page_entries=PAGE).windows(None))[:stopped_after]
    until_s = stored[-1].until_s if stored else None
    rest = server.ids(list(History(server.ask, page_entries=PAGE).windows(until_s)))
    twice = set(server.ids(stored)) & set(rest)
    assert [one for one in server.ids(stored) if one not in twice] + rest == in_order(seconds)
    assert {seconds[one - 1] for one in twice} <= {max(seconds, default=0)}


def test_a_regular_channel_takes_few_requests() -> None:
    server = Elsewhere([MADE_S + 15 * number for number in range(60_000)])
    assert server.ids(list(History(server.ask).windows(None))) == list(range(1, 60_001))
    assert len(server.pages) < 25
    server.pages.clear()
    small = Elsewhere([MADE_S, MADE_S + 5])
    assert small.ids(list(History(small.ask).windows(None))) == [1, 2]
    assert small.pages == [2]


def test_years_without_entries_are_passed_quickly() -> None:
    seconds = [MADE_S + number for number in range(9000)] + [MADE_S + 10**9 + number for number in range(9000)]
    server = Elsewhere(seconds)
    assert server.ids(list(History(server.ask).windows(None))) == in_order(seconds)
    assert len(server.pages) < 50


def test_a_server_that_gives_fewer_than_it_is_asked_for() -> None:
    server = Elsewhere([MADE_S + 7 * number for number in range(2000)], most=300)
    assert server.ids(list(History(server.ask).windows(None))) == list(range(1, 2001))


def test_more_in_one_second_than_can_be_had() -> None:
    server = Elsewhere([MADE_S] * 12)
    with pytest.raises(BadRequest, match="in one second"):
        list(History(server.ask, page_entries=PAGE).windows(None))


def test_a_time_that_is_none() -> None:
    def ask(start_s: int | None, end_s: int | None, results: int) -> Page:
        return Page({"last_entry_id": "7"}, [{"created_at": "yesterday", "entry_id": "7"}])

    with pytest.raises(BadRequest, match="entry 7 has no time that can be read: 'yesterday'"):
        History(ask)


def test_a_window_becomes_blocks_that_say_how_far_they_got() -> None:
    rows: list[Row] = [
        {"created_at": text_of(MADE_S), "entry_id": str(number), "field1": "20.50", "status": "on"}
        for number in range(1, 8001)
    ]
    blocks = list(blocks_of(Window(rows, MADE_S), 3, 9))
    assert len(blocks) > 1
    assert [block.end_row for block in blocks] == [3] * (len(blocks) - 1) + [9]
    ids, times = [], []
    for block in blocks:
        assert block.are_entries
        series = [one[2] for one in block.series].index(ENTRY_ID)
        columns = block.columns[ValueType.INTEGER]
        ids += [value for index, value in zip(columns.series_ids, columns.values, strict=True) if index == series]
        times += [at for index, at in zip(columns.series_ids, columns.at_ns, strict=True) if index == series]
    assert ids == list(range(1, 8001))
    assert times == [MADE_S * 10**9 + number for number in range(8000)]  # of one second, so a nanosecond apart
