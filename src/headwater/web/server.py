"""HTTP listeners in the process's own event loop: `connection.py` under our sockets, and the shutdown.

Knows no route. uvicorn's own server class is not used: it handles one application on one kind of listener and takes
the process's signals; its connection protocol does the HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from headwater.logs import Log
from headwater.settings import WebSettings
from headwater.web.connection import HttpConnection
from headwater.web.headers import Heads

log = Log(__name__)

LISTEN_BACKLOG = 1_024
UNSENT_BYTES = 65_536
"""What the kernel takes beyond what it can send. With its megabytes, a slow reader would look like none for long."""
STREAM_TIMEOUT_S = 0.5
DRAIN_TIMEOUT_S = 4.0
"""Once the server shuts down, requests under way may take this long; streams are ended after the shorter time."""


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
            # Anyone could send X-Forwarded-For, so who asks is who connected; behind a proxy that is the proxy.
            proxy_headers=False,
        )
        self._config.load()

    @property
    def connection_count(self) -> int:
        return len(self._state.connections)

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
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            for listener in server.sockets:  # connections inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
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
        await self._drain(STREAM_TIMEOUT_S)
        for connection in tuple(self._state.connections):
            connection.transport.close()

    async def _drain(self, timeout_s: float) -> None:
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=timeout_s)
