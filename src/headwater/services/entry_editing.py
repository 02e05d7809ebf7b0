"""Changing and deleting single entries. Knows no wire format and checks no rights: dialects do.

An entry keeps its number and its time. Its values lie in series of their own (`headwater.model.entry`), in which the
newest of one time wins: so what changes is written once more at the entry's time. A text that takes the place of a
number needs that number deleted besides, since of both the number would be read. What is written is on disk before
anything is deleted: a change that was interrupted has lost no value, though a number that was to become a text may read
as `20.5` where it had come as `20.50`, and making it once more completes it.

Of one channel, one change is made at a time. New entries never get in between: the time of an entry that exists is
taken. A channel that is cleared meanwhile ends the change with NotFound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from headwater.errors import BadRequest, NotFound
from headwater.model.entry import ENTRY_ID, LOCATION, Entry, channel_key, parse_number, spell
from headwater.model.record import Record
from headwater.model.series import Value
from headwater.registry.entities import Channel
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest

STATUS = "status"


def value_names(numbers: Iterable[int]) -> tuple[str, ...]:
    """What can be changed of an entry that has these fields."""
    return (*(f"field{number}" for number in numbers), *LOCATION, STATUS)


class EntryChange(NamedTuple):
    """New texts by the `value_names`; None where the value goes. What is not named stays."""

    texts: Mapping[str, str | None]


async def _nothing(_channel_id: int, _entry_id: int) -> None:
    """Nobody else changes entries."""


class EntryEditing:
    """Changes and deletes entries; call everything from the event loop's thread."""

    def __init__(
        self,
        entries: Entries,
        ingest: Ingest,
        catalogue: Catalogue,
        deleting: Deleting,
        horizons: Horizons,
        before_change: Callable[[int, int], Awaitable[None]] = _nothing,
    ) -> None:
        """`before_change` gets the ids of a channel and an entry; when it returns, nobody else adds to that entry."""
        self._entries = entries
        self._ingest = ingest
        self._catalogue = catalogue
        self._deleting = deleting
        self._horizons = horizons
        self._before_change = before_change
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def edit(self, channel: Channel, entry_id: int, change: EntryChange) -> Entry:
        """Change an entry. Answers it as it is then, once that is on disk. Raises NotFound and StorageError, and what
        `Ingest.write` raises."""
        async with self._turn(channel):
            await self._ingest.room()
            await self._before_change(channel.id, entry_id)
            era = self._entries.era(channel.id)
            before = await self._entries.find(channel, entry_id)
            self._check(channel, era, before.at_ns)
            after = _changed(before, change)
            key = channel_key(channel.id)
            values: dict[str, Value] = {ENTRY_ID: entry_id}
            gone: set[str] = set()
            for name, text in change.texts.items():
                old = text_of(before, name)
                if name == STATUS:
                    values |= {} if text is None else {STATUS: text}
                    gone |= {STATUS} if text is None and old is not None else set()
                    continue
                number, keeps_text = (None, False) if text is None else spell(text)
                if number is not None:
                    values[name] = number
                elif old is not None and (text is None or parse_number(old) is not None):
                    gone.add(name)
                # A text that was kept beside an equal number would go on to be read.
                if text is not None and (keeps_text or self._catalogue.find(key, f"{name}.text", str) is not None):
                    values[f"{name}.text"] = text
                elif text is None and old is not None:
                    gone.add(f"{name}.text")
            await self._ingest.write(Record(key, before.at_ns, values), is_told=False).wait()
            if gone:
                self._check(channel, era, before.at_ns)
                await self._deleting.delete_record(key, before.at_ns, gone)
            return after

    async def delete(self, channel: Channel, entry_id: int) -> Entry:
        """Delete an entry. Answers it as it was, once it is gone from the disk. Its number is never given again, not
        even if it was the last. Raises NotFound and StorageError."""
        async with self._turn(channel):
            await self._before_change(channel.id, entry_id)
            era = self._entries.era(channel.id)
            entry = await self._entries.find(channel, entry_id)
            self._check(channel, era, entry.at_ns)
            await self._entries.note_last_ids([channel.id])
            self._check(channel, era, entry.at_ns)
            await self._deleting.delete_record(channel_key(channel.id), entry.at_ns)
            return entry

    @asynccontextmanager
    async def _turn(self, channel: Channel) -> AsyncIterator[None]:
        turn = self._turns.get(channel.id)
        if turn is None:
            turn = self._turns[channel.id] = asyncio.Lock()
        async with turn:
            yield

    def _check(self, channel: Channel, era: object, at_ns: int) -> None:
        """Raises NotFound for an entry that went while something was waited for."""
        if era is None or self._entries.era(channel.id) is not era:
            raise NotFound("The channel was cleared or deleted meanwhile.")
        try:
            self._horizons.check(channel.id, at_ns)
        except BadRequest:
            raise NotFound("The entry has expired meanwhile.") from None


def text_of(entry: Entry, name: str) -> str | None:
    """One of the values of an entry by its name in `value_names`; None where it has none."""
    if name.startswith("field"):
        return entry.fields.get(int(name.removeprefix("field")))
    text: str | None = getattr(entry, name)
    return text


def _changed(entry: Entry, change: EntryChange) -> Entry:
    fields = dict(entry.fields)
    others: dict[str, str | None] = {}
    for name, text in change.texts.items():
        if not name.startswith("field"):
            others[name] = text
            continue
        number = int(name.removeprefix("field"))
        fields.pop(number, None)
        if text is not None:
            fields[number] = text
    return Entry(
        entry.entry_id,
        entry.at_ns,
        dict(sorted(fields.items())),
        others.get("latitude", entry.latitude),
        others.get("longitude", entry.longitude),
        others.get("elevation", entry.elevation),
        others.get(STATUS, entry.status),
    )
