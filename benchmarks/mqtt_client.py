"""An MQTT client on top of Headwater's own codec: cheap enough for thousands in one process, and exact about what must
survive a connection. 3.1.1 and 5.0. Knows no server but a port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.reason_codes import ReasonCode

ANSWER_TIMEOUT_S = 30.0
MAX_IN_FLIGHT = 20
"""What Mosquitto takes at a time."""

Received = Callable[[Publish], None]


class ConnectionFailed(Exception):
    """The server refused, did not answer, or ended the connection while something was expected of it."""


@dataclass(slots=True)
class _Outgoing:
    packet: Publish
    on_done: Callable[[], None] | None
    is_received: bool = False
    """PUBREC has come: from now on PUBREL is what is repeated [MQTT-4.4.0-1]."""


@dataclass(slots=True)
class ClientSession:
    """The client's half of the session state (3.1.1 section 3.1.2.4): hand the same one to every connection of it."""

    in_flight: dict[int, _Outgoing] = field(default_factory=dict)
    received_ids: set[int] = field(default_factory=set)
    last_id: int = 0

    @property
    def has_room(self) -> bool:
        return len(self.in_flight) < MAX_IN_FLIGHT

    def next_id(self) -> int:
        self.last_id = self.last_id % 65_535 + 1
        while self.last_id in self.in_flight:
            self.last_id = self.last_id % 65_535 + 1
        return self.last_id


