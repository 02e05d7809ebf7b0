"""Every entry of a channel, oldest first, a page at a time: for exports. Knows no form of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headwater.model.entry import ENTRY_ID, Entry, channel_key
from headwater.registry.entities import Channel
from headwater.services.entries import Entries
from headwater.services.query import Column, Query

PER_PAGE = 10_000


async def pages_of(
    entries: Entries, query: Query, channel: Channel, per_page: int = PER_PAGE
) -> AsyncIterator[list[Entry]]:
    """The entries that were there when this began, as long as they are; what comes meanwhile is left out.

    The store is asked for newest entries only. So the bounds of the pages are found first, from the newest to the
    oldest: a number for each page, however many entries there are. Raises StorageError.
    """
    key, column = channel_key(channel.id), Column(ENTRY_ID, int)
    bounds: list[int] = []
    while True:
        times = (await query.rows(key, (column,), end_ns=bounds[-1] if bounds else None, newest=per_page)).at_ns
        if not times:
            break
        if not bounds:
            bounds.append(times[-1] + 1)
        bounds.append(times[0])
    for end_ns, start_ns in zip(reversed(bounds[:-1]), reversed(bounds[1:]), strict=True):
        yield await entries.newest(channel, None, start_ns, end_ns)
