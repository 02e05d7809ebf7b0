"""MQTT over WebSocket: handshake, frames byte by byte and back-pressure, on real sockets behind a real HTTP server."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect as connect_library
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import apply_mask

from headwater.broker import websocket as websocket_module
from headwater.broker.websocket import FIRST_FRAMES_BYTES, SEVERAL_PACKETS_BYTES, WebSockets
from headwater.broker.websocket_handshake import answer_handshake, is_for_mqtt
from headwater.settings import MqttSettings, WebSettings
from headwater.web.server import WebServer

from .shells import DEADLINE_S, Echo, FakeBroker, until

BINARY, TEXT, CONT, CLOSE, PING, PONG = 2, 1, 0, 8, 9, 10
FIN = 0x80
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455 section 1.3."""
MAX_PACKET_BYTES = 4096


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = b"\1\2\3\4") -> bytes:
    """A frame as a client sends it."""
    first, masked = opcode | (FIN if fin else 0), 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, masked | len(payload))
    elif len(payload) < 65_536:
        head = struct.pack("!BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, masked | 127, len(payload))
    return head + (mask + apply_mask(payload, mask) if mask else payload)


def request(path: str = "/mqtt", protocol: str | None = "mqtt", **headers: str) -> bytes:
    """A handshake; header names with underscores."""
    fields = {
        "Host": "house.example:8080",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": KEY.decode(),
        "Sec_WebSocket_Version": "13",
    }
    if protocol is not None:
        fields["Sec_WebSocket_Protocol"] = protocol
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in (fields | headers).items() if value]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class Received(NamedTuple):
    opcode: int
    payload: bytes


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def head(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> Received:
        async with asyncio.timeout(DEADLINE_S):
            first, length = await self.reader.readexactly(2)
            assert first & FIN
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return Received(first & 15, await self.reader.readexactly(length))

    async def echo(self, length: int) -> bytes:
        """The payloads of frames until so many bytes have come."""
        data = b""
        while len(data) < length:
            opcode, payload = await self.frame()
            assert opcode == BINARY
            data += payload
        return data

    async def closed(self, code: int) -> None:
        """The server says goodbye with this code and closes."""
        received = await self.frame()
        assert received.opcode == CLOSE
        assert struct.unpack("!H", received.payload[:2]) == (code,)
        await self.gone()

    async def gone(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionError):
                assert await self.reader.read() == b""

    async def rest(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()

    async def pour(self, block: bytes, patience_s: float) -> int:
        """Send until the server has taken nothing for so long; how many bytes it took."""
        sent = 0
        while True:
            self.send(block)
            try:
                await asyncio.wait_for(self.writer.drain(), patience_s)
            except TimeoutError:
                return sent
            sent += len(block)


class Entrance:
    """An HTTP server, the WebSocket entrance and connections that echo."""

    def __init__(self, origins: tuple[str, ...], web: dict[str, Any], mqtt: dict[str, Any]) -> None:
        self.broker = FakeBroker()
        settings = MqttSettings(**({"max_packet_bytes": MAX_PACKET_BYTES, "bytes_per_turn": 4096} | mqtt))
        self.web_sockets = WebSockets(cast(Any, self.broker.new_connection), origins, settings)
        self.server = WebServer(self, WebSettings(**web), self.web_sockets)
        self.address = ("", 0)
        self.requests = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"plain"})

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 20)
        self._writers.append(writer)
        return Client(reader, writer)

    async def upgrade(self, handshake: bytes | None = None) -> Client:
        client = await self.connect()
        client.send(handshake or request())
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client

    @property
    def connection(self) -> Echo:
        return self.broker.connections[-1]

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.server.close()
        await until(lambda: all(connection.is_lost for connection in self.broker.connections))
        assert self.server.connection_count == 0


@asynccontextmanager
async def entrance(
    origins: tuple[str, ...] = ("*",), web: dict[str, Any] | None = None, **mqtt: Any
) -> AsyncIterator[Entrance]:
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
    opened = Entrance(origins, web or {}, mqtt)
    opened.address = await opened.server.listen("127.0.0.1", 0)
    try:
        yield opened
    finally:
        await opened.close()
    assert problems == [], "an exception reached the event loop"


