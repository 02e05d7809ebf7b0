"""Connections at their limits, on real sockets in the test's own loop."""

from __future__ import annotations

import asyncio
import logging

import pytest
from http_server import BIG_BYTES, DEADLINE_S, GET, App, send_answer, serving, until
from starlette.types import Receive, Scope, Send

from headwater.web.connection import MAX_PIPELINED

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.timeout(30)


async def test_a_request_goes_through_our_own_heads() -> None:
    """Whoever updates uvicorn learns here that its protocol has changed."""
    app = App()
    async with serving(app) as (_, connect):
        client = await connect()
        client.send(POST + b"abc")
        assert b"\r\nContent-Length: 2\r\nDate: " in await client.answered()
        client.send(GET)
        await client.answered()
    assert app.bodies == [b"abc", b""]


async def test_who_asks_is_who_connected() -> None:
    app = App()
    async with serving(app) as (_, connect):
        client = await connect()
        client.send(GET[:-2] + b"X-Forwarded-For: 10.9.8.7\r\nX-Forwarded-Proto: https\r\n\r\n")
        await client.answered()
    assert app.scopes[0]["client"][0] == "127.0.0.1"
    assert app.scopes[0]["scheme"] == "http"


class TestPipelining:
    async def test_in_order_up_to_the_limit(self) -> None:
        app = App(is_open=False)
        async with serving(app) as (_, connect):
            client = await connect()
            client.send((POST + b"abc") * (MAX_PIPELINED + 1))
            await until(lambda: app.bodies)
            app.gate.set()
            for _ in range(MAX_PIPELINED + 1):
                assert b"Connection: close" not in await client.answered()
            client.send(GET)
            await client.answered()
        assert app.bodies == [b"abc"] * (MAX_PIPELINED + 1) + [b""]

    async def test_what_is_beyond_is_dropped_after_the_answers(self) -> None:
        app = App(is_open=False)
        async with serving(app) as (_, connect):
            client = await connect()
            client.send(GET * 5_000)
            await until(lambda: app.bodies)
            app.gate.set()
            answer = await client.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == len(app.bodies) <= MAX_PIPELINED + 1
        assert answer.count(b"Connection: close") <= 1

    async def test_nothing_is_read_while_requests_wait(self) -> None:
        app = App(is_open=False)
        async with serving(app) as (_, connect):
            client = await connect()
            client.send(GET * 2)
            await until(lambda: app.bodies)
            client.writer.transport.set_write_buffer_limits(high=0)
            taken = asyncio.create_task(client.pour(POST + b"abc" + bytes(65_536)))
            done, _ = await asyncio.wait([taken], timeout=0.3)
            assert not done
            app.gate.set()
            assert (await client.rest()).count(b"HTTP/1.1 200 OK") >= 2
            await taken

    async def test_the_running_request_learns_of_the_disconnect(self) -> None:
        """Not the newest only. Nothing is read while requests wait, so it shows when the stream writes."""
        requests = 0
        gone = asyncio.Event()

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal requests
            requests += 1
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            listener = asyncio.create_task(receive())
            while not listener.done():
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await asyncio.wait([listener], timeout=0.01)
            assert listener.result()["type"] == "http.disconnect"
            gone.set()

        async with serving(stream) as (_, connect):
            client = await connect()
            client.send(GET * 3)
            await client.answered(b"4\r\ntick")
            client.writer.transport.abort()
            async with asyncio.timeout(DEADLINE_S):
                await gone.wait()
        assert requests == 1


