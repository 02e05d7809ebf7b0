"""Loads where every client waits for its answer: acknowledged messages, and connections that come and go."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Sequence

from comparison import Measured, Stopwatch
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Acknowledgement, Disconnect, PacketType, Publish
from mqtt_load import CONNACK, connect, render_connect
from servers import Target

PAYLOAD = b"field1=21.37&field2=60.1"
RECEIVE_BYTES = 4_096

Script = Sequence[tuple[bytes, int]]
"""What a client sends and how many bytes of answer it then waits for, step by step, over and over."""


def qos1_script(topic: str) -> Script:
    """One message, one PUBACK."""
    return [(render_packet(Publish(topic, PAYLOAD, 1, 1)), 4)]


def qos2_script(topic: str, window: int) -> Script:
    """`window` messages, their PUBRECs, their PUBRELs, their PUBCOMPs."""
    ids = range(1, window + 1)
    publishes = b"".join(render_packet(Publish(topic, PAYLOAD, 2, packet_id)) for packet_id in ids)
    releases = b"".join(render_packet(Acknowledgement(PacketType.PUBREL, packet_id)) for packet_id in ids)
    return [(publishes, 4 * window), (releases, 4 * window)]


class _Client:
    """One connection on its way through its script."""

    __slots__ = ("cycles", "missing_bytes", "socket", "step")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.step = 0
        self.missing_bytes = 0
        self.cycles = 0


def exchange(target: Target, scripts: Sequence[Script], messages_a_cycle: int, seconds: float) -> Measured:
    """Every script on a connection of its own; messages of whole cycles per second."""
    clients: dict[int, tuple[_Client, Script]] = {}
    poll = select.epoll(len(scripts))
    for number, script in enumerate(scripts):
        client = connect(target, f"client-{number}")
        client.setblocking(False)
        clients[client.fileno()] = (_Client(client), script)
        poll.register(client, select.EPOLLIN)
    watch = Stopwatch()
    for one, script in clients.values():
        _send(one, script)
    while (left_s := seconds - watch.elapsed_s) > 0:
        for descriptor, _ in poll.poll(left_s):
            one, script = clients[descriptor]
            count = len(one.socket.recv(RECEIVE_BYTES))
            if not count:
                raise RuntimeError("the server closed a connection")
            one.missing_bytes -= count
            if one.missing_bytes:
                continue
            one.step += 1
            if one.step == len(script):
                one.step = 0
                one.cycles += 1
            _send(one, script)
    measured = watch.rate(messages_a_cycle * sum(one.cycles for one, _ in clients.values()))
    poll.close()
    for one, _ in clients.values():
        one.socket.close()
    return measured


def _send(one: _Client, script: Script) -> None:
    request, one.missing_bytes = script[one.step]
    one.socket.send(request)  # short, to a client that has read all its answers: the socket takes it whole


def connect_and_leave(target: Target, concurrent: int, seconds: float) -> Measured:
    """Whole visits per second: connection, CONNECT with name and password, CONNACK, DISCONNECT, and the end of the
    connection, which is left to the server so that all it has to do is counted (and no port waits here)."""
    goodbye = render_packet(Disconnect())
    visits = _visits(target)
    poll = select.epoll(concurrent)
    under_way: dict[int, socket.socket] = {}

    def begin() -> None:
        client, hello = next(visits)
        client.sendall(hello)
        under_way[client.fileno()] = client
        poll.register(client, select.EPOLLIN)

    done = 0
    watch = Stopwatch()
    for _ in range(concurrent):
        begin()
    while watch.elapsed_s < seconds:
        for descriptor, _ in poll.poll(1.0):
            client = under_way[descriptor]
            answer = client.recv(RECEIVE_BYTES)
            if answer == CONNACK:
                client.sendall(goodbye)
            elif answer:
                raise RuntimeError(f"{target.name} answered CONNECT with {answer.hex()}")
            else:
                del under_way[descriptor]
                client.close()
                done += 1
                begin()
    measured = watch.rate(done)
    poll.close()
    for client in under_way.values():
        client.close()
    return measured


def _visits(target: Target) -> Iterator[tuple[socket.socket, bytes]]:
    """Connections, each with its CONNECT."""
    hellos = [render_connect(target, f"visitor-{number}") for number in range(1_000)]
    while True:
        for hello in hellos:
            client = socket.create_connection(("127.0.0.1", target.mqtt_port))
            yield client, hello
