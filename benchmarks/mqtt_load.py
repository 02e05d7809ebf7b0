"""An MQTT publisher that costs little: packets are rendered before the clock starts, acknowledgements are counted by
their bytes. One process, one `select` loop, any number of connections; the same for every server measured."""

from __future__ import annotations

import random
import selectors
import socket
from collections.abc import Sequence

from comparison import Measured, Stopwatch
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Publish
from servers import USER_NAME, Target

PACKETS_PER_BLOCK = 500
BLOCKS = 100
"""50,000 different packets a connection; identifiers stay within 65,535."""
ACKNOWLEDGEMENT_BYTES = 4
CONNACK = b"\x20\x02\x00\x00"


def render_connect(target: Target, client_id: str) -> bytes:
    """CONNECT with what the server wants to know."""
    username = None if target.password is None else USER_NAME
    password = None if target.password is None else target.password.encode()
    return render_packet(Connect(client_id, keep_alive_s=600, username=username, password=password))


def connect(target: Target, client_id: str) -> socket.socket:
    """A client that has signed in."""
    client = socket.create_connection(("127.0.0.1", target.mqtt_port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(render_connect(target, client_id))
    answer = client.recv(4)
    if answer != CONNACK:
        raise RuntimeError(f"{target.name} answered CONNECT with {answer.hex()}")
    return client


def render_blocks(topic: str, qos: int, seed: int, blocks: int = BLOCKS) -> list[bytes]:
    """Publishes of two-field entries, as a weather sensor sends them, in blocks of PACKETS_PER_BLOCK."""
    source = random.Random(seed)
    rendered: list[bytes] = []
    packet_id = 0
    for _ in range(blocks):
        block = bytearray()
        for _ in range(PACKETS_PER_BLOCK):
            packet_id += 1
            payload = f"field1={source.uniform(-20, 40):.2f}&field2={source.uniform(0, 100):.1f}".encode()
            block += render_packet(Publish(topic, payload, qos, packet_id if qos else None))
        rendered.append(bytes(block))
    return rendered


class _Publisher:
    """One connection: sends block after block, as far as `window` lets it."""

    def __init__(self, client: socket.socket, blocks: list[bytes], window: int | None) -> None:
        self.client = client
        self.acknowledged_bytes = 0
        self.sent = 0
        self._blocks = blocks
        self._next = 0
        self._window = window
        """Most messages without acknowledgement; None where none comes."""
        self._last: bytes | None = None
        self._unsent = memoryview(b"")

    def end_with(self, packet: bytes) -> None:
        """Finish the block under way, then send `packet` and nothing after it."""
        self._last = packet
        self._blocks = []

    def send(self) -> None:
        while True:
            if not self._unsent and not self._take_next():
                return
            try:
                self._unsent = self._unsent[self.client.send(self._unsent) :]
            except BlockingIOError:
                return

    def _take_next(self) -> bool:
        if not self._blocks:
            self._unsent, self._last = memoryview(self._last or b""), None
            return bool(self._unsent)
        if self._window is not None:
            outstanding = self.sent - self.acknowledged_bytes // ACKNOWLEDGEMENT_BYTES
            if outstanding + PACKETS_PER_BLOCK > self._window:
                return False
        self._unsent = memoryview(self._blocks[self._next])
        self._next = (self._next + 1) % len(self._blocks)
        self.sent += PACKETS_PER_BLOCK
        return True

    @property
    def wants_to_send(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> None:
        answer = self.client.recv(1 << 20)
        if not answer:
            raise RuntimeError("the server closed a connection")
        self.acknowledged_bytes += len(answer)


class _Publishers:
    """Publishers that take turns in one `select` loop."""

    def __init__(self, clients: Sequence[socket.socket], blocks: Sequence[list[bytes]], window: int | None) -> None:
        self.all = [_Publisher(client, own, window) for client, own in zip(clients, blocks, strict=True)]
        self._selector = selectors.DefaultSelector()
        for publisher in self.all:
            publisher.client.setblocking(False)
            self._selector.register(publisher.client, selectors.EVENT_READ, publisher)

    def start(self) -> None:
        for publisher in self.all:
            self._send(publisher, selectors.EVENT_READ)

    def turn(self, timeout_s: float) -> None:
        """Whatever is possible now; waits for something to be."""
        for key, ready in self._selector.select(timeout_s):
            if ready & selectors.EVENT_READ:
                key.data.receive()
            self._send(key.data, key.events)

    def _send(self, publisher: _Publisher, events: int) -> None:
        publisher.send()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if publisher.wants_to_send else 0)
        if wanted != events:
            self._selector.modify(publisher.client, wanted, publisher)

    def close(self) -> None:
        self._selector.close()
        for publisher in self.all:
            publisher.client.close()


def publish_qos1(
    clients: Sequence[socket.socket], blocks: Sequence[list[bytes]], window: int, seconds: float
) -> tuple[Measured, list[int]]:
    """Publish with QoS 1 as fast as acknowledgements allow, then close; counts those that arrive in time, also by
    client."""
    publishers = _Publishers(clients, blocks, window)
    watch = Stopwatch()
    publishers.start()
    while (left_s := seconds - watch.elapsed_s) > 0:
        publishers.turn(left_s)
    acknowledged = [one.acknowledged_bytes // ACKNOWLEDGEMENT_BYTES for one in publishers.all]
    measured = watch.rate(sum(acknowledged))
    publishers.close()
    return measured, acknowledged


def publish_qos0(
    clients: Sequence[socket.socket], topics: Sequence[str], blocks: Sequence[list[bytes]], seconds: float
) -> tuple[Measured, list[int]]:
    """Publish with QoS 0 as fast as the sockets take it, then one QoS 1 message a connection, then close. The clock
    stops at the last acknowledgement: it says that everything before was taken (with Headwater's channels: stored)."""
    publishers = _Publishers(clients, blocks, None)
    watch = Stopwatch()
    publishers.start()
    while (left_s := seconds - watch.elapsed_s) > 0:
        publishers.turn(left_s)
    for publisher, topic in zip(publishers.all, topics, strict=True):
        publisher.end_with(render_packet(Publish(topic, b"field1=0", 1, 1)))
    publishers.start()
    while any(not publisher.acknowledged_bytes for publisher in publishers.all):
        publishers.turn(1.0)
    sent = [publisher.sent + 1 for publisher in publishers.all]
    measured = watch.rate(sum(sent))
    publishers.close()
    return measured, sent
