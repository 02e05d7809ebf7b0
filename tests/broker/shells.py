"""What the transports need of a broker, without one: connections that echo what they receive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

DEADLINE_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as something is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


class Echo(asyncio.BufferedProtocol):
    """A connection that answers what it receives, and remembers what happened."""

    def __init__(self, broker: FakeBroker, name: str) -> None:
        self.broker = broker
        self.name = name
        self.transport: Any = None
        self.received = b""
        self.reads: list[int] = []
        self.is_lost = False
        self.is_write_paused = False
        self.echoes = True
        self._buffer = memoryview(bytearray(broker.buffer_bytes))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.transport is None
        self.transport = transport
        self.echoes = self.broker.echoes
        if self.broker.write_limit_bytes is not None:
            self.transport.set_write_buffer_limits(high=self.broker.write_limit_bytes)
        if self.broker.is_full:
            self.transport.abort()
        if self.broker.pauses:
            self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        assert not self.is_lost
        self.received += data
        self.reads.append(len(data))
        if self.echoes:
            self.transport.write(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        assert not self.is_write_paused
        self.is_write_paused = True

    def resume_writing(self) -> None:
        assert self.is_write_paused
        self.is_write_paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.is_lost
        self.is_lost = True


class FakeBroker:
    """Makes connections, and keeps them."""

    def __init__(self) -> None:
        self.connections: list[Echo] = []
        self.is_full = False
        self.echoes = True
        self.pauses = False
        self.write_limit_bytes: int | None = None
        self.buffer_bytes = 4096

    def new_connection(self, transport_name: str) -> Echo:
        connection = Echo(self, transport_name)
        self.connections.append(connection)
        return connection

    def abort_all(self) -> None:
        for connection in self.connections:
            if not connection.is_lost:
                connection.transport.abort()