@pytest.fixture(autouse=True)
def quick_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "CLOSE_TIMEOUT_S", 0.3)


class TestHandshake:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            ("mqtt", b"mqtt"),
            ("mqttv3.1", b"mqttv3.1"),
            ("mqttv3.1, mqtt", b"mqtt"),
            ("chat,mqtt", b"mqtt"),
            (None, None),
        ],
    )
    @pytest.mark.parametrize("path", ["/mqtt", "/ws", "/mqtt?a=b"])
    async def test_the_subprotocol_is_answered(self, path: str, offered: str | None, chosen: bytes | None) -> None:
        """[MQTT-6.0.0-3, MQTT-6.0.0-4]"""
        async with entrance() as house:
            client = await house.connect()
            client.send(request(path, offered))
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n" in head
            assert (b"\r\nSec-WebSocket-Protocol: " in head) == (chosen is not None)
            assert chosen is None or b"\r\nSec-WebSocket-Protocol: " + chosen + b"\r\n" in head
            assert b"Extensions" not in head
            assert house.connection.name == "websocket"

    async def test_compression_is_not_taken(self) -> None:
        async with entrance() as house:
            client = await house.connect()
            client.send(request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
            assert b"Extensions" not in await client.head()

    @pytest.mark.parametrize(
        ("handshake", "status"),
        [
            (request(protocol="chat"), b"400"),
            (request(protocol="mqtt;"), b"400"),
            (request(Sec_WebSocket_Key=""), b"400"),
            (request(Sec_WebSocket_Key="short"), b"400"),
            (request(Sec_WebSocket_Version="8"), b"400"),
            (request(Sec_WebSocket_Version=""), b"400"),
            (request(Origin="http://a.example", Origin_="x").replace(b"Origin-:", b"Origin:"), b"400"),
            (request().replace(b"HTTP/1.1", b"HTTP/1.0"), b"505"),
        ],
    )
    async def test_a_bad_handshake_is_refused(
        self, handshake: bytes, status: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "headwater")
        async with entrance() as house:
            client = await house.connect()
            client.send(handshake)
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b"\r\nConnection: close\r\n" in answer
            assert house.broker.connections == []
            await until(lambda: house.server.connection_count == 0)
        assert [record.getMessage() for record in caplog.records] == ["WebSocket refused"]

    @pytest.mark.parametrize(
        "handshake",
        [
            request("/", protocol=None),
            request("/", protocol="chat"),
            request("/", protocol="mqtt;"),
            request("/mqtt/"),
            request("/other"),
            request(Upgrade="h2c"),
            request(Connection="close"),
            request().replace(b"GET", b"POST"),
            request(Content_Length="5") + b"hello",
        ],
    )
    async def test_what_is_not_for_mqtt_is_an_ordinary_request(self, handshake: bytes) -> None:
        async with entrance() as house:
            client = await house.connect()
            client.send(handshake)
            assert b"\r\n\r\nplain" in await client.rest()
            assert house.broker.connections == []

    async def test_the_root_is_shared_by_the_subprotocol(self) -> None:
        async with entrance() as house:
            client = await house.upgrade(request("/", "mqttv3.1, mqtt"))
            client.send(frame(BINARY, b"x"))
            assert await client.echo(1) == b"x"
            assert house.requests == 0

    async def test_a_request_may_come_first(self) -> None:
        async with entrance() as house:
            client = await house.connect()
            client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await client.head()
            assert await client.reader.readexactly(5) == b"plain"
            client.send(request(), frame(BINARY, b"x"))
            assert b" 101 " in await client.head()
            assert await client.echo(1) == b"x"

    async def test_behind_an_unanswered_request_it_is_an_ordinary_one(self) -> None:
        async with entrance() as house:
            client = await house.connect()
            client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", request())
            assert (await client.rest()).count(b"plain") == 2
            assert house.broker.connections == []

    async def test_an_upgrade_that_is_never_finished_has_the_deadline_of_a_head(self) -> None:
        async with entrance(web={"header_timeout_s": 0.1}) as house:
            client = await house.connect()
            client.send(request()[:-2])
            assert b" 408 " in await client.rest()

    async def test_after_the_upgrade_no_deadline_of_http_is_left(self) -> None:
        limits = {"header_timeout_s": 0.1, "keep_alive_s": 1, "body_timeout_s": 0.1, "write_timeout_s": 0.1}
        async with entrance(web=limits) as house:
            client = await house.upgrade()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 1.3)
            client.send(frame(BINARY, b"x"))
            assert await client.echo(1) == b"x"

    async def test_it_counts_as_a_client_and_no_more_as_an_http_connection(self) -> None:
        async with entrance(web={"max_connections": 1}) as house:
            for _ in range(3):
                client = await house.upgrade()
                client.send(frame(BINARY, b"x"))
                assert await client.echo(1) == b"x"
            assert house.server.connection_count == 0
            assert len(house.broker.connections) == 3
            house.broker.is_full = True
            client = await house.connect()
            client.send(request(), frame(BINARY, b"x"))
            await client.rest()
            assert house.connection.received == b""

    async def test_who_stops_takes_nobody_over(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            house.web_sockets.going_away()
            late = await house.connect()
            late.send(request())
            assert b"plain" in await late.rest()
            await house.server.close()
            client.send(frame(BINARY, b"x"))
            assert await client.echo(1) == b"x"  # it is the broker's to close
            house.connection.transport.close()
            await client.closed(1001)


class TestOrigins:
    @pytest.mark.parametrize(
        ("origins", "origin", "is_allowed"),
        [
            (("*",), "https://evil.example", True),
            (("*",), "null", True),
            ((), None, True),
            ((), "http://house.example:8080", True),
            ((), "HTTP://House.Example:8080", True),
            ((), "http://house.example", False),
            ((), "https://evil.example", False),
            ((), "null", False),
            ((), "*", False),
            ((), "", True),
            ((), "http://house.example:8080/path", False),
            ((), "file://", False),
            (("https://app.example",), "https://app.example", True),
            (("https://app.example",), "https://app.example:443", True),
            (("https://app.example",), "http://app.example", False),
            (("https://app.example",), "https://app.example.evil.example", False),
            (("null",), "null", True),
        ],
    )
    async def test_pages_of_which_sites_may_connect(
        self, origins: tuple[str, ...], origin: str | None, is_allowed: bool
    ) -> None:
        async with entrance(origins) as house:
            client = await house.connect()
            client.send(request(Origin=origin) if origin is not None else request())
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 " if is_allowed else b"HTTP/1.1 403 ")

    def test_the_default_port_may_be_left_out(self) -> None:
        headers = dict(
            line.split(b": ") for line in request(Host="a.example:443", Origin="https://a.example").split(b"\r\n")[1:-2]
        )
        assert answer_handshake("/ws", "1.1", headers.items(), ()).status_code == 101

    def test_a_header_that_cannot_be_is_refused(self) -> None:
        headers = [(b"sec-websocket-protocol", b"mqtt\r\nx")]
        assert not is_for_mqtt("/", headers)
        assert answer_handshake("/mqtt", "1.1", headers, ("*",)).status_code == 400


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4000, 65_535, 65_536])
    async def test_payloads_of_every_size_go_through(self, size: int) -> None:
        payload = bytes(n % 251 for n in range(size))
        async with entrance(max_packet_bytes=100_000) as house:
            client = await house.upgrade()
            client.send(frame(BINARY, payload), frame(BINARY, b"end"))
            assert await client.echo(size + 3) == payload + b"end"
            assert house.connection.received == payload + b"end"

    async def test_frames_that_came_with_the_handshake_count(self) -> None:
        async with entrance() as house:
            client = await house.connect()
            client.send(request(), frame(BINARY, b"early"))
            await client.head()
            assert await client.echo(5) == b"early"

    async def test_one_byte_at_a_time(self) -> None:
        async with entrance() as house:
            client = await house.connect()
            for byte in request() + frame(BINARY, b"ab") + frame(BINARY, b"c"):
                client.send(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            await client.head()
            assert await client.echo(3) == b"abc"

    async def test_many_frames_of_one_read_are_handed_on_at_once(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.send(*[frame(BINARY, b"ab")] * 100)
            assert await client.echo(200) == b"ab" * 100
            assert len(house.connection.reads) < 20

    async def test_fragments_are_handed_on_as_they_come(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.send(frame(BINARY, b"ab", fin=False))
            assert await client.echo(2) == b"ab"
            client.send(frame(PING, b"between"), frame(CONT, b"cd", fin=False), frame(CONT, b"ef"))
            received = [await client.frame(), await client.frame()]
            assert Received(PONG, b"between") in received
            assert house.connection.received == b"abcdef"

    async def test_pings_are_answered_and_pongs_ignored(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.send(frame(PONG, b"unasked"), frame(PING, b"a"), frame(PING), frame(BINARY, b"x"))
            frames = [await client.frame() for _ in range(3)]
            assert [received for received in frames if received.opcode == PONG] == [(PONG, b"a"), (PONG, b"")]
            assert house.connection.received == b"x"

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(TEXT, b"text"), 1003),
            (frame(TEXT, b"te", fin=False) + frame(CONT, b"xt"), 1003),
            (frame(BINARY, b"x", mask=None), 1002),
            (frame(CONT, b"x"), 1002),
            (frame(BINARY, b"x", fin=False) + frame(BINARY, b"x"), 1002),
            (frame(PING, fin=False), 1002),
            (frame(PING, bytes(126)), 1002),
            (frame(3, b"x"), 1002),
            (frame(BINARY | 0x40, b"x"), 1002),
            (frame(CLOSE, b"x"), 1002),
            (frame(CLOSE, b"\x03\xed"), 1002),
            (frame(CLOSE, b"\x03\xe8\xff"), 1007),
            (struct.pack("!BBQ", BINARY | FIN, 0xFF, 1 << 30), 1009),
            (struct.pack("!BBQ", BINARY | FIN, 0xFF, 1 << 63), 1009),
            (frame(BINARY, b"x", fin=False) + struct.pack("!BBQ", CONT | FIN, 0xFF, FIRST_FRAMES_BYTES), 1009),
        ],
    )
    async def test_who_breaks_a_rule_is_told_and_closed(
        self, data: bytes, code: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "headwater")
        async with entrance() as house:
            house.broker.echoes = False
            client = await house.upgrade()
            client.send(frame(BINARY, b"before"), data, frame(BINARY, b"after"))
            await client.closed(code)
            await until(lambda: house.connection.is_lost)
            assert house.connection.received.removesuffix(b"x") == b"before"
        assert [record.getMessage() for record in caplog.records] == ["WebSocket failed"]

    async def test_who_breaks_a_rule_and_does_not_read_is_cut_off(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.writer.transport.pause_reading()
            await until(lambda: house.broker.connections)
            house.connection.transport.write(bytes(20_000_000))
            client.send(frame(TEXT, b"text"))
            await until(lambda: house.connection.is_write_paused)
            # Nothing is read from who does not read, so it is the broker's deadline that ends it.
            house.connection.transport.abort()
            await until(lambda: house.connection.is_lost)

    async def test_a_message_is_limited_by_the_largest_packet(self) -> None:
        limit = MAX_PACKET_BYTES + SEVERAL_PACKETS_BYTES
        async with entrance() as house:
            client = await house.upgrade()
            client.send(frame(BINARY, b"x"))
            await client.echo(1)
            client.send(frame(BINARY, bytes(limit)))
            await client.echo(limit)
            client.send(frame(BINARY, bytes(limit), fin=False))
            await client.echo(limit)
            client.send(frame(CONT, b"x"))
            await client.closed(1009)

    async def test_until_the_broker_has_answered_less_is_held(self) -> None:
        async with entrance(max_packet_bytes=10_000_000) as house:
            client = await house.upgrade()
            client.send(struct.pack("!BBQ", BINARY | FIN, 0xFF, FIRST_FRAMES_BYTES + 1))
            await client.closed(1009)
            client = await house.upgrade()
            client.send(frame(BINARY, b"x"))
            await client.echo(1)
            client.send(frame(BINARY, bytes(1_000_000)))
            assert await client.echo(1_000_000) == bytes(1_000_000)

    @given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=8), st.data())
    def test_payloads_are_what_was_sent_however_it_is_cut(
        self, parts: list[tuple[bytes, bool]], data: st.DataObject
    ) -> None:
        stream, opcode = b"", BINARY
        for payload, fin in parts:
            stream += frame(opcode, payload, fin=fin, mask=data.draw(st.binary(min_size=4, max_size=4)))
            opcode = BINARY if fin else CONT
        asyncio.run(_feed(_cut(stream, data), b"".join(payload for payload, _ in parts)))

    @given(st.binary(max_size=200), st.data())
    def test_any_bytes_end_well(self, stream: bytes, data: st.DataObject) -> None:
        asyncio.run(_feed(_cut(stream, data), None))