class TestBodies:
    async def test_endless_trailers(self) -> None:
        async with serving(App()) as (_, connect):
            for block in (b"a: b\r\n" * 5_000, b"A: " + b"x" * 65_536):
                client = await connect()
                client.send(CHUNKED + b"0\r\n")
                assert await client.pour(block) < BIG_BYTES

    async def test_trailers_are_no_headers(self) -> None:
        app = App()
        async with serving(app) as (_, connect):
            client = await connect()
            client.send(CHUNKED + b"1\r\na\r\n0\r\nCookie: a\r\n\r\n")
            await client.answered()
        assert app.bodies == [b"a"]
        assert b"cookie" not in dict(app.scopes[0]["headers"])

    async def test_endless_chunk_extension(self) -> None:
        async with serving(App()) as (_, connect):
            client = await connect()
            client.send(CHUNKED + b"5;")
            assert await client.pour(b"x" * 65_536) < BIG_BYTES

    async def test_an_answered_request_whose_body_does_not_end(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send_answer(send)

        async with serving(app, max_body_bytes=100_000) as (_, connect):
            client = await connect()
            client.send(POST.replace(b"3", b"99999999999"))
            await client.answered()
            assert await client.pour(b"x" * 65_536) < BIG_BYTES

    @pytest.mark.parametrize("sent", [b"", b"a"])
    async def test_a_body_that_does_not_come(self, sent: bytes) -> None:
        app = App()
        async with serving(app, body_timeout_s=0.2) as (_, connect):
            client = await connect()
            client.send(POST + sent)
            assert await client.rest() == b""
            await until(lambda: app.disconnects)

    async def test_a_body_that_trickles(self) -> None:
        async with serving(App(), body_timeout_s=0.3) as (_, connect):
            client = await connect()
            client.send(POST.replace(b"3", b"100000"))
            ended = asyncio.create_task(client.rest())
            while not ended.done():
                client.send(b"a")
                await asyncio.wait([ended], timeout=0.05)
            assert ended.result() == b""

    async def test_a_body_that_comes_after_the_answer_has_its_time_too(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send_answer(send)

        async with serving(app, body_timeout_s=0.2) as (_, connect):
            client = await connect()
            client.send(POST)
            await client.answered()
            client.send(b"a")
            assert await client.rest() == b""

    async def test_a_large_body_has_more_time(self) -> None:
        app = App()
        async with serving(app, body_timeout_s=0.2) as (_, connect):
            client = await connect()
            client.send(POST.replace(b"3", b"10001") + bytes(10_000))
            await asyncio.sleep(0.5)
            client.send(b"a")
            await client.answered()


class TestDeadlines:
    async def test_an_empty_line_does_not_keep_a_connection(self) -> None:
        async with serving(App(), keep_alive_s=0.3) as (_, connect):
            client = await connect()
            client.send(GET)
            await client.answered()
            client.send(b"\r\n")
            assert await client.rest() == b""

    async def test_a_later_head_has_its_time_too(self) -> None:
        async with serving(App(), header_timeout_s=0.2) as (_, connect):
            client = await connect()
            client.send(GET)
            await client.answered()
            client.send(GET[:10])
            assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    async def test_an_answer_that_is_not_read(self) -> None:
        app = App(answer=bytes(BIG_BYTES))
        async with serving(app, write_timeout_s=0.2) as (server, connect):
            client = await connect()
            client.writer.transport.pause_reading()
            client.send(GET)
            await until(lambda: app.bodies)
            await until(lambda: server.connection_count == 0)
            client.writer.transport.resume_reading()
            assert len(await client.rest()) < BIG_BYTES

    async def test_an_answer_that_is_read_slowly_arrives(self) -> None:
        async with serving(App(answer=bytes(BIG_BYTES)), write_timeout_s=0.2) as (_, connect):
            client = await connect()
            client.send(GET)
            read = 0
            async with asyncio.timeout(DEADLINE_S):
                while read < BIG_BYTES:
                    read += len(await client.reader.read(500_000))
                    await asyncio.sleep(0.001)

    async def test_a_live_stream_outlives_all_deadlines(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10):
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"end"})

        short = dict.fromkeys(("keep_alive_s", "header_timeout_s", "body_timeout_s", "write_timeout_s"), 0.1)
        async with serving(app, **short) as (_, connect):
            client = await connect()
            client.send(GET)
            assert (await client.answered(b"4\r\ntick\r\n" * 10 + b"3\r\nend\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200")


class TestRefusals:
    @pytest.mark.parametrize("after", [b"no HTTP\r\n\r\n", b"GET / HTT", b"GET /" + b"x" * 70_000])
    async def test_an_answer_under_way_stays_whole(self, after: bytes) -> None:
        app = App(is_open=False)
        async with serving(app, header_timeout_s=0.1) as (_, connect):
            client = await connect()
            client.send(GET + after)
            await until(lambda: app.bodies)
            await asyncio.sleep(0.2)
            app.gate.set()
            answer = await client.rest()
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nok")

    async def test_a_bad_chunk_just_ends_it(self) -> None:
        app = App()
        async with serving(app) as (_, connect):
            client = await connect()
            client.send(CHUNKED + b"no chunk\r\n")
            assert await client.rest() == b""
            await until(lambda: app.disconnects)

    async def test_a_length_of_thousands_of_digits(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving(App()) as (_, connect):
            client = await connect()
            client.send(POST.replace(b" 3\r", b" " + b"0" * 5_000 + b"3\r") + b"abc")
            assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert not caplog.records

    async def test_too_many_connections(self) -> None:
        async with serving(App(), max_connections=1) as (_, connect):
            first, second = await connect(), await connect()
            assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
            first.send(GET)
            await first.answered()

    @pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
    async def test_an_upgrade_is_answered_as_any_request(
        self, protocol: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(App()) as (_, connect):
            client = await connect()
            client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n" + GET)
            answer = await client.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert b"\r\nConnection: close\r\n" in answer
        assert caplog.records == []


class TestClose:
    async def test_a_request_that_never_came_whole_is_cut_off_quietly(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headwater.web.server.DRAIN_TIMEOUT_S", 0.1)
        monkeypatch.setattr("headwater.web.server.STREAM_TIMEOUT_S", 0.1)
        app = App()
        async with serving(app) as (server, connect):
            client = await connect()
            client.send(POST)
            await until(lambda: app.scopes)
            before = len(asyncio.all_tasks())
            await server.close()
            assert len(asyncio.all_tasks()) == before - 1
            assert await client.rest() == b""
        assert [record.getMessage() for record in caplog.records] == ["a request was cut off by the shutdown"]
        assert all(record.levelno == logging.WARNING and not record.exc_info for record in caplog.records)

    async def test_a_request_under_way_is_answered(self) -> None:
        app = App(is_open=False)
        async with serving(app) as (server, connect):
            client = await connect()
            client.send(GET)
            await until(lambda: app.bodies)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            app.gate.set()
            assert (await client.rest()).endswith(b"\r\n\r\nok")
            await closing
