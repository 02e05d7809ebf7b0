"""The sockets on which MQTT clients arrive: plain, with TLS, and behind a proxy. Knows nothing of MQTT.

Whatever has to happen before the first byte of MQTT (a TLS handshake, a proxy's header) happens here, bounded and with
the deadline that CONNECT has; then the connection is the broker's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from headwater.broker.proxy_protocol import ProxyEntrance
from headwater.settings import MqttSettings, TlsSettings
from headwater.tls_listener import TlsListener, listen_with_tls

if TYPE_CHECKING:
    from headwater.broker.connection import Connection

LISTEN_BACKLOG = 1_024


class Listeners:
    """Any number of listeners.

    Args: `new_connection` makes the broker's connection, given the name of the transport; `max_handshakes` is for each
    TLS listener.
    """

    def __init__(
        self,
        new_connection: Callable[[str], Connection],
        settings: MqttSettings,
        *,
        max_handshakes: int = TlsSettings().max_handshakes,
    ) -> None:
        self._new_connection = new_connection
        self._settings = settings
        self._max_handshakes = max_handshakes
        self._servers: list[asyncio.Server | TlsListener] = []
        self._proxied: list[ProxyEntrance] = []
        self._ports: dict[bool, int] = {}

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Open a listener; answers the address it got (port 0 picks a free one). Raises OSError."""
        if tls is None:
            bound = await self._open(partial(self._new_connection, "tcp"), host, port)
        else:
            listener = await listen_with_tls(
                partial(self._new_connection, "tls"),
                host,
                port,
                tls,
                timeout_s=self._settings.connect_timeout_s,
                max_handshakes=self._max_handshakes,
                backlog=LISTEN_BACKLOG,
            )
            bound = self._keep(listener)
        self._ports.setdefault(tls is not None, bound[1])
        return bound

    async def listen_proxied(self, host: str, port: int) -> tuple[str, int]:
        """The same for clients whose proxy tells in the PROXY protocol who they are."""
        entrance = ProxyEntrance(
            partial(self._new_connection, "proxied"),
            timeout_s=self._settings.connect_timeout_s,
            max_arrivals=self._settings.max_connections,
        )
        self._proxied.append(entrance)
        return await self._open(entrance, host, port)

    def port(self, *, tls: bool) -> int | None:
        """The port of the first listener with or without TLS, for hints to people; None without one."""
        return self._ports.get(tls)

    async def stop_listening(self) -> None:
        """Accept no more clients; those that are the broker's stay."""
        for server in self._servers:
            server.close()
        for entrance in self._proxied:
            entrance.end_arrivals("the server shuts down")

    async def _open(self, make_protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> tuple[str, int]:
        server = await asyncio.get_running_loop().create_server(make_protocol, host, port, backlog=LISTEN_BACKLOG)
        return self._keep(server)

    def _keep(self, server: asyncio.Server | TlsListener) -> tuple[str, int]:
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        return bound[0], bound[1]