def _cut(stream: bytes, data: st.DataObject) -> Iterator[bytes]:
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        yield stream[:length]
        stream = stream[length:]


class _Socket(asyncio.Transport):
    """A transport that goes nowhere."""

    is_open = True

    def write(self, data: Any) -> None:
        assert self.is_open

    def is_closing(self) -> bool:
        return not self.is_open

    def close(self) -> None:
        self.is_open = False

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def _feed(chunks: Iterator[bytes], expected: bytes | None) -> None:
    broker, socket = FakeBroker(), _Socket()
    web_sockets = WebSockets(cast(Any, broker.new_connection), ("*",), MqttSettings())
    headers = [line.split(b": ") for line in request().lower().replace(KEY.lower(), KEY).split(b"\r\n")[1:-2]]
    assert web_sockets.take_over(socket, "/mqtt", "1.1", cast(Any, headers), b"")
    for chunk in chunks:
        if socket.is_closing():
            break
        buffer = cast(Any, socket.protocol).get_buffer(-1)
        buffer[: len(chunk)] = chunk
        cast(Any, socket.protocol).buffer_updated(len(chunk))
    cast(Any, socket.protocol).connection_lost(None)
    assert broker.connections[0].is_lost
    if expected is not None:
        assert broker.connections[0].received == expected


