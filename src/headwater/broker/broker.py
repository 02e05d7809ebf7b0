"""The broker: listeners, the connections there are, their deadlines, and changes of rights while they live."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterable

from headwater.broker.connection import Connection
from headwater.broker.router import Router
from headwater.model.principal import KEY_ONLY, Principal
from headwater.mqtt.session import SessionLimits
from headwater.services import Services
from headwater.services.access import AccessChange
from headwater.services.dialect import TopicSpace
from headwater.settings import MqttSettings

SWEEP_INTERVAL_S = 0.5
"""Deadlines are kept to within this."""
KEEP_ALIVE_GRACE = 1.5
"""[MQTT-3.1.2-24]"""
LISTEN_BACKLOG = 1_024
CLOSE_TIMEOUT_S = 3.0


class Broker:
    """Accepts MQTT clients on any number of listeners; call everything from the event loop's thread."""

    def __init__(self, services: Services, spaces: Iterable[TopicSpace], settings: MqttSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.access = services.access
        self.ingest = services.ingest
        self.router = Router(spaces, services.refusals)
        self.receive_buffer = memoryview(bytearray(settings.receive_buffer_bytes))
        self.session_limits = SessionLimits(
            max_packet_bytes=settings.max_packet_bytes,
            max_topic_bytes=settings.max_topic_bytes,
            max_topic_levels=settings.max_topic_levels,
            max_wildcard_levels=settings.max_wildcard_levels,
            max_client_id_bytes=settings.max_client_id_bytes,
            max_subscribe_filters=settings.max_filters_per_subscribe,
            max_in_flight=settings.max_in_flight,
            max_queued_messages=settings.max_queued_messages,
            max_queued_bytes=settings.max_queued_bytes,
        )
        self._servers: list[asyncio.Server] = []
        self._ports: dict[bool, int] = {}
        self._connections: set[Connection] = set()
        self._by_client_id: dict[tuple[Principal, str], Connection] = {}
        self._by_address: Counter[str] = Counter()
        self._to_flush: list[Connection] = []
        self._all_gone = asyncio.Event()
        self._sweeper = self.loop.create_task(self._sweep())
        self.access.on_change(self._access_changed)

    @property
    def connections(self) -> int:
        """How many clients are connected, signed in or not."""
        return len(self._connections)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Open a listener; answers the address it got (port 0 picks a free one). Raises OSError."""
        server = await self.loop.create_server(
            lambda: Connection(self),
            host,
            port,
            ssl=tls,
            backlog=LISTEN_BACKLOG,
            ssl_handshake_timeout=self.settings.connect_timeout_s if tls is not None else None,
        )
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        self._ports.setdefault(tls is not None, bound[1])
        return bound[0], bound[1]

    def port(self, *, tls: bool) -> int | None:
        """The port of the first listener with or without TLS, for hints to people; None without one."""
        return self._ports.get(tls)

    async def stop_listening(self) -> None:
        """Accept no more clients; those that are connected stay."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Close every connection, after what it still has to be told."""
        await self.stop_listening()
        self._sweeper.cancel()
        await self.ingest.drain()
        self._flush_all()
        if self._connections:
            self._all_gone.clear()
            for connection in tuple(self._connections):
                connection.close("the server shuts down")
            try:
                await asyncio.wait_for(self._all_gone.wait(), CLOSE_TIMEOUT_S)
            except TimeoutError:
                for connection in tuple(self._connections):
                    connection.abort("the server shuts down")

    # -- connections come and go --------------------------------------------------------------------------

    def add(self, connection: Connection) -> str | None:
        """A connection was made. Answers why it cannot stay, or None."""
        self._connections.add(connection)
        self._by_address[connection.address] += 1
        if len(self._connections) > self.settings.max_connections:
            return "limit max_connections"
        most = self.settings.max_connections_per_address
        if most and self._by_address[connection.address] > most:
            return "limit max_connections_per_address"
        return None

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        for topic_filter in tuple(connection.subscriptions or ()):
            connection.unsubscribe(topic_filter)
        client = (connection.principal, connection.session.client_id or "")
        if self._by_client_id.get(client) is connection:
            del self._by_client_id[client]
        if not self._connections:
            self._all_gone.set()

    def take_over(self, connection: Connection, client_id: str) -> None:
        """A client has signed in; an older connection of the same client is closed [MQTT-3.1.4-2].

        The same client means the same principal too: nobody ends another's connection by knowing its client id.
        Clients that only show keys in topics are nobody in particular, so an id says nothing about them.
        """
        if connection.principal == KEY_ONLY or not client_id:
            return
        client = (connection.principal, client_id)
        older = self._by_client_id.get(client)
        self._by_client_id[client] = connection
        if older is not None:
            older.close("taken over by a newer connection of this client")

    # -- output and deadlines -----------------------------------------------------------------------------

    def flush_soon(self, connection: Connection) -> None:
        """Write this connection's output after the current callback, once for all that is due by then."""
        if not self._to_flush:
            self.loop.call_soon(self._flush_all)
        self._to_flush.append(connection)

    def _flush_all(self) -> None:
        due, self._to_flush = self._to_flush, []
        for connection in due:
            connection.flush_due()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now_s = self.loop.time()
            for connection in tuple(self._connections):
                reason = self._overdue(connection, now_s)
                if reason is not None:
                    connection.abort(reason)

    def _overdue(self, connection: Connection, now_s: float) -> str | None:
        idle_s = now_s - connection.active_at_s
        session = connection.session
        if connection.closed_at_s is not None:
            unread_s = now_s - connection.closed_at_s
            return "does not read its last bytes" if unread_s > self.settings.write_timeout_s else None
        if connection.waits_for_room:  # we are not listening, so its silence means nothing
            return None
        if not session.is_connected:
            return "no CONNECT in time" if idle_s > self.settings.connect_timeout_s else None
        if connection.write_paused_at_s is not None:
            stuck_s = now_s - connection.write_paused_at_s
            return "does not read what it is sent" if stuck_s > self.settings.write_timeout_s else None
        longest_s = self.settings.max_keep_alive_s
        keep_alive_s = min(session.keep_alive_s or longest_s, longest_s)
        return "keep alive ran out" if idle_s > keep_alive_s * KEEP_ALIVE_GRACE else None

    # -- rights -------------------------------------------------------------------------------------------

    def _access_changed(self, change: AccessChange) -> None:
        """Whoever lost the right to be here goes at once. Rights are worked out anew of those who are named, and, as
        a bucket has changed, of everybody who may be using it: only dialects know which topics mean which bucket."""
        for connection in tuple(self._connections):
            principal = connection.principal
            if principal.device_id is not None:
                is_named = principal.device_id in change.device_ids
            else:
                is_named = principal.account_id in change.account_ids
            if not is_named:
                if change.bucket_ids:
                    connection.apply_rights(principal)
                continue
            renewed = self.access.renewed(principal)
            if renewed is None or change.ends_sessions:
                connection.abort("its credentials were withdrawn")
            else:
                connection.apply_rights(renewed)
