"""What is imported: blocks of points into a channel, by way of `Ingest`, a transaction each. The server's part, which a
command without a server does itself.

How far an import of a file got is kept in the data directory until it is through: the same command goes on there. To
load a block again changes nothing, so it does not matter when the note is a little old.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headwater.control import Reply
from headwater.errors import BadRequest, NotFound
from headwater.exchange.block import Block, unpack
from headwater.exchange.on_loop import run_on, wait_for
from headwater.exchange.source import find_channel
from headwater.files import write_atomically
from headwater.logs import Log
from headwater.model.entry import ENTRY_ID, LAST_ID, MEASUREMENT, NUMBERING, channel_key
from headwater.model.series import SeriesKey, ValueType
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.deleting import Deletion
from headwater.services.query import Column
from headwater.store import Columns

log = Log(__name__)

NOTES = "imports"
NOTE_EVERY_S = 1.0
_GOES_ON_LATER = "goes_on_later"
MAX_ENTRY_ID = 10**18
"""A channel that has an entry of this number can still number all that comes."""
_NUMBERED = ((MEASUREMENT, ENTRY_ID), (NUMBERING, LAST_ID))
SERIES_AT_ONCE = 1_000
"""New series that are made before others have the event loop: some 10 ms."""
_ENTRY_SERIES = (MEASUREMENT, (), ENTRY_ID, ValueType.INTEGER)


class Loader:
    """Loads blocks into one channel, in the thread of the event loop.

    Entries keep their numbers where the channel had none when the import began. Else an entry keeps its number if that
    is higher than every other, and gets the next one if not; one that the channel has already (there is one of its
    time) keeps the number that it has there.

    Args: `noted_last_id`: the channel's last number when an import that goes on here noted how far it was.
    """

    def __init__(
        self, services: Services, channel: Channel, *, keeps_numbers: bool, noted_last_id: int | None = None
    ) -> None:
        self._services = services
        self._channel_id = channel.id
        self.keeps_numbers = keeps_numbers
        self.last_id = services.entries.last_entry_id(channel.id)
        """Of the channel, after the last block."""
        self.expired = 0
        """Points that were left out because the channel does not keep points for so long."""
        known_id = self.last_id if noted_last_id is None else noted_last_id
        self._doubtful = range(known_id + 1, self.last_id + 1)
        """Numbers that the interrupted import has stored without noting it, or that somebody else was given since."""

    async def store(self, block: Block) -> None:
        """Return when the block is on disk. Raises NotFound when the channel is gone, BadRequest for numbers that no
        entry can have, StorageError."""
        horizon_ns = self._services.horizons.horizon_ns(self._channel_id)
        if horizon_ns is not None and block.begins_before(horizon_ns):
            kept = block.since(horizon_ns)
            self.expired += len(block) - len(kept)
            block = kept
        if not len(block):
            return
        _check_numbers(block)
        services = self._services
        await services.ingest.room()
        series = [(SeriesKey(self._channel_id, one[0], one[1]), one[2], one[3]) for one in block.series]
        for first in range(0, len(series) - SERIES_AT_ONCE, SERIES_AT_ONCE):  # the rest with the points
            self._existing_channel()
            services.ingest.introduce(series[first : first + SERIES_AT_ONCE])
            await asyncio.sleep(0)
        taken: set[int] = set()
        numbers = _numbers(block)
        if numbers and min(numbers.values()) < 1:  # a file that does not number its entries
            self.keeps_numbers = False
        doubtful = {at_ns for at_ns, number in numbers.items() if number in self._doubtful}
        if doubtful or (numbers and not self.keeps_numbers):
            await services.ingest.drain()
            taken = await services.query.times(channel_key(self._channel_id), Column(ENTRY_ID, int), set(numbers))
            self.keeps_numbers &= doubtful <= taken
        channel = self._existing_channel()
        # From here on nothing else happens on the loop: the numbers given out stay free until they are taken.
        last_id = services.entries.last_entry_id(channel.id)
        if self.keeps_numbers and last_id != self.last_id:
            self.keeps_numbers = False  # somebody else writes entries, whose numbers must not be given twice
            await self.store(block)
            return
        if numbers and not self.keeps_numbers:
            numbers = _number(numbers, taken, last_id)
            block = _renumbered(block, numbers, taken)
        if len(block):
            receipt = services.ingest.load(series, block.columns)
            if numbers:
                services.entries.loaded(channel, max(numbers.values()), max(numbers))
            self.last_id = services.entries.last_entry_id(channel.id)
            await receipt.wait()

    def _existing_channel(self) -> Channel:
        channel = self._services.access.channel(self._channel_id)
        if channel is None:
            raise NotFound("the channel was deleted meanwhile")
        return channel


def _check_numbers(block: Block) -> None:
    for index, (measurement, _, name, value_type) in enumerate(block.series):
        if (measurement, name) in _NUMBERED and value_type is ValueType.INTEGER:
            columns = block.columns[value_type]
            for series, value in zip(columns.series_ids, columns.values, strict=True):
                if series == index and value > MAX_ENTRY_ID:
                    raise BadRequest(f"{name} {value} is too high for the number of an entry: leave the column out")


def _numbers(block: Block) -> dict[int, int]:
    """The number of each entry in a block, by its time."""
    if _ENTRY_SERIES not in block.series:
        return {}
    index, columns = block.series.index(_ENTRY_SERIES), block.columns[ValueType.INTEGER]
    points = zip(columns.series_ids, columns.at_ns, columns.values, strict=True)
    return {at_ns: value for series, at_ns, value in points if series == index}


def _number(numbers: Mapping[int, int], taken: set[int], last_id: int) -> dict[int, int]:
    """What the entries whose times are not taken are called in a channel whose last entry has this number."""
    given: dict[int, int] = {}
    for at_ns, number in numbers.items():
        if at_ns not in taken:
            last_id = given[at_ns] = max(last_id + 1, number)
    return given


def _renumbered(block: Block, numbers: Mapping[int, int], taken: set[int]) -> Block:
    """A block with these numbers. What has a taken time loses its number, or, in a file of entries, is left out."""
    index = block.series.index(_ENTRY_SERIES)
    renumbered = Block(block.end_row, block.series, are_entries=block.are_entries)
    for value_type, columns in block.columns.items():
        kept = renumbered.columns[value_type] = Columns(value_type)
        for series, at_ns, value in zip(columns.series_ids, columns.at_ns, columns.values, strict=True):
            if value_type is ValueType.INTEGER and series == index:
                if at_ns in numbers:
                    kept.append(series, at_ns, numbers[at_ns])
            elif not (block.are_entries and at_ns in taken):
                kept.append(series, at_ns, value)
    return renumbered


class Import:
    """One import that is under way, for a thread beside the event loop's."""

    def __init__(
        self,
        services: Services,
        loop: asyncio.AbstractEventLoop,
        data: Path,
        channel_text: str,
        fingerprint: str | None,
        now_s: Callable[[], float] = time.monotonic,
        *,
        goes_on_later: bool = False,
    ) -> None:
        """Args: `fingerprint`: what tells this import from others, None when it cannot go on where it stopped;
        `goes_on_later`: the source grows, so where this ended is remembered."""
        self._loop = loop
        self._now_s = now_s
        self.channel: Channel = run_on(loop, lambda: find_channel(services.access.channels(), channel_text))
        self._note = None if fingerprint is None else _note_path(data, self.channel, fingerprint)
        note = _read_note(self._note)
        self.resume_row = int(note.get("row", 0))
        """Records up to this one are stored already."""
        is_empty = run_on(loop, lambda: services.entries.last_entry_id(self.channel.id)) == 0
        keeps_numbers = is_empty or bool(note.get("keeps_numbers"))
        self._loader: Loader = run_on(
            loop,
            lambda: Loader(services, self.channel, keeps_numbers=keeps_numbers, noted_last_id=note.get("last_id")),
        )
        self._noted_at_s = -NOTE_EVERY_S
        self._goes_on_later = goes_on_later
        self._end_row = self.resume_row

    @property
    def expired(self) -> int:
        """Points so far that the channel does not keep for so long: they are left out."""
        return self._loader.expired

    def store(self, block: Block) -> None:
        """Return when the block is on disk. Raises HeadwaterError."""
        if self._noted_at_s < 0:  # before the first point: who is killed then must find the channel to be empty
            self._write_note(self.resume_row)
        wait_for(self._loop, self._loader.store(block))
        self._end_row = block.end_row
        if self._now_s() - self._noted_at_s >= NOTE_EVERY_S:
            self._write_note(block.end_row)

    def finish(self) -> None:
        """All is stored."""
        if self._goes_on_later:
            self._write_note(self._end_row)
        elif self._note is not None:
            self._note.unlink(missing_ok=True)

    def _write_note(self, row: int) -> None:
        self._noted_at_s = self._now_s()
        if self._note is not None:
            note = {"row": row, "keeps_numbers": self._loader.keeps_numbers, "last_id": self._loader.last_id}
            _put_note(self._note, note | {_GOES_ON_LATER: self._goes_on_later})


