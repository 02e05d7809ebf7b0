"""Entries: a bucket seen the ThingSpeak way, as numbered rows of texts. Knows no wire format. How an entry
lies in the store is said in `headwater.model.entry`."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from headwater.errors import BadRequest, Conflict, HeadwaterError, NotFound, TooLarge
from headwater.model.entry import (
    ENTRY_ID,
    FIELD_NUMBERS,
    LAST_ID,
    LOCATION,
    MAX_FIELDS,
    MEASUREMENT,
    NUMBERING,
    Entry,
    EntryUpdate,
    channel_key,
    parse_number,
    render_number,
    spell,
)
from headwater.model.record import Record
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, SeriesKey, Value
from headwater.registry.entities import Channel
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest, Receipt
from headwater.services.promise import Promise
from headwater.services.query import Column, Query, Rows

MAX_SPELLINGS = 20_000
"""Texts whose reading is remembered. Sensors repeat themselves: a look-up costs a tenth of a conversion."""

AT_NS_MIN, AT_NS_MAX = INTEGER_MIN, INTEGER_MAX

_NUMBER_NAMES = {n: f"field{n}" for n in range(1, MAX_FIELDS + 1)}
_TEXT_NAMES = {n: f"field{n}.text" for n in _NUMBER_NAMES}


class _Texts:
    """Names of one text's two columns."""

    __slots__ = ("number", "text")

    def __init__(self, name: str) -> None:
        self.number = Column(name, float)
        self.text = Column(f"{name}.text", str)

    def read(self, rows: Rows) -> list[str | None]:
        return [
            _text_of(number, text)
            for number, text in zip(rows.columns[self.number], rows.columns[self.text], strict=True)
        ]


def _text_of(number: Value | None, text: Value | None) -> str | None:
    if number is None:
        return None if text is None else str(text)
    assert isinstance(number, float)
    if isinstance(text, str) and parse_number(text) == number:
        return text
    return render_number(number)


_TIME_IS_TAKEN = "the channel has an entry of that time already; send another created_at, or none"
_MOST_BETWEEN, _MOST_READS = 10_000, 20
"""Entries with other numbers that may lie, by their times, between those that are looked for: so many are read with
them at once, and so often."""
_NEXT_FREE_NS = 1_000_000_000
"""Times of receipt are counted up from the last one within this distance; beyond it, the clock was set back."""

_ENTRY_ID_COLUMN = Column(ENTRY_ID, int)
_FIELDS = {n: _Texts(name) for n, name in _NUMBER_NAMES.items()}
_LOCATION = {name: _Texts(name) for name in LOCATION}
_STATUS = Column("status", str)


def _columns_of(numbers: Iterable[int]) -> tuple[Column, ...]:
    texts = (*(_FIELDS[number] for number in numbers), *_LOCATION.values())
    return (_ENTRY_ID_COLUMN, _STATUS, *(column for one in texts for column in (one.number, one.text)))


_STANDARD_COLUMNS = _columns_of(FIELD_NUMBERS)
_STANDARD_NAMES = frozenset(column.field for column in _STANDARD_COLUMNS)
_MORE_NUMBERS = {
    name: n for n in _NUMBER_NAMES if n not in FIELD_NUMBERS for name in (_NUMBER_NAMES[n], _TEXT_NAMES[n])
}


def entry_columns(numbers: Iterable[int]) -> tuple[Column, ...]:
    """What entries with these fields consist of."""
    return _STANDARD_COLUMNS if numbers is FIELD_NUMBERS else _columns_of(numbers)


class _Numbering:
    """The last entry id given out in one channel, and the times that matter for the next."""

    __slots__ = ("given_at_ns", "key", "last_at_ns", "last_id", "newest_at_ns")

    def __init__(self, key: SeriesKey, last_id: int, newest_at_ns: int) -> None:
        self.key = key
        self.last_id = last_id
        self.last_at_ns = 0
        """The last entry's time."""
        self.given_at_ns = AT_NS_MIN
        """The last time of receipt that was given out."""
        self.newest_at_ns = newest_at_ns
        """The latest time of any entry, before this process started too."""


