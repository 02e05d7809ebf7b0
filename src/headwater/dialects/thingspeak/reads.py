"""Feeds: what a channel's entries are asked for. Reads and renders long answers beside the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from starlette.responses import Response

from headwater.dialects.thingspeak.aggregation import (
    MINUTE_NS,
    Bucket,
    Method,
    aggregate,
    parse_aggregation,
    parse_number,
)
from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.chart import Point, parse_look, render_chart
from headwater.dialects.thingspeak.endpoint import Call, Handler
from headwater.dialects.thingspeak.field_names import find_field
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.pages import (
    Page,
    entry_page,
    feed_page,
    render_bare,
    render_page,
    render_single,
    status_page,
)
from headwater.dialects.thingspeak.read_query import ReadQuery, parse_part_query, parse_read_query, render_cursor
from headwater.dialects.thingspeak.times import parse_zone
from headwater.errors import BadRequest, NotFound
from headwater.model.entry import FIELD_NUMBERS, Entry
from headwater.registry.entities import Channel
from headwater.services import Services

RENDERED_AT_ONCE = 200
"""Entries (of eight fields) that are rendered on the event loop; more are rendered beside it."""
_DAY_NS = 86_400_000_000_000
_MAX_ENTRY_ID_DIGITS = 18
_MOST_FOR_LAST = 100
_NEXT_CURSOR = "Headwater-Next-Cursor"
"""For forms that have no place for it; missing from the last part's answer."""
_CHART_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",  # a key may stand in the address
}


