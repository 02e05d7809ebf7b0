"""HTTP listeners in the process's own event loop: `connection.py` under our sockets, and the shutdown.

Knows no route. uvicorn's own server class is not used: it handles one application on one kind of listener and takes
the process's signals; its connection protocol does the HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from headwater.logs import Log
from headwater.services.dialect import QuickPath
from headwater.settings import TlsSettings, WebSettings
from headwater.tls_listener import TlsListener, listen_with_tls
from headwater.web.connection import HttpConnection
from headwater.web.headers import Heads
from headwater.web.quick import QuickAnswers
from headwater.web.upgrade import Upgrade

log = Log(__name__)

LISTEN_BACKLOG = 1_024
UNSENT_BYTES = 65_536
"""What the kernel takes beyond what it can send. With its megabytes, a slow reader would look like none for long."""
STREAM_TIMEOUT_S = 0.5
DRAIN_TIMEOUT_S = 4.0
"""Once the server shuts down, requests under way may take this long; streams are ended after the shorter time."""


class WebServer:
    """Serves one ASGI application on any number of listeners.

    Args: `upgrade` is a protocol to which connections go over that ask for it; they are its own from then on, to
    count and to close. `quick_paths` may answer without the application. `max_handshakes` is for each TLS listener.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: WebSettings,
        upgrade: Upgrade | None = None,
        *,
        quick_paths: Mapping[str, QuickPath] | None = None,
        max_handshakes: int = TlsSettings().max_handshakes,
    ) -> None:
        self._settings = settings
        self._max_handshakes = max_handshakes
        self._upgrade = upgrade
        self._state = ServerState()
        self._heads = Heads()
        self._quick = QuickAnswers(quick_paths or {}, self._heads)
        self._servers: list[asyncio.Server | TlsListener] = []
        self._config = uvicorn.Config(
            cast("Callable[..., object]", app),
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            # Anyone could send X-Forwarded-For, so who asks is who connected; behind a proxy that is the proxy.
            proxy_headers=False,
        )
        self._config.load()

    @property
    def connection_count(self) -> int:
        return len(self._state.connections)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Open a listener; answers the address it got (port 0 picks a free one). Raises OSError."""
        server: asyncio.Server | TlsListener
        if tls is None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._make_connection, host, port, backlog=LISTEN_BACKLOG)
        else:
            server = await listen_with_tls(
                self._make_connection,
                host,
                port,
                tls,
                timeout_s=self._settings.header_timeout_s,
                max_handshakes=self._max_handshakes,
                backlog=LISTEN_BACKLOG,
            )
        self._servers.append(server)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            for listener in server.sockets:  # connections inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        bound = server.sockets[0].getsockname()
        return bound[0], bound[1]

    def _make_connection(self) -> HttpConnection:
        return HttpConnection(self._config, self._state, self._settings, self._heads, self._quick, self._upgrade)

    async def close(self) -> None:
        """Accept nothing more, let requests under way be answered, then close every connection."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        await self._quick.drain(DRAIN_TIMEOUT_S)
        await self._drain(STREAM_TIMEOUT_S)
        for connection in tuple(self._state.connections):
            if isinstance(connection, HttpConnection) and connection.is_streaming:
                connection.transport.close()  # a live stream has no end of its own
        await self._drain(DRAIN_TIMEOUT_S)
        for task in tuple(self._state.tasks):
            log.warning("a request was cut off by the shutdown")
            task.cancel()
        await self._drain(STREAM_TIMEOUT_S)
        for connection in tuple(self._state.connections):
            connection.transport.close()

    async def _drain(self, timeout_s: float) -> None:
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=timeout_s)
