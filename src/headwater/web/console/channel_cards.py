"""Lists of channels as cards: what each shows, and which page of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.web.console.chart_data import sparkline_of

SPARKLINE_ENTRIES = 60
SPARKLINE_WIDTH, SPARKLINE_HEIGHT = 240, 48

T = TypeVar("T")


async def cards_of(services: Services, channels: Sequence[Channel]) -> list[dict[str, Any]]:
    """The cards of some channels."""
    newest = await asyncio.gather(*(services.entries.newest(channel, SPARKLINE_ENTRIES) for channel in channels))
    return [
        {
            "channel": channel,
            "last_entry_id": services.entries.last_entry_id(channel.id),
            "last": entries[-1] if entries else None,
            "sparkline": sparkline_of(entries, channel.settings.fields, SPARKLINE_WIDTH, SPARKLINE_HEIGHT),
            "sparkline_size": (SPARKLINE_WIDTH, SPARKLINE_HEIGHT),
        }
        for channel, entries in zip(channels, newest, strict=True)
    ]


def page_of(things: Sequence[T], number: str, per_page: int) -> tuple[Sequence[T], int, int]:
    """The things on one page, which page that is, and how many there are: one at least."""
    pages = max(1, -(-len(things) // per_page))
    page = max(1, int(number)) if number.isascii() and number.isdigit() and len(number) <= 6 else 1
    page = min(page, pages)
    return things[(page - 1) * per_page : page * per_page], page, pages
