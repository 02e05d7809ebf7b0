"""A channel of another server, read from its oldest entry to its newest: in windows of time that fit into a page.

ThingSpeak gives the newest entries of a window, at most 8000, and times in whole seconds. So windows begin and end with
whole seconds, and one that comes back full is asked for again in smaller pieces: what lies before its newest 8000 is
not in it. Knows neither HTTP nor a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.exchange.block import Block
from headwater.exchange.entries_csv import CREATED_AT, EntryRows, entry_columns
from headwater.exchange.reading import BadLines
from headwater.exchange.thingspeak_client import Page, Row
from headwater.exchange.times import parse_time
from headwater.model.entry import ENTRY_ID

PAGE_ENTRIES = 8000
"""What ThingSpeak gives at most."""
SMALLEST_LIMIT = 100
"""A server that gives fewer at a time is none that anybody imports from."""
FIRST_S = -2_208_988_800
"""1900: no entry is older."""
HOUR_S, DAY_S = 3600, 86_400
_GROWTH = 8
_EMPTY_IN_A_ROW = 3
"""Windows without an entry, after which the next entry is looked for."""
_FILL = 0.8
"""How full the next window should be, if it is like the last."""

Ask = Callable[[int | None, int | None, int], Page]
"""See `Upstream.page`."""


class Window(NamedTuple):
    """All entries of a time."""

    rows: list[Row]
    """The oldest first."""
    until_s: int
    """No entry up to this second is missing."""


class History:
    """All entries of one channel, as they were when this was made. `channel` is what the channel is."""

    def __init__(self, ask: Ask, *, page_entries: int = PAGE_ENTRIES) -> None:
        """`page_entries`: how many to ask for at a time."""
        self._ask = ask
        self._page_entries = page_entries
        newest = ask(None, None, page_entries)
        self.channel = newest.channel
        self.last_entry_id = _whole(newest.channel.get("last_entry_id"))
        self._newest = sorted(newest.rows, key=_at_s)
        self._is_all = len(newest.rows) >= self.last_entry_id
        # A server may give fewer than it is asked for; then windows are full with that many.
        may_be_cut = len(newest.rows) >= SMALLEST_LIMIT and not self._is_all
        self._limit = min(page_entries, len(newest.rows)) if may_be_cut else page_entries

    def windows(self, after_s: int | None) -> Iterator[Window]:
        """Everything behind this second, or everything. The newest second is said to be missing still: an entry may be
        added to it."""
        if not self._newest:
            return
        newest_s = _at_s(self._newest[-1])
        if self._is_all:
            yield Window([row for row in self._newest if after_s is None or _at_s(row) > after_s], newest_s - 1)
            return
        start_s = self._oldest_s() if after_s is None else after_s + 1
        width_s = busy_width_s = DAY_S
        empty = 0
        while start_s <= newest_s:
            end_s = min(start_s + width_s - 1, newest_s)
            # A second more, which the next window has again: whether a server counts all of the last one is its secret.
            rows = self._ask(start_s, end_s + 1, self._page_entries).rows
            if len(rows) >= self._limit:
                if width_s > 1:
                    span_s = _at_s(max(rows, key=_at_s)) - _at_s(min(rows, key=_at_s))
                    width_s = max(1, min(width_s // 2, span_s * 9 // 10))
                    continue
                rows = self._rows_of(start_s)
            inside = sorted((row for row in rows if start_s <= _at_s(row) <= end_s), key=_at_s)
            yield Window(inside, min(end_s, newest_s - 1))
            start_s = end_s + 1
            if rows:
                width_s = busy_width_s = max(1, int(width_s * min(_GROWTH, _FILL * self._limit / len(rows))))
                empty = 0
                continue
            empty += 1
            width_s *= _GROWTH
            if empty == _EMPTY_IN_A_ROW and start_s <= newest_s:
                start_s, width_s, empty = self._first_s(start_s, newest_s), busy_width_s, 0

    def _rows_of(self, at_s: int) -> list[Row]:
        """Those of one second."""
        rows = self._ask(at_s, at_s, self._page_entries).rows
        if len(rows) >= self._page_entries:
            raise BadRequest(f"there are {len(rows)} entries or more in one second, of which ThingSpeak gives a part")
        return rows

    def _oldest_s(self) -> int:
        """A second with or not long before the oldest entry: most channels have none before they were made."""
        made_s = parse_second(self.channel.get(CREATED_AT))
        before_s = _at_s(self._newest[0]) if made_s is None else min(made_s, _at_s(self._newest[0]))
        older = self._ask(FIRST_S, before_s - 1, 1).rows
        return self._first_s(FIRST_S, _at_s(older[-1])) if older else before_s - 1  # whose end may not have been told

    def _first_s(self, start_s: int, some_s: int) -> int:
        """A second at most an hour before the first entry from `start_s` on; there is one up to `some_s`."""
        none_s = start_s
        while some_s - none_s > HOUR_S:
            middle_s = (none_s + some_s) // 2
            found = self._ask(start_s, middle_s, 1).rows
            # Whether an entry of the middle's own second is told does not matter: it stays inside.
            none_s, some_s = (none_s, min(middle_s, _at_s(found[-1]))) if found else (middle_s, some_s)
        return none_s


def blocks_of(window: Window, before_row: int, end_row: int) -> Iterator[Block]:
    """The points of a window. Whoever has stored all of it has got to `end_row`, else to `before_row`."""
    names = [CREATED_AT, ENTRY_ID, *(name for name in entry_columns() if any(row.get(name) for row in window.rows))]
    columns = [pa.array([row.get(name) for row in window.rows], pa.string()) for name in names]
    ids = [_whole(row.get(ENTRY_ID)) for row in window.rows]
    blocks = EntryRows(names, BadLines(may_skip=False)).blocks(columns, ids)
    waiting = next(blocks, None)
    for block in blocks:
        assert waiting is not None
        waiting.end_row = before_row
        yield waiting
        waiting = block
    if waiting is not None:
        waiting.end_row = end_row
        yield waiting


def parse_second(text: str | None) -> int | None:
    """The second that a time lies in."""
    at_ns = None if text is None else parse_time(text, 1_000_000_000)
    return None if at_ns is None else at_ns // 1_000_000_000


def _at_s(row: Row) -> int:
    at_s = parse_second(row.get(CREATED_AT))
    if at_s is None:
        raise BadRequest(f"entry {row.get(ENTRY_ID)} has no time that can be read: {str(row.get(CREATED_AT))[:40]!r}")
    return at_s


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else 0
