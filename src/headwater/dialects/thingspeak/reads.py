"""Feeds: what a channel's entries are asked for. Renders long answers beside the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.responses import Response

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call, json_response, refuse_read
from headwater.dialects.thingspeak.parse import parse_field_number
from headwater.dialects.thingspeak.read_query import ReadQuery, parse_read_query
from headwater.dialects.thingspeak.render import render_entry, render_feed, to_json
from headwater.errors import NotFound
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services import Services

RENDERED_AT_ONCE = 200
"""Entries that are rendered on the event loop; more are rendered beside it."""


class Reads:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services, max_results: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._max_results = max_results
        self._clock_ns = clock_ns

    async def feeds(self, call: Call) -> Response:
        return await self._feed(call, None)

    async def field_feed(self, call: Call) -> Response:
        return await self._feed(call, parse_field_number(call.path["field"]))

    async def _feed(self, call: Call, number: int | None) -> Response:
        channel = self._callers.readable(call)
        if channel is None:
            return refuse_read()
        if "field" in call.path and number is None:
            raise NotFound("A channel has field1 to field8.")
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entries = await self._read(channel, query)
        numbers = [number] if number is not None else sorted(channel.settings.fields)
        last_entry_id = self._services.entries.last_entry_id(channel.id)

        def render() -> bytes:
            return to_json(render_feed(channel, last_entry_id, entries, numbers, query))

        is_long = len(entries) > RENDERED_AT_ONCE  # thousands of entries would hold up everybody else
        rendered = await self._services.query.run(render) if is_long else render()
        return Response(rendered, media_type="application/json")

    async def last(self, call: Call) -> Response:
        channel = self._callers.readable(call)
        if channel is None:
            return refuse_read()
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entries = await self._services.entries.newest(channel, 1)
        if not entries:
            raise NotFound("The channel has no entries yet.")
        return json_response(render_entry(entries[-1], sorted(channel.settings.fields), query))

    async def _read(self, channel: Channel, query: ReadQuery) -> list[Entry]:
        return await self._services.entries.newest(channel, query.results, query.start_ns, query.end_ns)
