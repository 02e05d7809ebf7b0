"""Writing: `/update`, of which an entry's number goes out once it is on disk, and bulk updates."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.responses import Response

from headwater.dialects.thingspeak.bulk import BulkMessage, parse_bulk_csv, parse_bulk_json
from headwater.dialects.thingspeak.bulk_writing import BulkWriting
from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import REFUSED_WRITE, Call, KeyRefused, json_response
from headwater.dialects.thingspeak.field_names import names_of
from headwater.dialects.thingspeak.parse import WriteLimits, json_number_fields, parse_update
from headwater.dialects.thingspeak.render import render_update
from headwater.dialects.thingspeak.times import parse_precision, parse_zone
from headwater.dialects.thingspeak.xml import to_xml
from headwater.errors import NotAuthenticated, TooManyRequests
from headwater.model.entry import Entry, EntryUpdate
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.update_limits import ChannelLimit, UpdateTooFast

_LATER_IN_XML = ("created_at", "entry_id", "status", "latitude", "longitude", "elevation")
"""They follow the fields, where JSON has the time and the number before them."""


class Writes:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(
        self,
        services: Services,
        limits: WriteLimits,
        max_bulk_entries: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._limits = limits
        self._bulk_writing = BulkWriting(services, limits, max_bulk_entries)
        self._clock_ns = clock_ns

    async def update_text(self, call: Call) -> Response:
        _, entry = await self._write(call)
        return Response(str(entry.entry_id), media_type="text/plain")

    async def update_json(self, call: Call) -> Response:
        precision = parse_precision(call.parameters)
        channel, entry = await self._write(call)
        numbers = json_number_fields(call.parameters, names_of(channel.settings))
        zone, shown = parse_zone(call.parameters), channel.settings.numbers
        return json_response(render_update(channel.id, entry, zone, numbers, shown, precision))

    async def update_xml(self, call: Call) -> Response:
        precision = parse_precision(call.parameters)
        channel, entry = await self._write(call)
        zone, shown = parse_zone(call.parameters), channel.settings.numbers
        row = render_update(channel.id, entry, zone, shown=shown, precision=precision)
        row |= {name: row.pop(name) for name in _LATER_IN_XML}
        return call.respond(to_xml("feed", row))

    async def _write(self, call: Call) -> tuple[Channel, Entry]:
        """The stored entry. Raises KeyRefused without a write key that is known, UpdateTooFast where the channel's
        limit refuses, and what `Entries.write` raises."""
        channel = self._callers.writable(call)
        update = parse_update(call.parameters, self._limits, names_of(channel.settings))
        await self._services.ingest.room()
        if self._services.access.channel(channel.id) is None:
            raise KeyRefused(REFUSED_WRITE)  # deleted while this waited
        # Who fetches a command is not held up by the limit, as upstream; a made-up key does not get round it.
        fetches_command = self._services.talkbacks.of_key(call.parameters.get("talkback_key", "").strip()) is not None
        limit = None if fetches_command else self._services.update_limits.of(channel)
        if limit is not None:
            return channel, await self._write_limited(limit, channel, update)
        if update.created_at_ns is None:
            entry, receipt = self._services.entries.write(channel, update, self._clock_ns())
            await receipt.wait()
            return channel, entry
        dated = self._services.entries.write_dated(channel, update, self._clock_ns())
        await dated.wait()
        assert dated.entry is not None
        return channel, dated.entry

    async def _write_limited(self, limit: ChannelLimit, channel: Channel, update: EntryUpdate) -> Entry:
        try:
            write = limit.write(update, self._clock_ns())
        except UpdateTooFast as error:
            self._services.refusals.note(str(error), channel_id=channel.id)
            raise
        await write.wait()
        assert write.entry is not None
        return write.entry

    # -- many at once -------------------------------------------------------------------------------------------

    async def bulk_json(self, call: Call) -> Response:
        message = await self._services.query.run(lambda: parse_bulk_json(call.body))  # a megabyte takes 20 ms
        return await self._bulk(call, message)

    async def bulk_csv(self, call: Call) -> Response:
        return await self._bulk(call, parse_bulk_csv(call.parameters, call.body))

    async def _bulk(self, call: Call, message: BulkMessage) -> Response:
        channel = self._callers.channel(call)
        key = message.write_api_key.strip() or call.key
        owner = self._services.access.channel_of_write_key(key) if key else None
        if owner is None or owner.id != channel.id:
            raise NotAuthenticated("Please provide proper authentication details.")
        try:
            await self._bulk_writing.write(channel, message, self._clock_ns())
        except TooManyRequests as error:
            self._services.refusals.note(str(error), channel_id=channel.id)
            raise
        return json_response({"success": True}, 202)
