"""Requests that are answered without the application, among others that are not, on real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from http_server import BIG_BYTES, GET, App, Client, serving, until

from headwater.services.dialect import Answer
from headwater.web.quick import MAX_BODY_BYTES

QUICK = b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"

pytestmark = pytest.mark.timeout(30)


class Path:
    """Takes every request that does not begin with `no`; answers when the gate is open."""

    def __init__(self, is_open: bool = True, answer: bytes = b"quick") -> None:
        self.is_open = is_open
        self.bodies: list[bytes] = []
        self.waiting: list[Answer] = []
        self.answer = answer

    def take(
        self, method: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Answer
    ) -> bool:
        if body.startswith(b"no"):
            return False
        if body == b"bad":
            raise ValueError("a fault")
        self.bodies.append(body)
        self.waiting.append(answer)
        if self.is_open:
            asyncio.get_running_loop().call_soon(self.open)
        return True

    def open(self) -> None:
        self.is_open = True
        while self.waiting:
            length = ((b"content-length", b"%d" % len(self.answer)),)
            self.waiting.pop(0)(200, length, self.answer)


async def test_it_is_answered_by_the_path() -> None:
    app, path = App(), Path()
    async with serving(app, {"/quick": path}) as (_, connect):
        client = await connect()
        for _ in range(3):
            client.send(QUICK + b"abc")
            answer = await client.answered(b"quick")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: ")
    assert path.bodies == [b"abc"] * 3
    assert app.scopes == []


async def test_what_it_does_not_take_is_the_applications() -> None:
    app, path = App(), Path()
    async with serving(app, {"/quick": path}) as (_, connect):
        client = await connect()
        client.send(QUICK + b"no!")
        await client.answered()
        client.send(GET)
        await client.answered()
    assert app.bodies == [b"no!", b""]
    assert path.bodies == []


async def test_among_others_answers_keep_their_order() -> None:
    app, path = App(is_open=False), Path(is_open=False)
    async with serving(app, {"/quick": path}) as (_, connect):
        client = await connect()
        client.send(QUICK + b"one" + GET + QUICK + b"two" + QUICK + b"no!")
        await until(lambda: path.bodies)
        assert app.scopes == []  # which waits for the answer before
        path.open()
        await client.answered(b"quick")
        await until(lambda: app.scopes)
        assert path.bodies == [b"one"]
        app.gate.set()
        await client.answered()
        await client.answered(b"quick")
        await client.answered()
    assert (path.bodies, app.bodies) == ([b"one", b"two"], [b"", b"no!"])


async def test_a_body_in_pieces() -> None:
    path = Path()
    async with serving(App(), {"/quick": path}) as (_, connect):
        client = await connect()
        for byte in QUICK + b"abc":
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        await client.answered(b"quick")
    assert path.bodies == [b"abc"]


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 1_000_000])
async def test_a_large_body_is_the_applications(size: int) -> None:
    app, path = App(), Path()
    async with serving(app, {"/quick": path}) as (_, connect):
        client = await connect()
        body = b"a" * size
        client.send(b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
        await client.answered(b"quick" if size <= MAX_BODY_BYTES else b"ok")
    assert (path.bodies or app.bodies) == [body]
    assert bool(path.bodies) == (size <= MAX_BODY_BYTES)


async def test_who_wants_to_be_told_to_continue_is_the_applications() -> None:
    app = App()
    async with serving(app, {"/quick": Path()}) as (_, connect):
        client = await connect()
        client.send(QUICK[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert await client.answered(b"") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        await client.answered()
    assert app.bodies == [b"abc"]


@pytest.mark.parametrize("head", [b"Connection: close\r\n", b""])
async def test_the_end_of_the_connection(head: bytes) -> None:
    async with serving(App(), {"/quick": Path()}) as (_, connect):
        client = await connect()
        version = b"1.1" if head else b"1.0"
        client.send(b"GET /quick HTTP/%b\r\nHost: x\r\n%b\r\n" % (version, head))
        answer = await client.rest()
    assert answer.endswith(b"\r\n\r\nquick")
    assert answer.count(b"Connection: close") == 1


async def test_a_client_that_is_gone_disturbs_nobody() -> None:
    path = Path(is_open=False)
    async with serving(App(), {"/quick": path}) as (server, connect):
        client = await connect()
        client.send(QUICK + b"abc")
        await until(lambda: path.bodies)
        client.writer.transport.abort()
        await until(lambda: not server.connection_count)
        path.open()
        other = await connect()
        other.send(QUICK + b"def")
        await other.answered(b"quick")
    assert path.bodies == [b"abc", b"def"]


async def test_a_fault_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(App(), {"/quick": Path()}) as (_, connect):
        client = await connect()
        with caplog.at_level(logging.ERROR):
            client.send(QUICK + b"bad")
            assert await client.rest() == b""
        assert "a quick path failed" in caplog.text
        other = await connect()
        other.send(QUICK + b"abc")
        await other.answered(b"quick")


async def test_closing_waits_for_the_answer() -> None:
    path = Path(is_open=False)
    async with serving(App(), {"/quick": path}) as (server, connect):
        client: Client = await connect()
        client.send(QUICK + b"abc")
        await until(lambda: path.bodies)
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        path.open()
        assert (await client.rest()).endswith(b"\r\n\r\nquick")
        await closing


async def test_a_client_that_does_not_read_fills_no_memory() -> None:
    """While answers wait for it, its requests are left to the application, which waits too."""
    path, app = Path(answer=b"a" * BIG_BYTES), App()
    async with serving(app, {"/quick": path}) as (_, connect):
        client = await connect()
        client.send((QUICK + b"abc") * 5)
        await until(lambda: app.scopes)
        assert len(path.bodies) == 1
        async with asyncio.timeout(10):
            await client.reader.readuntil(b"\r\n\r\n")
            await client.reader.readexactly(BIG_BYTES)
            assert b"Content-Length: 2\r\n" in await client.reader.readuntil(b"\r\n\r\nok")