class TestClosing:
    async def test_the_client_says_goodbye_first(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.send(frame(BINARY, b"last"), frame(CLOSE, b"\x03\xe8bye"))
            house.broker.echoes = False
            received = await client.frame()
            if received.opcode == BINARY:
                received = await client.frame()
            assert received == (CLOSE, b"\x03\xe8bye")
            await client.gone()
            await until(lambda: house.connection.is_lost)
            assert house.connection.received == b"last"

    async def test_the_broker_closes_and_the_client_answers(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            await until(lambda: house.broker.connections)
            house.connection.transport.write(b"last")
            house.connection.transport.close()
            assert house.connection.transport.is_closing()
            house.connection.transport.write(b"nothing more")
            assert await client.frame() == (BINARY, b"last")
            assert (await client.frame()).opcode == CLOSE
            assert not house.connection.is_lost
            client.send(frame(BINARY, b"still"), frame(CLOSE, b"\x03\xe8"))
            await client.gone()
            await until(lambda: house.connection.is_lost)
            assert house.connection.received == b""

    @pytest.mark.parametrize("is_paused", [False, True])
    async def test_the_broker_closes_and_the_client_does_not_answer(self, is_paused: bool) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            await until(lambda: house.broker.connections)
            if is_paused:
                house.connection.transport.pause_reading()
            house.connection.transport.close()
            await client.closed(1000)
            await until(lambda: house.connection.is_lost)

    async def test_a_paused_connection_sees_the_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(websocket_module, "CLOSE_TIMEOUT_S", 60)
        async with entrance() as house:
            house.broker.pauses = True
            client = await house.upgrade()
            await until(lambda: house.broker.connections)
            house.connection.transport.close()
            await client.frame()
            client.send(frame(CLOSE, b"\x03\xe8"))
            await client.gone()
            await until(lambda: house.connection.is_lost)

    @pytest.mark.parametrize("how", ["eof", "reset"])
    async def test_the_client_vanishes(self, how: str) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            client.send(frame(BINARY, b"abc")[:-1])
            await until(lambda: house.broker.connections)
            if how == "eof":
                client.writer.write_eof()
            else:
                client.writer.transport.abort()
            await until(lambda: house.connection.is_lost)

    async def test_aborting_says_nothing(self) -> None:
        async with entrance() as house:
            client = await house.upgrade()
            await until(lambda: house.broker.connections)
            house.connection.transport.abort()
            await client.gone()
            await until(lambda: house.connection.is_lost)
            house.connection.transport.close()
            house.connection.transport.write(b"x")


class TestBackPressure:
    async def test_a_broker_that_is_busy_is_not_fed(self) -> None:
        async with entrance() as house:
            house.broker.pauses = True
            client = await house.upgrade()
            client.writer.transport.set_write_buffer_limits(high=0)
            block = frame(BINARY, bytes(1000)) * 100
            sent = await client.pour(block, 1.0)
            assert house.connection.received == b""
            reader = asyncio.create_task(_count(client))
            house.connection.transport.resume_reading()
            await until(lambda: len(house.connection.received) >= sent // 1008 * 1000)
            reader.cancel()

    async def test_what_was_held_comes_first(self) -> None:
        async with entrance() as house:
            house.broker.pauses = True
            client = await house.connect()
            client.send(request(), frame(BINARY, b"a"))
            await client.head()
            await until(lambda: house.broker.connections)
            client.send(frame(BINARY, b"b"))
            house.connection.transport.resume_reading()
            assert await client.echo(2) == b"ab"

    async def test_a_client_that_does_not_read_is_not_read(self) -> None:
        """Pings too: their answers would pile up."""
        async with entrance() as house:
            house.broker.write_limit_bytes = 65_536
            client = await house.upgrade()
            client.writer.transport.set_write_buffer_limits(high=0)
            client.writer.transport.pause_reading()
            block = frame(PING, bytes(100)) * 100
            await client.pour(block, 2.0)
            assert house.connection.is_write_paused
            assert house.connection.transport.get_write_buffer_size() < 200_000
            client.writer.transport.resume_reading()
            reader = asyncio.create_task(_count(client))
            await until(lambda: not house.connection.is_write_paused)
            reader.cancel()

    async def test_others_have_their_turn(self) -> None:
        async with entrance(max_packet_bytes=10_000_000) as house:
            busy, other = await house.upgrade(), await house.upgrade()
            house.broker.connections[0].echoes = False
            busy.send(frame(BINARY, bytes(100_000)) * 50)
            other.send(frame(BINARY, b"x"))
            assert await other.echo(1) == b"x"
            await until(lambda: len(house.broker.connections[0].received) == 5_000_000)


async def _count(client: Client) -> None:
    while await client.reader.read(65_536):
        pass


class TestLibraryClient:
    """The `websockets` client, as independent as a Python client gets."""

    async def test_it_connects_and_talks(self) -> None:
        async with entrance() as house:
            url = f"ws://127.0.0.1:{house.address[1]}/mqtt"
            async with connect_library(url, subprotocols=[cast(Any, "mqtt")], compression="deflate") as client:
                assert client.subprotocol == "mqtt"
                await client.send(b"a" * 50_000)
                assert len(await _collect(client, 50_000)) == 50_000
                await client.send([b"in", b"frag", b"ments"])
                assert await _collect(client, 11) == b"infragments"
                await (await client.ping())
            await until(lambda: house.connection.is_lost)

    async def test_it_is_refused(self) -> None:
        async with entrance() as house:
            with pytest.raises(InvalidStatus) as refusal:
                await connect_library(
                    f"ws://127.0.0.1:{house.address[1]}/mqtt", subprotocols=[cast(Any, "chat")], proxy=None
                )
            assert refusal.value.response.status_code == 400

    async def test_it_is_closed(self) -> None:
        async with (
            entrance() as house,
            connect_library(f"ws://127.0.0.1:{house.address[1]}/ws", proxy=None) as client,
        ):
            await client.send("text")
            with pytest.raises(ConnectionClosed) as end:
                await client.recv()
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 1003


async def _collect(client: Any, length: int) -> bytes:
    data = b""
    async with asyncio.timeout(DEADLINE_S):
        while len(data) < length:
            data += await client.recv()
    return data
