"""An entry that was just written and may still be added to. Knows no limit and no wire format.

The store keeps what was written last for a series and a time, so the merged entry is written whole, with the number and
time that it has. Where a number was replaced by a text, the number has to go: it is deleted once the text is on disk.
Until then the number is read (as `20.5`, if it had come as `20.50`), and whoever sent the text has no answer yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from headwater.errors import HeadwaterError, NotFound
from headwater.model.entry import ENTRY_ID, LOCATION, MEASUREMENT, Entry, EntryUpdate, channel_key, spell
from headwater.model.record import Record
from headwater.model.series import Value
from headwater.services.deleting import Deleting, Deletion
from headwater.services.ingest import Ingest, Receipt
from headwater.services.promise import Promise
from headwater.services.selecting import SeriesFilter, equal, one_of


class EntryWrite(Promise):
    """An update on its way to the disk; resolves as the promises of `Entries` do."""

    __slots__ = ("entry",)

    def __init__(self) -> None:
        super().__init__()
        self.entry: Entry | None = None
        """What it became, or became part of: known when this is kept."""


def merged(entry: Entry, update: EntryUpdate) -> Entry:
    """The entry with everything that the update has in place of what it had."""
    return Entry(
        entry.entry_id,
        entry.at_ns,
        {**entry.fields, **update.fields},
        entry.latitude if update.latitude is None else update.latitude,
        entry.longitude if update.longitude is None else update.longitude,
        entry.elevation if update.elevation is None else update.elevation,
        entry.status if update.status is None else update.status,
    )


class OpenEntry:
    """One entry, and its additions in their order; call everything from the event loop's thread."""

    def __init__(
        self, channel_id: int, entry: Entry, ingest: Ingest, deleting: Deleting, is_there: Callable[[], bool]
    ) -> None:
        """`is_there`: whether the channel has not been cleared meanwhile."""
        self._channel_id = channel_id
        self._ingest = ingest
        self._deleting = deleting
        self._is_there = is_there
        self._is_gone = False
        self.entry = entry
        self._numbers, self._texts = set[str](), set[str]()
        """Columns that have, or had, a value at the entry's time."""
        self._waiting: deque[tuple[EntryUpdate, EntryWrite]] = deque()
        self._replacing: asyncio.Task[None] | None = None
        self._replaced = set[str]()
        for name, text in _columns(entry):
            number, keeps_text = spell(text)
            if number is not None:
                self._numbers.add(name)
            if keeps_text:
                self._texts.add(name)

    @property
    def is_merging(self) -> bool:
        """Whether something that was added is not merged in yet."""
        return self._replacing is not None

    def is_own(self, deletion: Deletion) -> bool:
        """Whether what is about to be deleted is no more than the numbers that have texts now."""
        span = deletion.start_ns, deletion.end_ns
        is_this = self._replacing is not None and span == (self.entry.at_ns, self.entry.at_ns + 1)
        return is_this and all(one.field in self._replaced for one in deletion.series)

    def end(self) -> None:
        """Somebody deletes the entry: what waits to be merged in must not bring it back."""
        self._is_gone = True

    async def settled(self) -> None:
        """Return when everything that was added is merged in."""
        while self._replacing is not None:
            await asyncio.wait([self._replacing])

    def add(self, update: EntryUpdate) -> EntryWrite:
        """Merge an update in."""
        write = EntryWrite()
        if self._replacing is None:
            self._merge(update, write)
        else:
            self._ingest.hold_room()
            self._waiting.append((update, write))
        return write

    def _merge(self, update: EntryUpdate, write: EntryWrite) -> None:
        if self._is_gone or not self._is_there():
            write.resolve(NotFound("the entry was deleted meanwhile"))
            return
        entry = merged(self.entry, update)
        values: dict[str, Value] = {ENTRY_ID: entry.entry_id}
        numbers, texts, replaced = set[str](), set[str](), set[str]()
        for name, text in _columns(entry):
            number, keeps_text = spell(text)
            if number is not None:
                values[name] = number
                numbers.add(name)
            elif name in self._numbers:
                replaced.add(name)
            if keeps_text or name in self._texts:  # an older text might spell the same number otherwise
                values[f"{name}.text"] = text
                texts.add(name)
        if entry.status is not None:
            values["status"] = entry.status
        try:
            receipt = self._ingest.write(Record(channel_key(self._channel_id), entry.at_ns, values))
        except HeadwaterError as error:
            write.resolve(error)
            return
        self.entry = write.entry = entry
        self._texts |= texts
        self._numbers = (self._numbers | numbers) - replaced
        if replaced:
            self._replaced = replaced
            self._replacing = asyncio.get_running_loop().create_task(self._replace(replaced, receipt, write))
        else:
            receipt.add_callback(write.resolve)

    async def _replace(self, names: set[str], receipt: Receipt, write: EntryWrite) -> None:
        try:
            await receipt.wait()
            if self._is_there():  # else the number goes with the rest
                numbers = SeriesFilter(self._channel_id, equal(MEASUREMENT), one_of(names))
                await self._deleting.delete(numbers, start_ns=self.entry.at_ns, end_ns=self.entry.at_ns + 1)
        except Exception as error:  # whatever it is, it belongs to whoever waits for this
            self._numbers |= names
            write.resolve(error)
        else:
            write.resolve(None)
        self._replacing = None
        while self._waiting and self._replacing is None:
            update, waiting = self._waiting.popleft()
            self._ingest.free_room()
            self._merge(update, waiting)


def _columns(entry: Entry) -> Iterator[tuple[str, str]]:
    """The entry's texts that have a number beside them, with the names of the numbers."""
    for number, text in entry.fields.items():
        yield f"field{number}", text
    for name in LOCATION:
        text = getattr(entry, name)
        if text is not None:
            yield name, text
