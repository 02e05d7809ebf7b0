"""QoS 0 from some publishers to some subscribers, paced by what arrives so that no server has a reason to drop.

One process does both ends. It reads in gulps, with a pause in between, so that a server which writes every message by
itself is not slowed down by a reader that wakes up for every message. Beside either server the load then needs less
than a sixth of a core (see `load busy` in the table): it could do many times what it measures.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

from comparison import Measured, Stopwatch
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Publish, Subscribe, Subscription
from mqtt_load import connect
from servers import Target

PAYLOAD = b"field1=21.37&field2=60.1"
TOPIC_FILTER = "plant/+/climate"
RECEIVE_BYTES = 1 << 20
PAUSE_S = 0.0005
"""Between two rounds of reading. A window of thousands of messages takes a server longer than that."""
STALLED_S = 0.5
"""What has not arrived after so long a silence is lost."""


class _Subscribers:
    """Counts what arrives by its bytes: every message is as long as the one that was sent."""

    def __init__(self, clients: Sequence[socket.socket]) -> None:
        self.received_bytes = 0
        self._clients = {client.fileno(): client for client in clients}
        self._buffer = bytearray(RECEIVE_BYTES)
        self._poll = select.epoll(len(clients))
        for client in clients:
            client.setblocking(False)
            self._poll.register(client, select.EPOLLIN)

    def receive(self, timeout_s: float) -> bool:
        """Read what is there; False when nothing came for so long."""
        ready = self._poll.poll(timeout_s)
        for descriptor, _ in ready:
            count = self._clients[descriptor].recv_into(self._buffer)
            if not count:
                raise RuntimeError("the server closed a connection")
            self.received_bytes += count
        return bool(ready)

    def close(self) -> None:
        self._poll.close()


def fan_out(
    target: Target, publishers: int, subscribers: int, seconds: float, *, window: int, messages_per_write: int
) -> Measured:
    """Messages that arrived at subscribers per second, and how many never did. At most `window` published messages are
    under way; each publisher hands over `messages_per_write` in one go, and they take turns."""
    receiving = [_subscribe(target, f"subscriber-{n}") for n in range(subscribers)]
    sending = [connect(target, f"publisher-{n}") for n in range(publishers)]
    packets = [render_packet(Publish(f"plant/{n:03d}/climate", PAYLOAD)) for n in range(publishers)]
    blocks = [packet * messages_per_write for packet in packets]
    bytes_a_message = len(packets[0]) * subscribers
    window_bytes, block_bytes = window * bytes_a_message, len(blocks[0]) * subscribers
    turns = list(zip(sending, blocks, strict=True))
    turn = sent_bytes = lost_bytes = 0
    ends = _Subscribers(receiving)
    watch = Stopwatch()
    while watch.elapsed_s < seconds:
        while sent_bytes - ends.received_bytes - lost_bytes + block_bytes <= window_bytes:
            client, block = turns[turn]
            client.sendall(block)
            sent_bytes += block_bytes
            turn = (turn + 1) % publishers
        time.sleep(PAUSE_S)
        if not ends.receive(STALLED_S):
            lost_bytes = sent_bytes - ends.received_bytes
    message_bytes = len(packets[0])
    measured = watch.rate(ends.received_bytes // message_bytes)
    while ends.received_bytes < sent_bytes and ends.receive(STALLED_S):
        pass
    for client in (*receiving, *sending):
        client.close()
    ends.close()
    return Measured(measured.value, measured.load_busy, (sent_bytes - ends.received_bytes) // message_bytes)


def _subscribe(target: Target, client_id: str) -> socket.socket:
    client = connect(target, client_id)
    client.sendall(render_packet(Subscribe(1, (Subscription(TOPIC_FILTER, 0),))))
    answer = client.recv(5)
    if answer != b"\x90\x03\x00\x01\x00":
        raise RuntimeError(f"{target.name} answered SUBSCRIBE with {answer.hex()}")
    return client