class Client(asyncio.Protocol):
    """One connection, used once: `open`, then the rest, then `disconnect` or `abort`."""

    def __init__(self, connect: Connect, session: ClientSession, on_publish: Received) -> None:
        self._connect = connect
        self._level = connect.level
        self._session = session
        self._on_publish = on_publish
        self._transport: asyncio.Transport | None = None
        self._tail = bytearray()
        self._connack: asyncio.Future[Connack] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[Packet]] = {}
        self._is_leaving = False
        self.ended_by_server: str | None = None
        """Why, when it was not us who ended it."""

    # -- what a user calls --------------------------------------------------------------------------------

    async def open(self, port: int) -> bool:
        """Connect and sign in; whether the server had the session. Repeats what was in flight. Raises
        ConnectionFailed or OSError."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port)
        self._send(self._connect)
        try:
            connack = await asyncio.wait_for(self._connack, ANSWER_TIMEOUT_S)
        except TimeoutError:
            self.abort()
            raise ConnectionFailed("no CONNACK") from None
        if connack.reason_code:
            raise ConnectionFailed(f"refused with {connack.reason_code:#x}")
        if connack.session_present:
            self._repeat()
        return connack.session_present

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Raises ConnectionFailed, also when less than `qos` is granted."""
        packet_id = self._session.next_id()
        answer = await self._ask(packet_id, Subscribe(packet_id, (Subscription(topic_filter, qos),)))
        if not isinstance(answer, Suback) or answer.reason_codes != (qos,):
            raise ConnectionFailed(f"the subscription of {topic_filter} was answered with {answer}")

    async def unsubscribe(self, topic_filter: str) -> None:
        """Raises ConnectionFailed."""
        packet_id = self._session.next_id()
        await self._ask(packet_id, Unsubscribe(packet_id, (topic_filter,)))

    def publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool = False, on_done: Callable[[], None] | None = None
    ) -> None:
        """Send a message; `on_done` is called when its exchange is over, on this connection or a later one. Only
        while the session `has_room`."""
        if not qos:
            self._send(Publish(topic, payload, retain=retain))
            return
        packet = Publish(topic, payload, qos, self._session.next_id(), retain)
        assert packet.packet_id is not None
        self._session.in_flight[packet.packet_id] = _Outgoing(packet, on_done)
        self._send(packet)

    def ping(self) -> None:
        self._send(Pingreq())

    def disconnect(self) -> None:
        """Say goodbye, so that the will is not sent, and let the server close: closing here while there is something
        to read would reset the connection, and the server might never read the goodbye."""
        self._is_leaving = True
        self._send(Disconnect())
        if self._transport is not None:
            self._transport.write_eof()

    def abort(self) -> None:
        """Be gone without a word."""
        self._is_leaving = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._tail += data
        position = 0
        while (frame := _cut(self._tail, position)) is not None and not self._is_leaving:
            start, stop = frame
            self._handle(parse_packet(self._tail[position], bytes(self._tail[start:stop]), self._level))
            position = stop
        del self._tail[:position]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._is_leaving and self.ended_by_server is None:
            self.ended_by_server = str(exc or "closed")
        failure = ConnectionFailed(f"the connection ended: {self.ended_by_server}")
        if not self._connack.done():
            self._connack.set_exception(failure)
            self._connack.exception()  # nobody may be waiting any more
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(failure)
                answer.exception()
        self._answers.clear()

    # -- packets ------------------------------------------------------------------------------------------

    def _send(self, packet: Packet) -> None:
        if self._transport is not None:
            self._transport.write(render_packet(packet, self._level))

    async def _ask(self, packet_id: int, packet: Packet) -> Packet:
        if self._transport is None:
            raise ConnectionFailed("not connected")
        answer = self._answers[packet_id] = asyncio.get_running_loop().create_future()
        self._send(packet)
        try:
            return await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise ConnectionFailed(f"no answer to {type(packet).__name__}") from None

    def _repeat(self) -> None:
        for packet_id, outgoing in self._session.in_flight.items():
            if outgoing.is_received:
                self._send(Acknowledgement(PacketType.PUBREL, packet_id))
            else:
                self._send(replace(outgoing.packet, dup=True))

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._handle_publish(packet)
            case Acknowledgement():
                self._handle_acknowledgement(packet)
            case Suback() | Unsuback():
                answer = self._answers.pop(packet.packet_id, None)
                if answer is not None and not answer.done():
                    answer.set_result(packet)
            case Connack():
                self._connack.set_result(packet)
            case Disconnect():
                self.ended_by_server = f"DISCONNECT {packet.reason_code:#x}"

    def _handle_publish(self, packet: Publish) -> None:
        packet_id, received_ids = packet.packet_id, self._session.received_ids
        if packet.qos == 2 and packet_id is not None:
            if packet_id not in received_ids:
                received_ids.add(packet_id)
                self._on_publish(packet)
            self._send(Acknowledgement(PacketType.PUBREC, packet_id))
        else:
            self._on_publish(packet)
            if packet_id is not None:
                self._send(Acknowledgement(PacketType.PUBACK, packet_id))

    def _handle_acknowledgement(self, packet: Acknowledgement) -> None:
        packet_id = packet.packet_id
        if packet.type is PacketType.PUBREL:
            self._session.received_ids.discard(packet_id)
            self._send(Acknowledgement(PacketType.PUBCOMP, packet_id))
            return
        # Released twice, once before the connection was cut: that the server knows of it no more is no fault.
        is_known_to_be_done = packet.reason_code == ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        if packet.reason_code >= 0x80 and not is_known_to_be_done:
            raise RuntimeError(f"{packet.type.name} says {packet.reason_code:#x}")
        if packet.type is PacketType.PUBREC and not is_known_to_be_done:
            outgoing = self._session.in_flight.get(packet_id)
            if outgoing is not None:
                outgoing.is_received = True
            self._send(Acknowledgement(PacketType.PUBREL, packet_id))
        else:
            outgoing = self._session.in_flight.pop(packet_id, None)
            if outgoing is not None and outgoing.on_done is not None:
                outgoing.on_done()


def _cut(data: bytearray, position: int) -> tuple[int, int] | None:
    """Where the body of the packet at `position` starts and stops; None while it is not there to its end."""
    length = shift = 0
    for index in range(position + 1, min(position + 5, len(data))):
        length |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            return (index + 1, index + 1 + length) if index + 1 + length <= len(data) else None
        shift += 7
    return None
