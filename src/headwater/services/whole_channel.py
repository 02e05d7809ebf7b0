"""Every entry of a channel, oldest first, a page at a time: for exports. Knows no form of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services.entries import Entries

PER_PAGE = 10_000


async def pages_of(entries: Entries, channel: Channel, per_page: int = PER_PAGE) -> AsyncIterator[list[Entry]]:
    """The entries up to the one that was the newest when this began; what comes behind it meanwhile is left out. Raises
    StorageError."""
    newest = await entries.newest(channel, 1)
    if not newest:
        return
    start_ns: int | None = None
    while True:
        page, start_ns = await entries.following(channel, per_page, start_ns, newest[-1].at_ns + 1)
        if page:
            yield page
        if start_ns is None:
            return
