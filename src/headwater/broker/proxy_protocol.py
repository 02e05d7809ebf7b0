"""Connections through a proxy that sends the PROXY protocol: its header is read, and then each is the broker's, with
the address that the header tells.

Knows nothing of MQTT. Whoever reaches such a listener is believed, so the operator switches it on for the proxy alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from headwater.broker.proxy_header import ProxyHeaderInvalid, parse_proxy_header
from headwater.logs import Log

if TYPE_CHECKING:
    from headwater.broker.connection import Connection

log = Log(__name__)


class ProxyEntrance:
    """A protocol factory for `loop.create_server`: `make_connection` is asked once the proxy has told who comes.

    Args: `timeout_s` is for the header; `max_arrivals` is how many may be without one at the same time.
    """

    def __init__(self, make_connection: Callable[[], Connection], *, timeout_s: float, max_arrivals: int) -> None:
        self.make_connection = make_connection
        self.timeout_s = timeout_s
        self._max_arrivals = max_arrivals
        self._arrivals: set[_Arrival] = set()

    def __call__(self) -> _Arrival:
        return _Arrival(self)

    def end_arrivals(self, reason: str) -> None:
        """End whoever has not sent a header yet. The others are the broker's."""
        for arrival in tuple(self._arrivals):
            arrival.end(reason)

    def add(self, arrival: _Arrival) -> str | None:
        """A connection was made. Answers why it cannot stay, or None."""
        self._arrivals.add(arrival)
        return "limit max_connections" if len(self._arrivals) > self._max_arrivals else None

    def remove(self, arrival: _Arrival) -> None:
        """It is gone, or the broker's."""
        self._arrivals.discard(arrival)


class _Arrival(asyncio.Protocol):
    """A connection before its header has come."""

    def __init__(self, entrance: ProxyEntrance) -> None:
        self._entrance = entrance
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of asyncio's classes
        if reason := self._entrance.add(self):
            self.end(reason)
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._entrance.timeout_s, self.end, "no PROXY header in time")

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._received += data
        try:
            header = parse_proxy_header(self._received)
        except ProxyHeaderInvalid as error:
            self.end(str(error))
            return
        if header is not None:
            self._hand_over(header.source, self._received[header.length_bytes :])

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def end(self, reason: str) -> None:
        """Close at once."""
        peer = self._transport.get_extra_info("peername")
        log.info("connection of a proxy dropped", reason=reason, address=str(peer[0]) if peer else "unknown")
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        self._entrance.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hand_over(self, source: tuple[str, int] | None, rest: bytes) -> None:
        self._leave()
        transport = self._transport
        connection = self._entrance.make_connection()
        transport.pause_reading()  # uvloop looks at what the protocol can do when reading starts
        transport.set_protocol(connection)
        transport.resume_reading()
        connection.connection_made(transport if source is None else ProxiedTransport(transport, source))
        if rest and not transport.is_closing():
            connection.data_received(rest)


class ProxiedTransport(asyncio.Transport):
    """A transport whose peer is the one that the proxy told of. The rest is the socket's transport's business, which
    calls the broker's connection itself."""

    __slots__ = ("_peer", "_socket")

    def __init__(self, socket: asyncio.Transport, peer: tuple[str, int]) -> None:
        super().__init__()
        self._socket = socket
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name == "peername" else self._socket.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._socket.write(data)

    def can_write_eof(self) -> bool:
        return self._socket.can_write_eof()

    def write_eof(self) -> None:
        self._socket.write_eof()

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._socket.is_closing()

    def pause_reading(self) -> None:
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._socket.resume_reading()

    def is_reading(self) -> bool:
        return self._socket.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._socket.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size()
