"""Requests that are answered without an application: the busiest paths, in their usual form. Knows no path.

An ASGI application costs a task, several coroutines and a look through all routes for each request, more than storing
an entry does. A path that many devices ask all the time may have a `QuickPath` (`services/dialect.py`): it sees the
whole request at once and either takes it, and answers it later, or leaves it to the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from headwater.logs import Log
from headwater.services.dialect import QuickPath, RawHeaders
from headwater.web.headers import Heads

log = Log(__name__)

MAX_BODY_BYTES = 16_384
"""Of a request that may be taken; a larger body is the application's. Far below what uvicorn holds of a body that
nobody has asked for yet."""


class QuickAnswers:
    """Hands requests to quick paths and writes their answers, for all connections of a server."""

    def __init__(self, paths: Mapping[str, QuickPath], heads: Heads) -> None:
        self._paths = paths
        self._heads = heads
        self._pending = 0
        self._none_pending: asyncio.Event | None = None

    def may_take(self, cycle: RequestResponseCycle) -> bool:
        """Whether to keep a request until its body has come, rather than hand it to the application at once. A client
        that does not read its answers gets them the usual way, which waits for it."""
        if cycle.scope["path"] not in self._paths:
            return False
        return not (cycle.waiting_for_100_continue or cycle.flow.write_paused)

    def take(self, cycle: RequestResponseCycle) -> bool:
        """Whether a request that has come whole is taken; then it is answered later. One that fails ends its
        connection: it may have been taken in already."""
        scope = cycle.scope
        self._pending += 1
        try:
            is_taken = self._paths[scope["path"]].take(
                scope["method"],
                scope["query_string"],
                list(scope["headers"]),
                bytes(cycle.body),
                self._answering(cycle),
            )
        except Exception:
            log.exception("a quick path failed")
            cycle.transport.close()
            is_taken = True
            self._settled()
        else:
            if not is_taken:
                self._settled()
        return is_taken

    def _settled(self) -> None:
        self._pending -= 1
        if not self._pending and self._none_pending is not None:
            self._none_pending.set()

    def _answering(self, cycle: RequestResponseCycle) -> Callable[[int, RawHeaders, bytes], None]:
        def answer(status: int, headers: RawHeaders, body: bytes) -> None:
            self._settled()
            if cycle.disconnected or cycle.transport.is_closing():
                return
            head = self._heads.render_repeated(
                status, headers, method=cycle.scope["method"], keep_alive=cycle.keep_alive
            )
            cycle.response_started = cycle.response_complete = True
            cycle.keep_alive = head.keeps_alive
            cycle.transport.write(head.rendered + body)
            if not head.keeps_alive:
                cycle.transport.close()
            cycle.on_response()

        return answer

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything that was taken is answered, or so long."""
        if self._pending:
            self._none_pending = asyncio.Event()
            try:
                await asyncio.wait_for(self._none_pending.wait(), timeout_s)
            except TimeoutError:
                log.warning("requests were cut off by the shutdown", requests=self._pending)
