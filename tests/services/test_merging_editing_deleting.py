"""Merging, editing, deleting and clearing at the same time, in an order that chance decides."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from test_entries import NOW_NS, channel
from test_update_limits import MERGE, World

from headwater.errors import HeadwaterError
from headwater.model.entry import ENTRY_ID, EntryUpdate, channel_key, parse_number
from headwater.services.entry_editing import EntryChange, EntryEditing
from headwater.services.horizons import Horizons
from headwater.services.query import Column

TEXTS = ("1", "1.0", "20.5", "20.50", "on", "", "nan", "7")
NAMES = ("field1", "field2", "field3", "latitude")


class History:
    """One channel with some forty things that happen to it. Without clearing, numbers are given once."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.house = World(MERGE)
        self.kernel = kernel = self.house.kernel
        self.editing = EntryEditing(
            kernel.entries,
            kernel.ingest,
            kernel.query._catalogue,
            kernel.entries._deleting,
            Horizons(),
            self.house.limits.close_entry,
        )
        self.clears = seed % 2 == 1
        self.deleted: set[int] = set()

    async def step(self) -> None:
        for _ in range(self.dice.randint(0, 6)):
            await asyncio.sleep(0)
        kind = self.dice.random()
        with suppress(HeadwaterError):
            if kind < 0.55:
                await self._send()
            elif kind < 0.75:
                change = EntryChange({self.dice.choice(NAMES): self.dice.choice([None, *TEXTS])})
                await self.editing.edit(channel(), self.dice.randint(1, 6), change)
            elif kind < 0.87:
                entry_id = self.dice.randint(1, 6)
                await self.editing.delete(channel(), entry_id)
                self.deleted.add(entry_id)
            elif kind < 0.95:
                self.house.timers.go_to(self.house.timers.now_s + 16)
            elif self.clears and kind < 0.97:
                await self.kernel.entries.clear(channel())

    async def _send(self) -> None:
        dice = self.dice
        update = EntryUpdate(
            {number: dice.choice(TEXTS) for number in dice.sample([1, 2, 3], dice.randint(1, 2))},
            latitude=dice.choice([None, *TEXTS]),
            created_at_ns=dice.choice([None, None, None, 5, 6]),
        )
        await self.house.limit().write(update, NOW_NS + round(self.house.timers.now_s * 1e9)).wait()

    async def check(self) -> None:
        entries = self.kernel.entries
        ids = [entry.entry_id for entry in await self.house.entries()]
        assert len(set(ids)) == len(ids)
        assert max(ids, default=0) <= entries.last_entry_id(7)
        assert self.clears or not self.deleted & set(ids)
        pairs = [(Column(name, float), Column(f"{name}.text", str)) for name in NAMES]
        wanted = [Column(ENTRY_ID, int), *(column for pair in pairs for column in pair)]
        rows = await self.kernel.query.rows(channel_key(7), wanted, newest=1000)
        assert None not in rows.columns[wanted[0]], "something is left of an entry that is gone"
        for number, text in pairs:
            for value, kept in zip(rows.columns[number], rows.columns[text], strict=True):
                is_number = kept is None or parse_number(str(kept)) is not None
                assert kept is None or is_number == (value is not None), "a number and another text"
        assert not self.kernel.ingest.pending_points


@pytest.mark.parametrize("first", range(0, 60, 20))
async def test_nothing_comes_back_and_nothing_stale_stays(first: int) -> None:
    for seed in range(first, first + 20):
        history = History(seed)
        await asyncio.gather(*(history.step() for _ in range(40)))
        await history.check()
        await history.kernel.close()
