"""A whole channel as one CSV file, `/stream/channels/<id>/feeds`: read as fast as it is taken, however long it is,
and let go of when the client hangs up."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.pages import feed_page, render_csv
from headwater.dialects.thingspeak.read_query import ReadQuery, parse_read_query
from headwater.dialects.thingspeak.reads import shown
from headwater.errors import HeadwaterError
from headwater.logs import Log
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.entry_stream import Piece, entry_stream

log = Log(__name__)


class Export:
    """The handler: takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services, max_results: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._max_results = max_results
        self._clock_ns = clock_ns

    async def stream(self, call: Call) -> Response:
        """Every entry, oldest first; of the parameters of reads, those count that choose by time, and columns."""
        channel = self._callers.readable(call)
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)._replace(aggregation=None)
        held = AsyncExitStack()
        span = query.start_ns, query.end_ns
        pieces = await held.enter_async_context(entry_stream(self._services.query, channel, *span))
        return _Held(self._lines(channel, query, pieces), held)

    async def _lines(
        self, channel: Channel, query: ReadQuery, pieces: AsyncGenerator[Piece, None]
    ) -> AsyncGenerator[bytes, None]:
        numbers = sorted(channel.settings.fields)

        def lines(entries: list[Entry], *, with_names: bool = False) -> bytes:
            page = feed_page(channel, 0, shown(entries, numbers, query), numbers, query, Form.CSV)
            return render_csv(page, with_names=with_names)

        yield lines([], with_names=True)
        async for piece in pieces:
            yield await self._services.query.run(lambda piece=piece: lines(piece()))  # type: ignore[misc]


class _Held(StreamingResponse):
    """Pieces of an answer, and what they come from: let go of when the answer ends, however it ends."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], held: AsyncExitStack) -> None:
        headers = {"Content-Disposition": 'attachment; filename="feeds.csv"'}
        super().__init__(pieces, headers=headers, media_type=Form.CSV.value)
        self._pieces, self._held = pieces, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            try:
                await super().__call__(scope, receive, send)
            except HeadwaterError as error:
                # The head of the answer has gone out: an answer without an end is what tells of a failure now.
                log.warning("an export ended early", reason=str(error))
            finally:
                await self._pieces.aclose()
