"""H1 to H8: before a packet is even looked at, and what its length and its properties claim."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.house import House
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.packets import Disconnect, Pingreq, Pingresp
from server import Server, wait_until

from .attack import (
    GROWTH_LIMIT_BYTES,
    MALFORMED,
    as_level,
    attacker,
    check_served,
    expect_end,
    frame,
    memory_bytes,
    refused,
    strike,
    text,
)

Build = Callable[..., Any]
QUOTA_EXCEEDED, TOO_LARGE, KEEP_ALIVE_TIMEOUT = 0x97, 0x95, 0x8D
TOPIC = text("t")


async def test_h01_silence_and_one_byte_at_a_time_before_connect(build: Build) -> None:
    house: House = await build(connect_timeout_s=0.3)
    silent, slow = await house.connect(), await house.connect()
    started_s = time.monotonic()

    async def drip() -> None:
        for byte in render_packet(as_level(4)):
            slow.send(bytes((byte,)))
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert await silent.expect_closed() == []
    assert await slow.expect_closed() == []
    dripping.cancel()
    assert 0.2 < time.monotonic() - started_s < 3
    await house.only()
    await check_served(house)


def test_h02_first_byte_decides(server: Server) -> None:
    """14 sockets, 20 MB each instead of 100: it is never read."""
    before = memory_bytes(server)
    for packet_type in (0, *range(2, 16)):
        with server.mqtt_socket() as client:
            try:
                client.sendall(bytes((packet_type << 4,)) + b"\xff\xff\xff\x7f")
                for _ in range(20):
                    client.sendall(bytes(1_000_000))
                assert client.recv(1) == b""
            except (ConnectionResetError, BrokenPipeError):
                pass
    assert memory_bytes(server) - before < GROWTH_LIMIT_BYTES


def test_h03_connect_of_256_mb(server: Server) -> None:
    before = memory_bytes(server)
    with server.mqtt_socket() as client:
        client.sendall(b"\x10\xff\xff\xff\x7f")
        assert client.recv(1) == b""
    with server.mqtt_socket() as client:  # within the limit of other packets, but not of this one
        client.sendall(b"\x10\xff\xff\x0f")
        assert client.recv(1) == b""
    assert memory_bytes(server) - before < GROWTH_LIMIT_BYTES


@pytest.mark.parametrize("level", [4, 5])
async def test_h04_an_endless_publish_is_no_activity(build: Build, level: int) -> None:
    """A packet is activity when it is complete: drops of one do not keep a connection."""
    house: House = await build(max_keep_alive_s=1)
    client = await attacker(house, level)
    client.send(b"\x30\x80\x80\x10")
    client.send(bytes(200_000))

    async def drip() -> None:
        while True:
            client.send(b"x")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    await expect_end(client, KEEP_ALIVE_TIMEOUT)
    dripping.cancel()
    await check_served(house)


def test_h04_many_unfinished_packets_are_bounded(server: Server) -> None:
    """50 clients with a packet of 256 KiB that lacks its last byte hold what they have sent, and give it back."""
    before = memory_bytes(server)
    clients = [server.mqtt_client() for _ in range(50)]
    for client in clients:
        client.sendall(b"\x30\x80\x80\x10" + bytes(262_143))
    assert memory_bytes(server) - before < 50 * 262_144 * 2 + GROWTH_LIMIT_BYTES
    for client in clients:
        client.close()
    with server.mqtt_client() as client:
        client.sendall(b"\xc0\x00")
        assert client.recv(2) == b"\xd0\x00"


@pytest.mark.parametrize("level", [4, 5])
async def test_h05_five_length_bytes(house: House, level: int) -> None:
    await refused(house, b"\x10\xff\xff\xff\xff\x7f")
    await strike(house, level, b"\x30\xff\xff\xff\xff\x7f", MALFORMED)
    await strike(house, level, b"\xc0\x80\x80\x80\x80\x00", MALFORMED)


async def test_h05_five_bytes_of_a_variable_integer(house: House) -> None:
    five = b"\xff\xff\xff\xff\x7f"
    await strike(house, 5, frame(0x30, TOPIC + five + b"x"), MALFORMED)
    await strike(house, 5, frame(0x82, b"\0\1" + b"\x06\x0b" + five + TOPIC + b"\0"), MALFORMED)


async def test_h06_lengths_that_are_not_the_shortest(house: House) -> None:
    """MQTT 5 forbids them; 3.1.1 does not say, and old stacks send them: they are taken."""
    await strike(house, 5, b"\xc0\x80\x00", MALFORMED)
    await strike(house, 5, frame(0x30, TOPIC + b"\x80\x00" + b"x"), MALFORMED)
    client = await attacker(house, 4)
    client.send(b"\xc0\x80\x00")
    await client.expect(Pingresp())


@pytest.mark.parametrize(
    "section",
    [b"\x7f", b"\x02\x26\x00", b"\x03\x02\x00\x00", b"\x02\x7f\x00", b"\x01\x26", b"\x04\x03\x00\x09x"],
    ids=["longer than the packet", "pair cut", "integer cut", "unknown", "only an id", "string too long"],
)
async def test_h07_properties_that_are_cut_or_unknown(house: House, section: bytes) -> None:
    for packet in (
        frame(0x30, TOPIC + section),
        frame(0x82, b"\0\1" + section + TOPIC + b"\0"),
        frame(0xE0, b"\0" + section),
    ):
        await strike(house, 5, packet, MALFORMED)
    connect = frame(0x10, b"\0\4MQTT\5\2\0\0" + section + b"\0\0")
    assert await refused(house, connect) == []


async def test_h08_user_properties_by_the_thousand(house: House) -> None:
    """As many as fit: 50,000 in a PUBLISH (the largest packet), 13,000 in CONNECT and its will."""
    many = b"\x26\0\0\0\0" * 50_000
    publish = frame(0x30, TOPIC + b"\x90\xa1\x0f" + many)
    await strike(house, 5, publish, QUOTA_EXCEEDED)
    some = b"\xf8\xfb\x03" + b"\x26\0\0\0\0" * 13_000
    for connect in (b"\0\4MQTT\5\2\0\0" + some + b"\0\0", b"\0\4MQTT\5\6\0\0\0\0\0" + some + TOPIC + b"\0\0"):
        assert await refused(house, frame(0x10, connect)) == []
    started_s = time.process_time()
    with pytest.raises(MqttProtocolError):
        parse_packet(0x30, publish[4:], 5)
    assert time.process_time() - started_s < 0.05


async def test_whatever_follows_the_end_is_not_looked_at(house: House) -> None:
    """DISCONNECT, then megabytes of packets that would each be answered."""
    for level in (4, 5):
        client = await attacker(house, level)
        client.send(Disconnect(), render_packet(Pingreq()) * 1_000)
        assert await client.expect_closed() == []
    await check_served(house)


def test_many_slow_clients_leave_nothing_behind(server: Server) -> None:
    """200 connections that say half a CONNECT and go away, three times: slots and memory come back."""
    half = render_packet(as_level(4))[:-1]

    def assault() -> None:
        clients: list[socket.socket] = []
        for _ in range(200):
            clients.append(server.mqtt_socket())
            clients[-1].sendall(half)
        for client in clients:
            client.close()

    assault()
    before = memory_bytes(server)
    for _ in range(2):
        assault()
    wait_until(lambda: memory_bytes(server) - before < GROWTH_LIMIT_BYTES / 4, what="memory to come back")
