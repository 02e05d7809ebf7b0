"""A connection to a foreign server, of which so much is read and no more, and a little at a time. Knows no HTTP.

What is behind the limit on an answer's length can still be a lot of work: chunks of one byte each, or interim answers
without end. And all that one read brings is parsed at one go, while everybody else waits.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpcore

from headwater.services.outbound import OutboundFailed

READ_BYTES = 4096
"""At a time: some ten milliseconds of parsing at the very most."""


class BoundedStream(httpcore.AsyncNetworkStream):
    """A stream from `host`, of which at most `max_bytes` are read. Reading on raises OutboundFailed."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, host: str, max_bytes: int) -> None:
        self._stream = stream
        self._host = host
        self._left_bytes = max_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._left_bytes <= 0:
            raise OutboundFailed(f"{self._host} wraps its answer in too much: head, chunks or interim answers")
        await asyncio.sleep(0)  # what has come already is read without waiting: others are to have their turn
        data = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._left_bytes -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        encrypted = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return BoundedStream(encrypted, self._host, self._left_bytes)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
