"""An MQTT publisher that costs little: packets are rendered before the clock starts, acknowledgements are counted by
their bytes. One process, one `select` loop, any number of connections; the same for every server measured."""

from __future__ import annotations

import random
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Publish
from servers import Target

PACKETS_PER_BLOCK = 500
BLOCKS = 100
"""50,000 different packets a connection; identifiers stay within 65,535."""
ACKNOWLEDGEMENT_BYTES = 4
SEND_BYTES = 1 << 18


@dataclass(frozen=True)
class Rate:
    messages: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.messages / self.seconds


def connect(target: Target, client_id: str) -> socket.socket:
    """A client that has signed in."""
    client = socket.create_connection(("127.0.0.1", target.mqtt_port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    username = None if target.password is None else "bench"
    password = None if target.password is None else target.password.encode()
    client.sendall(render_packet(Connect(client_id, keep_alive_s=600, username=username, password=password)))
    answer = client.recv(4)
    if answer != b"\x20\x02\x00\x00":
        raise RuntimeError(f"{target.name} answered CONNECT with {answer.hex()}")
    return client


def render_blocks(topic: str, qos: int, seed: int) -> list[bytes]:
    """Publishes of two-field entries, as a weather sensor sends them, in blocks of PACKETS_PER_BLOCK."""
    source = random.Random(seed)
    blocks: list[bytes] = []
    packet_id = 0
    for _ in range(BLOCKS):
        block = bytearray()
        for _ in range(PACKETS_PER_BLOCK):
            packet_id += 1
            payload = f"field1={source.uniform(-20, 40):.2f}&field2={source.uniform(0, 100):.1f}".encode()
            block += render_packet(Publish(topic, payload, qos, packet_id if qos else None))
        blocks.append(bytes(block))
    return blocks


class _Publisher:
    """One connection of `publish_qos1`: keeps at most `window` messages unacknowledged."""

    def __init__(self, client: socket.socket, blocks: list[bytes], window: int) -> None:
        self.client = client
        self.acknowledged_bytes = 0
        self.sent = 0
        self._blocks = blocks
        self._next = 0
        self._window = window
        self._unsent = memoryview(b"")

    def send(self) -> None:
        while True:
            if not self._unsent:
                outstanding = self.sent - self.acknowledged_bytes // ACKNOWLEDGEMENT_BYTES
                if outstanding + PACKETS_PER_BLOCK > self._window:
                    return
                self._unsent = memoryview(self._blocks[self._next])
                self._next = (self._next + 1) % len(self._blocks)
                self.sent += PACKETS_PER_BLOCK
            try:
                self._unsent = self._unsent[self.client.send(self._unsent) :]
            except BlockingIOError:
                return

    @property
    def wants_to_send(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> None:
        answer = self.client.recv(1 << 20)
        if not answer:
            raise RuntimeError("the server closed a connection")
        self.acknowledged_bytes += len(answer)


def publish_qos1(
    clients: Sequence[socket.socket], blocks: Sequence[list[bytes]], window: int, seconds: float
) -> tuple[Rate, list[int]]:
    """Publish with QoS 1 as fast as acknowledgements allow; counts those that arrive in time, also by client."""
    publishers = [_Publisher(client, own, window) for client, own in zip(clients, blocks, strict=True)]
    with selectors.DefaultSelector() as selector:
        for publisher in publishers:
            publisher.client.setblocking(False)
            selector.register(publisher.client, selectors.EVENT_READ, publisher)
        started_s = time.perf_counter()
        for publisher in publishers:
            publisher.send()
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            for key, ready in selector.select(timeout=seconds - elapsed_s):
                publisher = key.data
                if ready & selectors.EVENT_READ:
                    publisher.receive()
                publisher.send()
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if publisher.wants_to_send else 0)
                if events != key.events:
                    selector.modify(publisher.client, events, publisher)
    acknowledged = [publisher.acknowledged_bytes // ACKNOWLEDGEMENT_BYTES for publisher in publishers]
    return Rate(sum(acknowledged), elapsed_s), acknowledged


def publish_qos0(
    clients: Sequence[socket.socket], topics: Sequence[str], blocks: Sequence[list[bytes]], rounds: int
) -> Rate:
    """Publish `rounds` times every block with QoS 0, then one QoS 1 message a connection whose acknowledgement says
    that everything before it was taken (with Headwater: stored)."""
    messages = [b"".join(own) * rounds for own in blocks]
    markers = [render_packet(Publish(topic, b"field1=0", 1, 1)) for topic in topics]
    unsent = {
        client: memoryview(text + marker) for client, text, marker in zip(clients, messages, markers, strict=True)
    }
    waiting = set(clients)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        started_s = time.perf_counter()
        while waiting:
            for key, ready in selector.select():
                client = key.fileobj
                assert isinstance(client, socket.socket)
                if ready & selectors.EVENT_READ and client.recv(4096):
                    waiting.discard(client)
                    selector.unregister(client)
                elif ready & selectors.EVENT_WRITE:
                    unsent[client] = unsent[client][client.send(unsent[client][:SEND_BYTES]) :]
                    if not unsent[client]:
                        selector.modify(client, selectors.EVENT_READ)
        elapsed_s = time.perf_counter() - started_s
    return Rate(len(clients) * (rounds * BLOCKS * PACKETS_PER_BLOCK + 1), elapsed_s)
