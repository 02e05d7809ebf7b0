"""Devices with channels of their own, made before the server starts, and what puts their load on it: publishers that
send one update a second each, and a prober that asks for what it has just published."""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

from headwater.app import open_services, open_store
from headwater.model.principal import Grant
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect
from headwater.registry.entities import ChannelSettings
from headwater.settings import Settings
from mqtt_load import CONNACK

ACCOUNT = "fleet"
KEEP_ALIVE_S = 600
PUBACK_BYTES = 4
QUIET_S = 15.0
"""What has not been acknowledged after so long without any acknowledgement is lost."""
HEADER_QOS1 = 0x32
PROBE_TIMEOUT_S = 10.0
RESULT_TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.002


class Member(NamedTuple):
    """An MQTT device that may publish to one channel, and a key to read it."""

    channel_id: int
    read_key: str
    client_id: str
    password: str


def furnish(data: Path, count: int, advance: Callable[[], None]) -> list[Member]:
    """Make an account with so many channels and devices in a data directory that no server uses."""
    settings = replace(Settings(), data=data)

    async def make() -> list[Member]:
        members = []
        with closing(open_store(settings)) as store:
            async with open_services(settings, store) as services:
                account = await services.accounts.add(ACCOUNT, secrets.token_urlsafe(12))
                for number in range(count):
                    channel_settings = ChannelSettings(name=f"Sensor {number}", fields={1: "one", 2: "two"})
                    channel = await services.channels.create(account.id, channel_settings)
                    grants = [Grant(channel.id, allow_publish=True, allow_subscribe=False)]
                    device, password = await services.devices.create(account.id, f"Sensor {number}", grants)
                    members.append(Member(channel.id, channel.read_keys[0], device.client_id, password))
                    advance()
        return members

    return asyncio.run(make())


def sign_in(member: Member, port: int) -> socket.socket:
    """A connection of this device."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connect = Connect(
        member.client_id, keep_alive_s=KEEP_ALIVE_S, username=member.client_id, password=member.password.encode()
    )
    client.sendall(render_packet(connect))
    answer = client.recv(4)
    if answer != CONNACK:
        raise RuntimeError(f"the server answered CONNECT with {answer.hex()}")
    return client


class Update:
    """Renders one device's updates; only what changes is put together anew."""

    def __init__(self, channel_id: int) -> None:
        topic = f"channels/{channel_id}/publish".encode()
        self._topic = len(topic).to_bytes(2, "big") + topic

    def render(self, number: int) -> bytes:
        payload = b"field1=%d.%02d&field2=%d" % (number % 40, number % 100, number)
        rest = self._topic + (number % 65_535 + 1).to_bytes(2, "big") + payload
        assert len(rest) < 128
        return bytes((HEADER_QOS1, len(rest))) + rest


@dataclass
class Published:
    """What the publishers saw."""

    sent: list[int]
    """By member."""
    acknowledged: int = 0
    waits_s: list[float] = field(default_factory=list)
    """From sending an update to its acknowledgement."""
    late_s: float = 0.0
    """How far the load itself was behind its plan, at most."""


class Publishers:
    """Every member connected, one update a second each, spread evenly over the second."""

    def __init__(self, members: list[Member], port: int, advance: Callable[[], None]) -> None:
        self._clients: list[socket.socket] = []
        self._updates = [Update(member.channel_id) for member in members]
        self._selector = selectors.DefaultSelector()
        self._sent_at_s: list[float] = [0.0] * len(members)
        self._published = Published([0] * len(members))
        for number, member in enumerate(members):
            client = sign_in(member, port)
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ, number)
            self._clients.append(client)
            advance()

    def publish(self, seconds: int, advance: Callable[[], None]) -> Published:
        count = len(self._clients)
        started_s = time.perf_counter()
        for second in range(seconds):
            for number in range(count):
                due_s = started_s + second + number / count
                while (left_s := due_s - time.perf_counter()) > 0:
                    self._receive(left_s)
                self._published.late_s = max(self._published.late_s, -left_s)
                self._send(number)
                if number % 100 == 0:
                    self._receive(0)
            advance()
        self._settle()
        return self._published

    def _send(self, number: int) -> None:
        self._sent_at_s[number] = time.perf_counter()
        self._published.sent[number] += 1
        packet = self._updates[number].render(self._published.sent[number])
        if self._clients[number].send(packet) != len(packet):
            raise RuntimeError("the server does not read")

    def _receive(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            number: int = key.data
            answer = self._clients[number].recv(1024)
            if not answer:
                raise RuntimeError("the server closed a connection")
            self._published.acknowledged += len(answer) // PUBACK_BYTES
            self._published.waits_s.append(time.perf_counter() - self._sent_at_s[number])

    def _settle(self) -> None:
        quiet_since_s = time.perf_counter()
        while self._published.acknowledged < sum(self._published.sent):
            before = self._published.acknowledged
            self._receive(0.1)
            if self._published.acknowledged > before:
                quiet_since_s = time.perf_counter()
            elif time.perf_counter() - quiet_since_s > QUIET_S:
                return

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Prober:
    """A process of its own, so that the publishers' work does not count: publishes for each of its members once a
    second, and asks for the last entry over REST until it is the one that was published."""

    def __init__(self, members: list[Member], mqtt_port: int, http_port: int, seconds: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._answers: Queue[tuple[list[int], list[float]]] = context.Queue()
        self._process = context.Process(target=_probe, args=(members, mqtt_port, http_port, seconds, self._answers))
        self._process.start()

    def result(self) -> tuple[list[int], list[float]]:
        """How many each member sent, and how long after sending each was readable, in seconds."""
        result = self._answers.get(timeout=RESULT_TIMEOUT_S)
        self._process.join()
        return result


def _probe(
    members: list[Member], mqtt_port: int, http_port: int, seconds: int, answers: Queue[tuple[list[int], list[float]]]
) -> None:
    clients = [sign_in(member, mqtt_port) for member in members]
    updates = [Update(member.channel_id) for member in members]
    reader = http.client.HTTPConnection("127.0.0.1", http_port)
    waits_s: list[float] = []
    started_s = time.perf_counter()
    for second in range(seconds):
        for number, member in enumerate(members):
            time.sleep(max(0.0, started_s + second + number / len(members) - time.perf_counter()))
            sent_at_s = time.perf_counter()
            clients[number].sendall(updates[number].render(second + 1))
            while _last_entry_id(reader, member) < second + 1:
                if time.perf_counter() - sent_at_s > PROBE_TIMEOUT_S:
                    raise RuntimeError("an update did not become readable")
                time.sleep(POLL_INTERVAL_S)
            waits_s.append(time.perf_counter() - sent_at_s)
            clients[number].recv(PUBACK_BYTES)
    answers.put(([seconds] * len(members), waits_s))


def _last_entry_id(reader: http.client.HTTPConnection, member: Member) -> int:
    reader.request("GET", f"/channels/{member.channel_id}/feeds/last.json?api_key={member.read_key}")
    answer = reader.getresponse()
    body = answer.read()
    return int(json.loads(body)["entry_id"]) if answer.status == 200 else 0