class DatedWrite(Promise):
    """An entry with a time that others may have already; resolves once it is on disk, or with Conflict."""

    __slots__ = ("channel", "entry", "is_told", "now_ns", "numbering", "update")

    def __init__(
        self, channel: Channel, numbering: _Numbering, update: EntryUpdate, now_ns: int, is_told: bool
    ) -> None:
        super().__init__()
        self.channel = channel
        self.numbering = numbering
        self.update = update
        self.now_ns = now_ns
        self.is_told = is_told
        self.entry: Entry | None = None
        """Known from the moment it is taken in."""


class Entries:
    """Write, read and watch the entries of channels. Rights are the caller's business."""

    def __init__(
        self,
        ingest: Ingest,
        query: Query,
        catalogue: Catalogue,
        deleting: Deleting,
        horizons: Horizons | None = None,
    ) -> None:
        self._ingest = ingest
        self._horizons = horizons or Horizons()
        self._query = query
        self._catalogue = catalogue
        self._deleting = deleting
        self._numbering: dict[int, _Numbering] = {}
        self._spellings: dict[str, tuple[float | None, bool]] = {}
        self._dated: dict[int, list[DatedWrite]] = {}
        self._looking_up: dict[int, asyncio.Task[None]] = {}
        self._bulk_watchers: dict[int, list[Callable[[Sequence[Entry]], None]]] = {}

    async def recover(self) -> None:
        """Learn the last entry id and time of every channel; call once at start, before any write."""
        series = {i: key for key, i in self._catalogue.with_field(MEASUREMENT, ENTRY_ID, int)}
        newest = await self._query.newest_times(list(series))
        for series_id, last_id in (await self._query.maxima(list(series))).items():
            key = series[series_id]
            self._numbering[key.bucket_id] = _Numbering(key, last_id, newest[series_id])
        noted = {i: key.bucket_id for key, i in self._catalogue.with_field(NUMBERING, LAST_ID, int)}
        for series_id, last_id in (await self._query.maxima(list(noted))).items():
            numbering = self._numbering_of(noted[series_id])
            numbering.last_id = max(numbering.last_id, last_id)

    def last_entry_id(self, channel_id: int) -> int:
        """The newest entry's number; 0 when there is none."""
        numbering = self._numbering.get(channel_id)
        return 0 if numbering is None else numbering.last_id

    def era(self, channel_id: int) -> object:
        """The same object until the channel is cleared: then entry ids begin anew."""
        return self._numbering.get(channel_id)

    def loaded(self, channel: Channel, last_id: int, newest_at_ns: int) -> None:
        """Entries were taken in past `write`: the next ones are numbered behind them."""
        numbering = self._numbering_of(channel.id)
        numbering.last_id = max(numbering.last_id, last_id)
        numbering.newest_at_ns = max(numbering.newest_at_ns, newest_at_ns)

    # -- writing ----------------------------------------------------------------------------------------------

    def write(
        self, channel: Channel, update: EntryUpdate, now_ns: int, *, is_told: bool = True
    ) -> tuple[Entry, Receipt]:
        """Take one entry in; it exists once the receipt resolves. As `append`, and answers the entry too."""
        receipt = self.append(channel, update, now_ns, is_told=is_told)
        numbering = self._numbering[channel.id]
        return Entry(numbering.last_id, numbering.last_at_ns, update.fields, *update[1:5]), receipt

    def append(self, channel: Channel, update: EntryUpdate, now_ns: int, *, is_told: bool = True) -> Receipt:
        """Take one entry in; it exists once the receipt resolves. Raises what `Ingest.write` raises. `is_told`: whether
        those who `watch` learn of it.

        An entry without a time of its own gets `now_ns` or one of the nanoseconds that follow: times are unique in a
        channel. For an update with `created_at_ns` that is not `is_newest`, use `write_dated`.
        """
        numbering = self._numbering.get(channel.id) or self._numbering_of(channel.id)  # a call less for each message
        at_ns = update.created_at_ns
        if at_ns is not None:
            self._horizons.check(channel.id, at_ns)
        else:
            at_ns = now_ns
            # The messages of one read share a time of receipt. Counted up from the last one given, never from the
            # newest entry: that may be one with a time of its own, far in the future.
            if 0 <= numbering.given_at_ns - now_ns < _NEXT_FREE_NS:
                at_ns = numbering.given_at_ns + 1
            if at_ns == numbering.newest_at_ns:
                at_ns += 1
        entry_id = numbering.last_id + 1
        values: dict[str, Value] = {ENTRY_ID: entry_id}
        spellings = self._spellings
        for number, text in update.fields.items():
            spelling = spellings.get(text)
            if spelling is None:
                spelling = self._spell(text)
            value, keep_text = spelling
            if value is not None:
                values[_NUMBER_NAMES[number]] = value
            if keep_text:
                values[_TEXT_NAMES[number]] = text
        if update[1:5] != _NOTHING_ELSE:
            self._add_location_and_status(values, update)
        receipt = self._ingest.write(Record(numbering.key, at_ns, values), is_told)
        numbering.last_id = entry_id
        numbering.last_at_ns = at_ns
        if at_ns > numbering.newest_at_ns:
            numbering.newest_at_ns = at_ns
        if update.created_at_ns is None:
            numbering.given_at_ns = at_ns
        return receipt

    def _spell(self, text: str) -> tuple[float | None, bool]:
        if len(self._spellings) >= MAX_SPELLINGS:
            self._spellings.clear()
        spelling = self._spellings[text] = spell(text)
        return spelling

    def _add_location_and_status(self, values: dict[str, Value], update: EntryUpdate) -> None:
        for name in LOCATION:
            text = getattr(update, name)
            if text is not None:
                number, keep_text = spell(text)
                if number is not None:
                    values[name] = number
                if keep_text:
                    values[f"{name}.text"] = text
        if update.status is not None:
            values["status"] = update.status

    def _numbering_of(self, channel_id: int) -> _Numbering:
        numbering = self._numbering.get(channel_id)
        if numbering is None:
            numbering = self._numbering[channel_id] = _Numbering(channel_key(channel_id), 0, AT_NS_MIN)
        return numbering

    def is_newest(self, channel: Channel, at_ns: int) -> bool:
        """Whether a time is later than every entry's, and than those that wait: it is free without looking."""
        numbering = self._numbering_of(channel.id)
        return at_ns > numbering.newest_at_ns and channel.id not in self._dated

    def check_time(self, channel: Channel, at_ns: int) -> None:
        """Raises BadRequest for a time that no entry of the channel can have."""
        if not AT_NS_MIN < at_ns < AT_NS_MAX:
            raise BadRequest("created_at is outside the years 1677 to 2262")
        self._horizons.check(channel.id, at_ns)

    def write_dated(self, channel: Channel, update: EntryUpdate, now_ns: int, *, is_told: bool = True) -> DatedWrite:
        """Take in an entry with a time of its own, if no other has that time; who comes first gets it.

        The answer resolves once the entry is on disk; with Conflict when the time is taken, BadRequest when it cannot
        be stored, NotFound when the channel was cleared meanwhile, or what `append` raises.
        """
        write = DatedWrite(channel, self._numbering_of(channel.id), update, now_ns, is_told)
        at_ns = update.created_at_ns
        assert at_ns is not None
        try:
            self.check_time(channel, at_ns)
        except BadRequest as error:
            write.resolve(error)  # whether there is an entry of that time still, does not matter
            return write
        if self.is_newest(channel, at_ns):
            self._append_dated(write)
            return write
        self._ingest.hold_room()
        waiting = self._dated.get(channel.id)
        if waiting is not None:
            waiting.append(write)
            return write
        self._dated[channel.id] = [write]
        task = asyncio.get_running_loop().create_task(self._look_up(channel.id))
        self._looking_up[channel.id] = task
        return write

    async def _look_up(self, channel_id: int) -> None:
        """Take in everything that waits with a time of its own in one channel: one commit and one query for all that
        has gathered, because a device that uploads what it kept while offline sends thousands."""
        try:
            while writes := self._dated[channel_id]:
                self._dated[channel_id] = []
                await self._take_in_dated(channel_id, writes)
        finally:
            del self._dated[channel_id], self._looking_up[channel_id]

    async def _take_in_dated(self, channel_id: int, writes: list[DatedWrite]) -> None:
        try:
            await self._ingest.drain()
            times = {write.update.created_at_ns for write in writes}
            taken = await self._query.times(channel_key(channel_id), _ENTRY_ID_COLUMN, times)  # type: ignore[arg-type]
        except Exception as error:
            for write in writes:
                write.resolve(error)
            return
        finally:
            self._ingest.free_room(len(writes))
        for write in writes:
            at_ns = write.update.created_at_ns
            assert at_ns is not None
            if self._numbering.get(channel_id) is not write.numbering:
                write.resolve(NotFound("the channel was cleared or deleted meanwhile"))
            elif at_ns in taken:
                write.resolve(Conflict(_TIME_IS_TAKEN))
            else:
                taken.add(at_ns)
                self._append_dated(write)

    def _append_dated(self, write: DatedWrite) -> None:
        try:
            write.entry, receipt = self.write(write.channel, write.update, write.now_ns, is_told=write.is_told)
        except HeadwaterError as error:
            write.resolve(error)
        else:
            receipt.add_callback(write.resolve)

    # -- changing -----------------------------------------------------------------------------------------------

    async def find(self, channel: Channel, entry_id: int) -> Entry:
        """The entry with a number. Raises NotFound and StorageError."""
        found = await self.numbered(channel, entry_id, entry_id, 1)
        if not found:
            raise NotFound("The channel has no entry with this number.")
        return found[-1]

    # -- reading ----------------------------------------------------------------------------------------------

    async def newest(
        self, channel: Channel, count: int | None, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Entry]:
        """The newest entries in [start, end), oldest first. Raises StorageError."""
        numbers = channel.settings.numbers
        return await self._query.rows(
            channel_key(channel.id),
            entry_columns(numbers),
            start_ns=start_ns,
            end_ns=end_ns,
            newest=count,
            convert=partial(read_entries, numbers=numbers),
        )

    async def following(
        self, channel: Channel, count: int, start_ns: int | None = None, end_ns: int | None = None
    ) -> tuple[list[Entry], int | None]:
        """The oldest entries in [start, end), at most so many, and the time from which on the next ones are; None when
        there are none yet. It costs the same in the middle of a long history as at its beginning. Raises
        StorageError."""
        numbers = channel.settings.numbers

        def convert(rows: Rows) -> tuple[list[Entry], int | None]:
            if len(rows.at_ns) <= count:
                return read_entries(rows, numbers), None
            # Behind the last of these, and not where the next one is: others may get times between them.
            first = Rows(rows.at_ns[:count], {column: values[:count] for column, values in rows.columns.items()})
            return read_entries(first, numbers), first.at_ns[-1] + 1

        return await self._query.rows(
            channel_key(channel.id),
            entry_columns(numbers),
            start_ns=start_ns,
            end_ns=end_ns,
            oldest=count + 1,
            convert=convert,
        )

    async def newest_with(self, channel: Channel, number: int) -> list[Entry]:
        """The newest entry that has a field, or none. Raises StorageError."""
        texts = _FIELDS[number]
        found = await self._query.rows(channel_key(channel.id), (texts.number, texts.text), newest=1)
        return await self.newest(channel, 1, found.at_ns[0], found.at_ns[0] + 1) if found.at_ns else []

    async def numbered(self, channel: Channel, first_id: int | None, last_id: int | None, count: int) -> list[Entry]:
        """The newest so many of the entries with numbers from the first to the last, oldest first. Raises StorageError,
        and TooLarge where too many others lie between them."""
        first, last = first_id or 0, INTEGER_MAX if last_id is None else last_id
        times = await self._query.times_of(channel_key(channel.id), _ENTRY_ID_COLUMN, first, last, count)
        found: list[Entry] = []
        reads = 0
        while times:
            if reads == _MOST_READS:
                raise TooLarge("too many entries of other numbers have times between these: ask for fewer at once")
            reads += 1
            # Others may have times between theirs: who gives entries times of their own need not send them in order.
            read = await self.newest(channel, len(times) + _MOST_BETWEEN, times[0], times[-1] + 1)
            found[:0] = [entry for entry in read if first <= entry.entry_id <= last]
            times = times[: bisect_left(times, read[0].at_ns)] if read else []
        return found[-count:]

    def watch(self, channel_id: int, callback: Callable[[Entry], None]) -> Callable[[], None]:
        """Call `callback` with each new entry once it is on disk. Answers the function that ends it."""

        def observe(record: Record) -> None:
            if record.key.measurement == MEASUREMENT and ENTRY_ID in record.values:
                callback(_entry_of(record))

        return self._ingest.watch(channel_id, observe)

    def watch_bulks(self, channel_id: int, callback: Callable[[Sequence[Entry]], None]) -> Callable[[], None]:
        """Call `callback` once for each bulk write, with its entries that are on disk: those who `watch` are not told
        of them. Answers the function that ends it."""
        watchers = self._bulk_watchers.setdefault(channel_id, [])
        watchers.append(callback)

        def unwatch() -> None:
            if callback in watchers:
                watchers.remove(callback)
            if not watchers and self._bulk_watchers.get(channel_id) is watchers:
                del self._bulk_watchers[channel_id]

        return unwatch

    def tell_bulk(self, channel_id: int, writes: Sequence[DatedWrite]) -> None:
        """These writes are one bulk: once all have ended, those who watch for bulks are told of the entries that are on
        disk, even if whoever sent them has gone away."""
        if channel_id not in self._bulk_watchers:
            return
        stored: list[Entry] = []
        left = len(writes)

        def ended(write: DatedWrite, error: Exception | None) -> None:
            nonlocal left
            left -= 1
            if error is None and write.entry is not None:
                stored.append(write.entry)
            if not left and stored:
                for callback in tuple(self._bulk_watchers.get(channel_id, ())):
                    callback(stored)

        for write in writes:
            write.add_callback(partial(ended, write))

    # -- removal ----------------------------------------------------------------------------------------------

    async def note_last_ids(self, bucket_ids: Collection[int]) -> None:
        """Write down the last entry ids of channels of which entries are about to be removed: they expired, or somebody
        deletes them. Raises StorageError."""
        now_ns = self._horizons.clock_ns()
        receipts = [
            self._ingest.write(Record(SeriesKey(bucket_id, NUMBERING), now_ns, {LAST_ID: numbering.last_id}))
            for bucket_id in bucket_ids
            if (numbering := self._numbering.get(bucket_id)) is not None and numbering.last_id
        ]
        for receipt in dict.fromkeys(receipts):
            await receipt.wait()

    # -- clearing ---------------------------------------------------------------------------------------------

    async def clear(self, channel: Channel) -> None:
        """Delete every entry of a channel, durably. Entry ids restart at 1."""
        await self._clear(channel.id)

    async def forget_unknown(self, known_channel_ids: Collection[int]) -> None:
        """Delete what is stored for channels that do not exist any more: those of an account that was removed while
        nobody looked, or when the process ended between deleting a channel and deleting its entries."""
        for bucket_id in [b for b in self._catalogue.bucket_ids() if b not in known_channel_ids]:
            await self._clear(bucket_id)

    async def _clear(self, bucket_id: int) -> None:
        # In one step: entries written from here on are numbered anew and get series of their own.
        self._numbering.pop(bucket_id, None)
        await self._deleting.clear_bucket(bucket_id)


