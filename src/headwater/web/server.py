"""HTTP listeners in the process's own event loop: uvicorn's protocol under our sockets, limits and shutdown.

Knows no route. uvicorn's own server class is not used: it handles one application on one kind of listener and takes
the process's signals; its connection protocol does the HTTP.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headwater.logs import Log
from headwater.settings import WebSettings
from headwater.web.headers import Heads

log = Log(__name__)

MAX_HEAD_BYTES = 65_536
"""Request line and headers together."""
LISTEN_BACKLOG = 1_024
STREAM_TIMEOUT_S = 0.5
DRAIN_TIMEOUT_S = 4.0
"""Once the server shuts down, requests under way may take this long; streams are ended after the shorter time."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection, with our heads, and limits on the head of a request and on the number of connections."""

    def __init__(self, config: uvicorn.Config, state: ServerState, settings: WebSettings, heads: Heads) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._settings = settings
        self._heads = heads
        self._head_bytes: int | None = 0
        self._head_deadline: asyncio.TimerHandle | None = None

    @property
    def is_streaming(self) -> bool:
        """Whether an answer without a known length is under way."""
        return self.cycle is not None and bool(self.cycle.chunked_encoding) and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            self._refuse(b"503 Service Unavailable", "too many connections; try again later")
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", f"the head has more than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_bytes is None:  # a later request on the same connection
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._cancel_deadline()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        super()._start_asgi_task(cycle, _with_own_head(app, cycle, self._heads))

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", "this is not a valid HTTP request")

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._cancel_deadline()
        self._head_deadline = self.loop.call_later(self._settings.header_timeout_s, self._head_overdue)

    def _head_overdue(self) -> None:
        self._refuse(b"408 Request Timeout", "the head of the request did not arrive in time")

    def _cancel_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _refuse(self, status: bytes, reason: str) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        body = reason.encode()
        head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close" % len(body)
        self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, head, body))
        self.transport.close()


def _with_own_head(app: ASGI3Application, cycle: RequestResponseCycle, heads: Heads) -> ASGI3Application:
    """The application, sending the heads of its answers the way we spell them; bodies go uvicorn's way."""

    async def send(message: ASGISendEvent) -> None:
        if message["type"] != "http.response.start" or cycle.response_started:
            await cycle.send(message)
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        method, headers = cycle.scope["method"], message.get("headers", ())
        head = heads.render(message["status"], headers, method=method, keep_alive=cycle.keep_alive)
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.keep_alive = head.keeps_alive
        cycle.chunked_encoding = head.is_chunked
        cycle.expected_content_length = head.content_length
        cycle.transport.write(head.rendered)

    async def answer(scope: Scope, receive: ASGIReceiveCallable, _: ASGISendCallable) -> None:
        await app(scope, receive, send)

    return answer


class WebServer:
    """Serves one ASGI application on any number of listeners."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._settings = settings
        self._state = ServerState()
        self._heads = Heads()
        self._servers: list[asyncio.Server] = []
        self._config = uvicorn.Config(
            cast("Callable[..., object]", app),
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(settings.keep_alive_s),
        )
        self._config.load()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Open a listener; answers the address it got (port 0 picks a free one). Raises OSError."""
        server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self._config, self._state, self._settings, self._heads),
            host,
            port,
            ssl=tls,
            backlog=LISTEN_BACKLOG,
            ssl_handshake_timeout=self._settings.header_timeout_s if tls is not None else None,
        )
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def close(self) -> None:
        """Accept nothing more, let requests under way be answered, then close every connection."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        await self._drain(STREAM_TIMEOUT_S)
        for connection in tuple(self._state.connections):
            if isinstance(connection, HttpConnection) and connection.is_streaming:
                connection.transport.close()  # a live stream has no end of its own
        await self._drain(DRAIN_TIMEOUT_S)
        for task in tuple(self._state.tasks):
            log.warning("a request was cut off by the shutdown")
            task.cancel()
        for connection in tuple(self._state.connections):
            connection.transport.close()

    async def _drain(self, timeout_s: float) -> None:
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=timeout_s)
