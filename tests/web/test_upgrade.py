"""Handing a connection to another protocol: what the HTTP side decides, gives away and lets go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from headwater.settings import WebSettings
from headwater.web.server import WebServer
from headwater.web.upgrade import hint_routes

DEADLINE_S = 10.0
HEAD = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Upper(asyncio.Protocol):
    """Answers in upper case."""

    def __init__(self, upgrade: Shouting, transport: asyncio.Transport) -> None:
        self.upgrade = upgrade
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.upgrade.lost += 1


class Shouting:
    """Takes over /shout; at /busy it refuses."""

    paths = ("/shout", "/busy")

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, dict[bytes, bytes]]] = []
        self.lost = 0

    def wants(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        return path in self.paths

    def take_over(
        self,
        transport: asyncio.Transport,
        path: str,
        http_version: str,
        headers: Iterable[tuple[bytes, bytes]],
        received: bytes,
    ) -> bool:
        if path == "/busy":
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            transport.close()
            return False
        self.taken.append((path, http_version, dict(headers)))
        transport.write(SWITCHED)
        protocol = Upper(self, transport)
        transport.set_protocol(protocol)
        if received:
            protocol.data_received(received)
        return True


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[WebServer, Shouting, Any]]:
    upgrade = Shouting()
    server = WebServer(application, WebSettings(**settings), upgrade)
    address = await server.listen("127.0.0.1", 0)
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        return reader, writer

    try:
        yield server, upgrade, connect
    finally:
        for writer in writers:
            writer.transport.abort()
        await server.close()
        async with asyncio.timeout(DEADLINE_S):
            while upgrade.lost < len(upgrade.taken):
                await asyncio.sleep(0.005)


async def answered(reader: asyncio.StreamReader, end: bytes) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await reader.readuntil(end)


async def rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await reader.read()


async def test_the_connection_and_all_that_follows_are_handed_over() -> None:
    async with serving() as (server, upgrade, connect):
        reader, writer = await connect()
        writer.write(HEAD % b"/shout?x=1" + b"early")
        assert await answered(reader, b"EARLY") == SWITCHED + b"EARLY"
        writer.write(b"later")
        assert await answered(reader, b"LATER") == b"LATER"
        path, version, headers = upgrade.taken[0]
        assert (path, version, headers[b"upgrade"]) == ("/shout", "1.1", b"websocket")
        assert server.connection_count == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_byte_by_byte() -> None:
    async with serving() as (_, _, connect):
        reader, writer = await connect()
        for byte in HEAD % b"/shout" + b"early":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await answered(reader, b"EARLY") == SWITCHED + b"EARLY"


async def test_after_requests_on_the_same_connection() -> None:
    async with serving() as (_, _, connect):
        reader, writer = await connect()
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await answered(reader, b"\r\n\r\nok")
        writer.write(HEAD % b"/shout")
        assert await answered(reader, SWITCHED) == SWITCHED


async def test_a_refusal_ends_the_connection() -> None:
    async with serving() as (server, _, connect):
        reader, writer = await connect()
        writer.write(HEAD % b"/busy" + HEAD % b"/shout")
        answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert server.connection_count == 0


@pytest.mark.parametrize(
    "request_",
    [
        HEAD % b"/other",
        (HEAD % b"/shout").replace(b"websocket", b"h2c"),
        (HEAD % b"/shout").replace(b"websocket", b"websocket, h2c"),
        (HEAD % b"/shout").replace(b"GET", b"POST"),
        (HEAD % b"/shout")[:-2] + b"Content-Length: 2\r\n\r\nab",
        (HEAD % b"/shout")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_anything_else_is_answered_as_any_request(request_: bytes) -> None:
    async with serving() as (_, upgrade, connect):
        reader, writer = await connect()
        writer.write(request_)
        assert (await rest(reader)).endswith(b"\r\nConnection: close\r\n\r\nok")
        assert upgrade.taken == []


async def test_without_its_connection_header_it_is_no_upgrade() -> None:
    async with serving() as (_, upgrade, connect):
        reader, writer = await connect()
        writer.write((HEAD % b"/shout").replace(b"Connection: Upgrade\r\n", b""))
        await answered(reader, b"\r\n\r\nok")
        assert upgrade.taken == []


async def test_a_path_that_is_none_is_refused() -> None:
    async with serving() as (_, upgrade, connect):
        reader, writer = await connect()
        writer.write(HEAD % b"//:x")
        assert b"HTTP/1.1 " in await rest(reader)
        assert upgrade.taken == []


async def test_a_flood_of_upgrades_is_bounded_by_connections() -> None:
    """Nobody waits for anything: what HTTP keeps of each is nothing."""
    async with serving(max_connections=3) as (server, upgrade, connect):
        for _ in range(50):
            reader, writer = await connect()
            writer.write(HEAD % b"/shout")
            await answered(reader, SWITCHED)
        assert len(upgrade.taken) == 50
        assert server.connection_count == 0


async def test_the_paths_tell_people_what_they_are_for() -> None:
    upgrade = Shouting()
    server = WebServer(Starlette(routes=hint_routes(cast(Any, upgrade))), WebSettings(), upgrade)
    reader, writer = await asyncio.open_connection(*await server.listen("127.0.0.1", 0))
    writer.write(b"GET /busy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in answer
    assert b"MQTT over WebSocket" in answer
    writer.close()
    await server.close()
