"""The PROXY protocol: its header from bytes, and listeners that read it on real sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.broker.listeners import Listeners
from headwater.broker.proxy_header import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    ProxyHeader,
    ProxyHeaderInvalid,
    parse_proxy_header,
)
from headwater.settings import MqttSettings

from .shells import DEADLINE_S, FakeBroker, until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 1883\r\n"
PORTS = st.integers(0, 65_535)


def v2(command: int = 0x21, family: int = 0x11, body: bytes = bytes(12)) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, tuple[str, int] | None]:
    """A valid header and what it says."""
    kind = draw(st.sampled_from(["TCP4", "TCP6", "UNKNOWN", "LOCAL", "UNIX", "unspecified", "INET", "INET6"]))
    port, other = draw(PORTS), draw(PORTS)
    if kind == "UNKNOWN":
        rest = draw(st.sampled_from([b"", b" ffff::1 ffff::2 65535 65535", b" anything"]))
        return b"PROXY UNKNOWN" + rest + b"\r\n", None
    extensions = draw(st.binary(max_size=300))
    if kind == "LOCAL":
        return v2(0x20, draw(st.integers(0, 255)), extensions), None
    if kind == "UNIX":
        return v2(0x21, 0x31, bytes(216) + extensions), None
    if kind == "unspecified":
        return v2(0x21, 0x00, extensions), None
    if kind in ("TCP4", "INET"):
        address: Any = draw(st.ip_addresses(v=4))
        shown = str(address)
    else:
        address = draw(st.ip_addresses(v=6))
        shown = str(address.ipv4_mapped or address)
    if kind in ("TCP4", "TCP6"):
        return f"PROXY {kind} {address} {address} {port} {other}\r\n".encode(), (shown, port)
    body = address.packed * 2 + struct.pack("!HH", port, other) + extensions
    return v2(0x21, 0x11 if kind == "INET" else 0x21, body), (shown, port)


@given(headers(), st.binary(max_size=50))
def test_a_header_is_read_and_what_follows_is_the_client_s(
    header: tuple[bytes, tuple[str, int] | None], rest: bytes
) -> None:
    data, source = header
    assert parse_proxy_header(data + rest) == ProxyHeader(source, len(data))


@given(headers())
def test_a_part_of_a_header_waits_for_the_rest(header: tuple[bytes, tuple[str, int] | None]) -> None:
    data, _ = header
    assert all(parse_proxy_header(data[:length]) is None for length in range(len(data)))


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: b"PROXY TCP4 " + tail)))
def test_any_bytes_are_a_header_or_a_part_or_an_error(data: bytes) -> None:
    try:
        header = parse_proxy_header(data)
    except ProxyHeaderInvalid:
        return
    assert header is None or header.length_bytes <= len(data)


@given(headers(), st.data())
def test_a_header_with_one_other_byte_never_crashes(
    header: tuple[bytes, tuple[str, int] | None], data: st.DataObject
) -> None:
    changed = bytearray(header[0])
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_proxy_header(bytes(changed))
    except ProxyHeaderInvalid:
        return
    if parsed is not None and parsed.source is not None:
        ipaddress.ip_address(parsed.source[0])


@pytest.mark.parametrize(
    "data",
    [
        b"\x10",
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"PROXY\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".ljust(MAX_V1_BYTES),
        b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b"x") + b"\r\n",
        v2(0x11),
        v2(0x22),
        v2(0x31),
        v2(0x21, 0x12),
        v2(0x21, 0x22, bytes(36)),
        v2(0x21, 0x32, bytes(216)),
        v2(0x21, 0x41),
        v2(0x21, 0x11, bytes(11)),
        v2(0x21, 0x21, bytes(35)),
        v2(0x21, 0x31, bytes(215)),
        v2(0x21, 0x11, bytes(MAX_V2_BYTES - 15)),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyHeaderInvalid):
        parse_proxy_header(data)


def test_the_longest_headers() -> None:
    v1 = b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 2, b"x") + b"\r\n"
    assert parse_proxy_header(v1) == ProxyHeader(None, MAX_V1_BYTES)
    assert parse_proxy_header(v2(body=bytes(MAX_V2_BYTES - 16))) == ProxyHeader(("0.0.0.0", 0), MAX_V2_BYTES)


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[tuple[FakeBroker, Listeners, tuple[str, int]]]:
    broker = FakeBroker()
    listeners = Listeners(cast(Any, broker.new_connection), MqttSettings(**settings))
    address = await listeners.listen_proxied("127.0.0.1", 0)
    try:
        yield broker, listeners, address
    finally:
        await listeners.stop_listening()
        broker.abort_all()
        await until(lambda: all(connection.is_lost for connection in broker.connections))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What is still said until the server has closed."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (V1, ("203.0.113.7", 56324)),
        (b"PROXY TCP6 2001:db8::7 ::1 5 6\r\n", ("2001:db8::7", 5)),
        (v2(body=bytes([203, 0, 113, 9, 0, 0, 0, 0, 0, 80, 7, 91]) + b"\x04\0\3abc"), ("203.0.113.9", 80)),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
async def test_the_address_is_the_one_that_the_proxy_tells(header: bytes, address: tuple[str, int], step: int) -> None:
    async with listening() as (broker, _, port):
        reader, writer = await asyncio.open_connection(*port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = header + b"echo"
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(4) == b"echo"
            writer.write(b"more")  # straight to the connection's own buffer
            assert await reader.readexactly(4) == b"more"
        (connection,) = broker.connections
        assert connection.name == "proxied"
        assert connection.transport.get_extra_info("peername") == address
        assert connection.transport.get_extra_info("socket") is not None
        writer.close()
        await until(lambda: connection.is_lost)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(0x20, 0, b"")])
async def test_the_proxy_s_own_connections_have_its_address(header: bytes) -> None:
    async with listening() as (broker, _, port):
        reader, writer = await asyncio.open_connection(*port)
        writer.write(header + b"x")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(1) == b"x"
        assert broker.connections[0].transport.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()


@pytest.mark.parametrize("data", [b"\x10\x0c\x00\x04MQTT", b"GET / HTTP/1.1\r\n\r\n", v2(0x21, 0x11, bytes(3))])
async def test_without_a_header_nobody_is_served(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening() as (broker, _, port):
        reader, writer = await asyncio.open_connection(*port)
        writer.write(data)
        assert await closed(reader) == b""
        assert broker.connections == []
        assert [record.getMessage() for record in caplog.records] == ["connection of a proxy dropped"]
        writer.close()


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 "])
async def test_the_header_has_a_deadline(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headwater")
    async with listening(connect_timeout_s=0.1) as (broker, _, port):
        reader, writer = await asyncio.open_connection(*port)
        writer.write(data)
        assert await closed(reader) == b""
        assert broker.connections == []
        assert len(caplog.records) == 1
        writer.close()


async def test_after_the_header_the_deadline_is_the_broker_s() -> None:
    async with listening(connect_timeout_s=0.05) as (broker, _, port):
        reader, writer = await asyncio.open_connection(*port)
        writer.write(V1)
        await until(lambda: broker.connections)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()


async def test_a_broker_that_is_full_refuses_as_ever() -> None:
    async with listening() as (broker, _, port):
        broker.is_full = True
        reader, writer = await asyncio.open_connection(*port)
        writer.write(V1 + b"x")
        assert await closed(reader) == b""
        writer.close()


async def test_connections_without_a_header_are_counted() -> None:
    async with listening(max_connections=2) as (broker, _, port):
        waiting = [await asyncio.open_connection(*port) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*port)
        assert await closed(reader) == b""
        waiting[0][1].write(V1 + b"x")
        assert await waiting[0][0].readexactly(1) == b"x"
        reader, another = await asyncio.open_connection(*port)
        another.write(V1 + b"y")
        assert await reader.readexactly(1) == b"y"
        assert len(broker.connections) == 2
        for end in (writer, another, *(writer for _, writer in waiting)):
            end.close()


async def test_stopping_ends_who_waits_and_leaves_the_broker_s() -> None:
    async with listening() as (_, listeners, port):
        waiting, one = await asyncio.open_connection(*port)
        served, other = await asyncio.open_connection(*port)
        other.write(V1 + b"x")
        assert await served.readexactly(1) == b"x"
        await listeners.stop_listening()
        assert await closed(waiting) == b""
        other.write(b"y")
        assert await served.readexactly(1) == b"y"
        one.close()
        other.close()