def begin_note(data: Path, channel: Channel, fingerprint: str) -> None:
    """Note that an import goes into a channel that was made for it, before there is anything to store."""
    _put_note(_note_path(data, channel, fingerprint), {"row": 0, _GOES_ON_LATER: True})


def noted_channel_ids(data: Path, fingerprint: str) -> list[int]:
    """The channels into which an import of this fingerprint went or goes, oldest first."""
    notes = (data / NOTES).glob(f"*-{_mark_of(fingerprint)}.json")
    return sorted(int(name) for note in notes if (name := note.name.partition("-")[0]).isdigit())


def _put_note(path: Path, note: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, json.dumps(note).encode(), 0o600)


def _note_path(data: Path, channel: Channel, fingerprint: str) -> Path:
    return data / NOTES / f"{channel.id}-{_mark_of(fingerprint)}.json"


def _mark_of(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:32]


def _read_note(path: Path | None) -> dict[str, Any]:
    """What was noted; nothing where nothing can be read, which only costs time."""
    if path is None or not path.exists():
        return {}
    try:
        note = json.loads(path.read_bytes())
    except ValueError:
        note = None
    return note if isinstance(note, dict) else {}


@asynccontextmanager
async def forgetting_notes(data: Path, deletion: Deletion) -> AsyncIterator[None]:
    """A hook of `Deleting`: after it, imports into the channel begin anew, since what they stored may be gone. Which
    channel an import goes into that goes on later stays known."""
    for path in (data / NOTES).glob(f"{deletion.bucket_id}-*.json"):
        if _read_note(path).get(_GOES_ON_LATER):
            _put_note(path, {"row": 0, _GOES_ON_LATER: True})
        else:
            path.unlink(missing_ok=True)
    yield


class Imports:
    """The server's part: answers the command `import`. To be made on the event loop's thread."""

    def __init__(self, services: Services, data: Path) -> None:
        self._services = services
        self._data = data
        self._loop = asyncio.get_running_loop()

    def answer(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Take in what the command sends, and say of each block that it is on disk. Raises HeadwaterError."""
        begun = Import(
            self._services,
            self._loop,
            self._data,
            str(request["channel"]),
            request["fingerprint"],
            goes_on_later=bool(request.get("goes_on_later")),
        )
        reply.inform(resume_row=begun.resume_row, channel=begun.channel.id)
        points = 0
        while (block := unpack(reply.read)) is not None:
            begun.store(block)
            points += len(block)
            reply.inform(stored_row=block.end_row, expired=begun.expired)
        begun.finish()
        log.info("imported into a channel", channel=begun.channel.id, points=points - begun.expired)