_NOTHING_ELSE = (None, None, None, None)


def read_entries(rows: Rows, numbers: Iterable[int]) -> list[Entry]:
    """The entries of rows with the columns of these fields, in their order."""
    fields = {number: _FIELDS[number].read(rows) for number in numbers}
    location = [_LOCATION[name].read(rows) for name in LOCATION]
    entry_ids, statuses = rows.columns[_ENTRY_ID_COLUMN], rows.columns[_STATUS]
    entries: list[Entry] = []
    for row, at_ns in enumerate(rows.at_ns):
        entry_id = entry_ids[row]
        if not isinstance(entry_id, int):
            continue  # written through another dialect: a point of the channel, but not an entry
        texts = {number: text for number, column in fields.items() if (text := column[row]) is not None}
        latitude, longitude, elevation = (column[row] for column in location)
        status = statuses[row]
        entries.append(
            Entry(
                entry_id,
                at_ns,
                texts,
                latitude,
                longitude,
                elevation,
                None if status is None else str(status),
            )
        )
    return entries


def _entry_of(record: Record) -> Entry:
    """The entry that a record of measurement `entry` holds."""
    values = record.values

    def text_of(name: str) -> str | None:
        return _text_of(values.get(name), values.get(f"{name}.text"))

    numbers: Iterable[int] = FIELD_NUMBERS
    if not values.keys() <= _STANDARD_NAMES:
        more = {_MORE_NUMBERS[name] for name in values.keys() - _STANDARD_NAMES if name in _MORE_NUMBERS}
        numbers = (*FIELD_NUMBERS, *sorted(more))
    texts = {number: text for number in numbers if (text := text_of(_NUMBER_NAMES[number])) is not None}
    latitude, longitude, elevation = (text_of(name) for name in LOCATION)
    status = values.get("status")
    entry_id = values.get(ENTRY_ID, 0)
    assert isinstance(entry_id, int)
    return Entry(entry_id, record.at_ns, texts, latitude, longitude, elevation, None if status is None else str(status))