class Reads:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services, max_results: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._max_results = max_results
        self._clock_ns = clock_ns

    # -- many entries -------------------------------------------------------------------------------------------

    async def feeds(self, call: Call) -> Response:
        channel = self._callers.readable(call)
        number = _field_of(call, channel)
        is_part = "cursor" in call.parameters
        cursor: str | None = None
        if is_part:
            query = parse_part_query(call.parameters, self._clock_ns(), self._max_results)
            span = query.start_ns, query.end_ns
            entries, next_ns = await self._services.entries.following(channel, query.results, *span)
            cursor = None if next_ns is None else render_cursor(next_ns)
        else:
            query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
            entries = await self._read(channel, query)
        numbers = sorted(channel.settings.fields) if number is None else [number]
        last_entry_id = self._services.entries.last_entry_id(channel.id)

        def page() -> Page:
            left = shown(entries, numbers, query)
            whole = feed_page(channel, last_entry_id, left, numbers, query, call.form)
            return whole._replace(is_part=is_part, next_cursor=cursor)

        response = await self._render(call, page, len(entries) * max(1, len(numbers) // len(FIELD_NUMBERS)))
        if cursor is not None:
            response.headers.update({_NEXT_CURSOR: cursor, "Access-Control-Expose-Headers": _NEXT_CURSOR})
        return response

    async def statuses(self, call: Call) -> Response:
        channel = self._callers.readable(call)
        now_ns = self._clock_ns()
        query = parse_read_query(call.parameters, now_ns, self._max_results)
        if not call.parameters.keys() & {"results", "days", "minutes", "start", "end"}:
            query = query._replace(start_ns=now_ns - _DAY_NS, results=self._max_results)
        entries = await self._read(channel, query)
        return await self._render(call, lambda: status_page(channel, entries, query, call.form), len(entries))

    async def chart(self, call: Call) -> Response:
        """A page with one field's chart, for frames of other sites."""
        channel = self._callers.readable(call)
        number = _field_of(call, channel)
        assert number is not None
        points = await self.chart_points(channel, number, call.parameters)
        title = channel.settings.field_title(number)
        look = parse_look(call.parameters, channel.settings.name, title, parse_zone(call.parameters))
        page = await self._services.query.run(lambda: render_chart(points, look))
        return Response(page, headers=_CHART_HEADERS, media_type="text/html")

    async def chart_points(self, channel: Channel, number: int, parameters: Mapping[str, str]) -> list[Point]:
        """What the chart of a field shows for these parameters."""
        query = parse_read_query(parameters, self._clock_ns(), self._max_results)
        entries = await self._read(channel, query)

        def points() -> list[Point]:
            left = ((entry.at_ns, entry.fields.get(number, "")) for entry in shown(entries, [number], query))
            return [(at_ns, value) for at_ns, text in left if (value := parse_number(text)) is not None]

        return await self._services.query.run(points)

    async def _render(self, call: Call, page: Callable[[], Page], count: int) -> Response:
        def render() -> bytes:
            return render_page(page(), call.form)

        is_long = count > RENDERED_AT_ONCE  # thousands of entries would hold up everybody else
        return call.respond(await self._services.query.run(render) if is_long else render())

    async def _read(self, channel: Channel, query: ReadQuery) -> list[Entry]:
        entries = self._services.entries
        if query.first_entry_id is None and query.last_entry_id is None:
            return await entries.newest(channel, query.results, query.start_ns, query.end_ns)
        found = await entries.numbered(channel, query.first_entry_id, query.last_entry_id, query.results)
        start_ns, end_ns = query.start_ns, query.end_ns
        return [
            entry
            for entry in found
            if (start_ns is None or entry.at_ns >= start_ns) and (end_ns is None or entry.at_ns < end_ns)
        ]

    # -- one entry ----------------------------------------------------------------------------------------------

    async def entry(self, call: Call) -> Response:
        """The newest entry, that has a field if one is named, or the one with the number in the path."""
        channel = self._callers.readable(call)
        number = _field_of(call, channel)
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entry = await self._find(channel, number, call.path.get("entry", "last"))
        if number is not None and call.form is Form.TEXT:
            return call.respond(render_bare(entry.fields.get(number), call.parameters, query))
        numbers = sorted(channel.settings.fields) if number is None else [number]
        return call.respond(render_single(entry_page(entry, numbers, query, call.form), call.form))

    def last_bucket(self, method: Method) -> Handler:
        """Answers the last of the buckets that `sum`, `average` or `median` makes of the newest entries: of as many as
        it is minutes wide, and 100 at most, unless `results` says of how many."""

        async def answer(call: Call) -> Response:
            channel = self._callers.readable(call)
            number = _field_of(call, channel)
            aggregation = parse_aggregation({method: call.parameters.get(method, "")})
            if aggregation is None:
                raise BadRequest(f"Say how many minutes to take together: {method}=60, or {method}=daily.")
            query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
            query = query._replace(aggregation=aggregation)
            if "results" not in call.parameters:
                query = query._replace(results=min(aggregation.width_ns // MINUTE_NS, _MOST_FOR_LAST))
            numbers = sorted(channel.settings.fields) if number is None else [number]
            buckets = shown(await self._read(channel, query), numbers, query)
            if not buckets:
                raise NotFound("The channel has no entries there.")
            last = buckets[-1]
            if number is not None and call.form is Form.TEXT:
                return call.respond(render_bare(last.fields.get(number), call.parameters, query))
            return call.respond(render_single(entry_page(last, numbers, query, call.form), call.form))

        return answer

    async def last_status(self, call: Call) -> Response:
        channel = self._callers.readable(call)
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entry = await self._find(channel, None, "last")
        page = status_page(channel, [entry], query, call.form)
        return call.respond(render_single(page, call.form))

    async def age(self, call: Call) -> Response:
        """How old the newest entry is, that has a field if one is named, in seconds."""
        channel = self._callers.readable(call)
        number = _field_of(call, channel)
        entry = await self._find(channel, number, "last")
        age_s = str(max(0, (self._clock_ns() - entry.at_ns) // 1_000_000_000))
        if call.form is Form.TEXT:
            return call.respond(age_s.encode())
        row = {"last_data_age": age_s, "last_data_age_units": "s"}
        return call.respond(render_single(Page(None, list(row), [row]), call.form))

    async def _find(self, channel: Channel, number: int | None, text: str) -> Entry:
        """An entry by its number, or the newest one, that has a field if one is named. Raises NotFound."""
        entries = self._services.entries
        found: Sequence[Entry]
        if text == "last":
            found = await (entries.newest(channel, 1) if number is None else entries.newest_with(channel, number))
            if not found:
                raise NotFound("The channel has no entries yet." if number is None else "The field has no values yet.")
        else:
            return await entries.find(channel, parse_entry_id(text))
        return found[-1]


def parse_entry_id(text: str) -> int:
    """The number of an entry in a path; 0, which no entry has, for anything else."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _MAX_ENTRY_ID_DIGITS else 0


def _field_of(call: Call, channel: Channel) -> int | None:
    """The field that the path names, by number or name; None when it names none. Raises NotFound for one that the
    channel does not have."""
    if "field" not in call.path:
        return None
    number = find_field(channel.settings, call.path["field"])
    if number is None:
        raise NotFound("A channel has field1 to field8, and others once their owner names them.")
    return number


def shown(entries: Sequence[Entry], numbers: Collection[int], query: ReadQuery) -> list[Entry] | list[Bucket]:
    """What is left of the entries that were read, or what is made of it."""
    kept = [entry for entry in entries if _is_within(entry, numbers, query)]
    if query.aggregation is None:
        return kept
    return aggregate(kept, query.aggregation, numbers, query.decimals, max(query.results, 1))


def _is_within(entry: Entry, numbers: Collection[int], query: ReadQuery) -> bool:
    """Whether no number that is shown is outside of what was asked for."""
    if query.least is None and query.most is None:
        return True
    for number in numbers:
        value = parse_number(entry.fields.get(number, ""))
        if value is None:
            continue
        if (query.least is not None and value < query.least) or (query.most is not None and value > query.most):
            return False
    return True
