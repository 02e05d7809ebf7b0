"""A server of ours on a free port, small applications behind it, and clients that send what they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from headwater.services.dialect import QuickPath
from headwater.settings import WebSettings
from headwater.web.server import WebServer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DEADLINE_S = 10.0
BIG_BYTES = 20_000_000


async def send_answer(send: Send, body: bytes = b"ok") -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class App:
    """Reads each request to its end, waits for `gate`, answers; remembers what happened."""

    def __init__(self, is_open: bool = True, answer: bytes = b"ok") -> None:
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.answer = answer
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.disconnects = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        await self.gate.wait()
        await send_answer(send, self.answer)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            answer = b""
            try:
                while chunk := await self.reader.read(65_536):
                    answer += chunk
            except ConnectionResetError:
                pass  # closed with something of ours unread
            return answer

    async def answered(self, body: bytes = b"ok") -> bytes:
        """One answer."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(b"\r\n\r\n" + body)

    async def pour(self, block: bytes, limit_bytes: int = 50_000_000) -> int:
        """Send until the server has enough of it; the number of bytes it took."""
        sent = 0
        async with asyncio.timeout(DEADLINE_S):
            try:
                while sent < limit_bytes:
                    self.writer.write(block)
                    await self.writer.drain()
                    sent += len(block)
            except ConnectionError:
                pass
        return sent


@asynccontextmanager
async def serving(
    app: ASGIApp, quick_paths: Mapping[str, QuickPath] | None = None, **settings: Any
) -> AsyncIterator[tuple[WebServer, Any]]:
    server = WebServer(app, WebSettings(**settings), quick_paths=quick_paths)
    address = await server.listen("127.0.0.1", 0)
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> Client:
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        return Client(reader, writer)

    try:
        yield server, connect
    finally:
        for writer in writers:
            writer.transport.abort()
        await server.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)
