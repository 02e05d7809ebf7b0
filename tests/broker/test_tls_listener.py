"""A listener with TLS: handshakes bounded, with a deadline, and told apart in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from headwater.certificates import own_identity
from headwater.reload import ListenerTls
from headwater.settings import ClientCertificates, Settings, TlsSettings
from headwater.tls_listener import TlsListener, listen_with_tls

from .shells import DEADLINE_S, until


class Echo(asyncio.BufferedProtocol):
    """Answers what it receives, however it is handed over."""

    def __init__(self, made: list[Echo]) -> None:
        self._made = made
        self.transport: Any = None
        self.received = b""
        self.is_lost = False
        self._buffer = memoryview(bytearray(65_536))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._made.append(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class House:
    """A listener and the connections that came through it."""

    def __init__(self, listener: TlsListener, made: list[Echo], ca: Path) -> None:
        self.listener = listener
        self.made = made
        self.port = listener.sockets[0].getsockname()[1]
        self.ca = ca

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=self.client_context(), server_hostname="localhost"
            )

    async def silent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that does not even begin."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def listening(
    data: Path, timeout_s: float = 10, max_handshakes: int = 100, tls: TlsSettings | None = None
) -> AsyncIterator[House]:
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
    settings = Settings(data=data, tls=tls or TlsSettings())
    context = ListenerTls(settings).context("mqtts")
    assert context is not None
    made: list[Echo] = []
    listener = await listen_with_tls(
        lambda: Echo(made), "127.0.0.1", 0, context, timeout_s=timeout_s, max_handshakes=max_handshakes, backlog=100
    )
    ca = own_identity(settings).ca_certificate
    assert ca is not None
    try:
        yield House(listener, made, ca)
    finally:
        listener.close()
        for connection in made:
            connection.transport.abort()
        await until(lambda: listener.handshakes == 0 and all(connection.is_lost for connection in made))
        await until(lambda: len(asyncio.all_tasks()) == 1)
    assert problems == [], "an exception reached the event loop"


async def gone(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(DEADLINE_S):
        with suppress(ConnectionError, ssl.SSLError):
            await reader.read()


async def test_clients_come_in_and_talk(data: Path) -> None:
    async with listening(data) as house:
        for _ in range(3):
            reader, writer = await house.connect()
            writer.write(b"hello" * 20_000)
            async with asyncio.timeout(DEADLINE_S):
                assert await reader.readexactly(100_000) == b"hello" * 20_000
            transport = house.made[-1].transport
            assert transport.get_extra_info("peername")[0] == "127.0.0.1"
            assert transport.get_extra_info("sslcontext") is not None
            assert not transport.get_extra_info("peercert")
            writer.close()


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost(data: Path) -> None:
    """A client may send its first bytes in the segment that ends the handshake."""
    async with listening(data) as house:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = house.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await house.silent()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
        client.write(b"at once")
        writer.write(outgoing.read())
        await until(lambda: house.made and house.made[0].received == b"at once")
        writer.close()


async def test_a_client_that_leaves_at_once_leaves_nothing(data: Path) -> None:
    async with listening(data) as house:
        for _ in range(5):
            _, writer = await house.connect()
            writer.transport.abort()
        for _ in range(5):
            _, writer = await house.silent()
            writer.transport.abort()
        await until(lambda: house.listener.handshakes == 0)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"])
async def test_a_handshake_has_a_deadline(data: Path, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening(data, timeout_s=0.2) as house:
        reader, writer = await house.silent()
        writer.write(said)
        await gone(reader)
        await until(lambda: house.listener.handshakes == 0)
        assert house.made == []
        writer.close()
    assert [record.getMessage() for record in caplog.records] == ["TLS handshake failed"]


@pytest.mark.parametrize("said", [b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_tls_is_closed_with_one_line(
    data: Path, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening(data) as house:
        reader, writer = await house.silent()
        writer.write(said)
        await gone(reader)
        writer.close()
        await until(lambda: house.listener.handshakes == 0)
        other, another = await house.connect()
        another.write(b"x")
        assert await other.readexactly(1) == b"x"
        another.close()
    assert [record.getMessage() for record in caplog.records] == ["TLS handshake failed"]


async def test_one_handshake_too_many_ends_the_oldest(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening(data, max_handshakes=3) as house:
        waiting = []
        for count in (1, 2, 3):
            waiting.append(await house.silent())
            await until(lambda count=count: house.listener.handshakes == count)
        reader, writer = await house.connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await gone(waiting[0][0])
        assert house.listener.handshakes == 2
        for _, one in (*waiting, (reader, writer)):
            one.close()
    full = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in full] == ["TLS handshakes are ended before their time"]


async def test_a_flood_of_silence_keeps_nobody_out(data: Path) -> None:
    async with listening(data, max_handshakes=5) as house:
        flood = [await house.silent() for _ in range(50)]
        await until(lambda: house.listener.handshakes == 5)
        reader, writer = await house.connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        for _, one in (*flood, (reader, writer)):
            one.close()


async def test_a_client_without_its_certificate_is_refused_with_one_line(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening(data):
        pass  # its own CA is as good as any to sign clients
    tls = TlsSettings(client_ca=data / "certificates" / "ca.crt", client_certificates=ClientCertificates.REQUIRED)
    async with listening(data, tls=tls) as house:
        with suppress(ConnectionError, ssl.SSLError):
            reader, writer = await house.connect()
            await gone(reader)
            writer.close()
        await until(lambda: house.listener.handshakes == 0)
        assert house.made == []
    (record,) = caplog.records
    assert record.__dict__["fields"]["reason"] == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert record.__dict__["fields"]["address"] == "127.0.0.1"


async def test_a_reset_in_the_middle_is_no_fault(data: Path) -> None:
    async with listening(data) as house:
        for _ in range(5):
            plain = socket.create_connection(("127.0.0.1", house.port))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            plain.send(b"\x16\x03\x01")
            plain.close()
        await until(lambda: house.listener.handshakes == 0)
