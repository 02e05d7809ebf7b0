"""A channel's entries as files in ThingSpeak's forms: written whole, and read back. Checks no rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, tzinfo
from functools import partial
from itertools import islice

from headwater.dialects.thingspeak.entry_file import FileRow, read_rows
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.pages import feed_page, render_page
from headwater.dialects.thingspeak.parse import WriteLimits, write_limits
from headwater.dialects.thingspeak.read_query import ReadQuery
from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.dialect import ChannelFiles, Loaded
from headwater.services.entries import DatedWrite
from headwater.services.whole_channel import PER_PAGE, pages_of
from headwater.settings import Settings

MAX_FILE_ENTRIES = 200_000
"""In one upload; the command `headwater import` takes any number."""
MAX_TOLD = 20
"""Rows that are told with what is wrong with them; the others are counted."""
ROWS_AT_ONCE = 1_000
_FORMS = {"csv": Form.CSV, "json": Form.JSON, "xml": Form.XML}
_AROUND_ROWS = {
    Form.JSON: (b'"feeds":[', b"]}", b","),
    Form.XML: (b'<feeds type="array">\n', b"  </feeds>", b""),
    Form.CSV: (b"\n", b"", b""),
}
"""What stands before and after the rows of a document, and between two pages of them."""
_ALL = ReadQuery(0, None, None, None, with_status=True, with_location=True, with_metadata=True)


class ThingSpeakFiles(ChannelFiles):
    """Writes and reads files of entries."""

    forms = tuple(_FORMS)

    def __init__(
        self,
        services: Services,
        limits: WriteLimits,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        per_page: int = PER_PAGE,
    ) -> None:
        """`per_page`: entries that are read and rendered at once."""
        self._services = services
        self._limits = limits
        self._clock_ns = clock_ns
        self._per_page = per_page

    # -- out ----------------------------------------------------------------------------------------------------

    async def write(self, channel: Channel, form: str) -> AsyncIterator[bytes]:
        """CSV is the site's export: times with an offset, location and status always. JSON and XML are what `feeds`
        answers, with all there is."""
        chosen = _FORMS[form]
        query = _ALL._replace(zone=UTC) if chosen is Form.CSV else _ALL
        last_id = self._services.entries.last_entry_id(channel.id)
        numbers = sorted(channel.settings.fields)

        def render(entries: Sequence[Entry]) -> bytes:
            return render_page(feed_page(channel, last_id, entries, numbers, query, Form.JSON), chosen)

        end = b""
        async for entries in pages_of(self._services.entries, channel, self._per_page):
            head, rows, tail = _taken_apart(await self._services.query.run(partial(render, entries)), chosen)
            yield (_AROUND_ROWS[chosen][2] if end else head) + rows
            end = tail or b"\n"
        yield end.removeprefix(b"\n") if end else render([])

    # -- in -----------------------------------------------------------------------------------------------------

    async def load(self, channel: Channel, content: bytes, zone: tzinfo) -> Loaded:
        """Entries get the next numbers. One of a time that the channel has already is passed over."""
        rows = read_rows(content, zone, self._limits, MAX_FILE_ENTRIES, channel.settings.numbers)
        taken = known = bad = 0
        told: list[tuple[int, str]] = []
        while portion := await self._services.query.run(lambda: list(islice(rows, ROWS_AT_ONCE))):
            for row, write in await self._take_in(channel, portion):
                reason = row.reason
                try:
                    if write is not None:
                        await write.wait()
                        taken += 1
                        continue
                except Conflict:
                    known += 1
                    continue
                except BadRequest as error:
                    reason = str(error)
                bad += 1
                if len(told) < MAX_TOLD:
                    told.append((row.line, reason))
        return Loaded(taken, known, bad, tuple(told))

    async def _take_in(self, channel: Channel, rows: Sequence[FileRow]) -> list[tuple[FileRow, DatedWrite | None]]:
        """The rows with their writes. Raises NotFound when the channel is gone."""
        await self._services.ingest.room()
        if self._services.access.channel(channel.id) is None:
            raise NotFound("the channel was deleted meanwhile")
        write, now_ns = self._services.entries.write_dated, self._clock_ns()
        return [
            (row, None if row.update is None else write(channel, row.update, now_ns, is_told=False)) for row in rows
        ]


def _taken_apart(document: bytes, form: Form) -> tuple[bytes, bytes, bytes]:
    """What stands before the rows of a document, the rows, and what stands after them."""
    before, after, _ = _AROUND_ROWS[form]
    start = document.index(before) + len(before)
    end = document.rindex(after) if after else len(document)
    return document[:start], document[start:end], document[end:]


def channel_files(services: Services, settings: Settings) -> ThingSpeakFiles:
    """As this server is set up."""
    return ThingSpeakFiles(services, write_limits(settings))
