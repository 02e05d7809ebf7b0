"""`/update`: an entry comes in, and its number goes out once it is on disk."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.responses import Response

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call, json_response, refuse_write
from headwater.dialects.thingspeak.parse import WriteLimits, json_number_fields, parse_update
from headwater.dialects.thingspeak.render import render_update
from headwater.dialects.thingspeak.times import parse_zone
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services import Services


class Writes:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services, limits: WriteLimits, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._limits = limits
        self._clock_ns = clock_ns

    async def update_text(self, call: Call) -> Response:
        written = await self._write(call)
        return refuse_write() if written is None else Response(str(written[1].entry_id), media_type="text/plain")

    async def update_json(self, call: Call) -> Response:
        written = await self._write(call)
        if written is None:
            return refuse_write()
        channel, entry = written
        numbers = json_number_fields(call.parameters)
        return json_response(render_update(channel.id, entry, parse_zone(call.parameters), numbers))

    async def _write(self, call: Call) -> tuple[Channel, Entry] | None:
        """The stored entry, or None without a write key that is known."""
        channel = self._callers.writable(call)
        if channel is None:
            return None
        update = parse_update(call.parameters, self._limits)
        await self._services.ingest.room()
        if self._services.access.channel(channel.id) is None:
            return None  # deleted while this waited
        if update.created_at_ns is None:
            entry, receipt = self._services.entries.write(channel, update, self._clock_ns())
            await receipt.wait()
            return channel, entry
        dated = self._services.entries.write_dated(channel, update, self._clock_ns())
        await dated.wait()
        assert dated.entry is not None
        return channel, dated.entry
