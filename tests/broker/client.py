"""A small MQTT client on a raw socket, with deadlines; it does what it is told, right or wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from headwater.mqtt.session import parse_frame_length

DEADLINE_S = 10.0


class Closed(Exception):
    """The server has closed the connection."""


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._last_id = 0
        self.received: list[Publish] = []
        """Messages that came while something else was waited for."""

    @classmethod
    async def open(
        cls, port: int, tls: ssl.SSLContext | None = None, receive_buffer_bytes: int | None = None
    ) -> Client:
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        except OSError:
            raw.close()
            raise
        name = "localhost" if tls is not None else None
        reader, writer = await asyncio.open_connection(sock=raw, ssl=tls, server_hostname=name, limit=1024)
        return cls(reader, writer)

    def send(self, *packets: Packet | bytes) -> None:
        self.writer.write(b"".join(p if isinstance(p, bytes) else render_packet(p) for p in packets))

    async def read(self) -> Packet:
        """The next packet. Raises Closed when there is none any more."""
        return await asyncio.wait_for(self._read(), DEADLINE_S)

    async def _read(self) -> Packet:
        try:
            head = await self.reader.readexactly(2)
            while (header := parse_frame_length(head, 0, len(head))) is None:
                head += await self.reader.readexactly(1)
            return parse_packet(head[0], await self.reader.readexactly(header[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed from None

    async def expect(self, wanted: Packet) -> None:
        """The next packet that is no message must be this one."""
        packet = await self.read()
        while isinstance(packet, Publish) and not isinstance(wanted, Publish):
            self.received.append(packet)
            packet = await self.read()
        assert packet == wanted

    async def expect_closed(self) -> list[Packet]:
        """The server closes, after the packets that are answered."""
        packets: list[Packet] = []
        try:
            while True:
                packets.append(await self.read())
        except Closed:
            self.writer.close()
            return packets

    async def sign_in(self, connect: Connect) -> None:
        self.send(connect)
        await self.expect(Connack(session_present=False, return_code=0))

    async def subscribe(self, topic_filter: str, qos: int = 0) -> int:
        """The return code."""
        self._last_id += 1
        self.send(Subscribe(self._last_id, (Subscription(topic_filter, qos),)))
        suback = await self.read()
        while isinstance(suback, Publish):
            self.received.append(suback)
            suback = await self.read()
        assert isinstance(suback, Suback)
        assert suback.packet_id == self._last_id
        return suback.return_codes[0]

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Returns when a QoS 1 message is acknowledged."""
        self._last_id += 1
        self.send(Publish(topic, payload, qos, self._last_id if qos else None))
        if qos:
            await self.expect(Acknowledgement(PacketType.PUBACK, self._last_id))

    async def message(self) -> Publish:
        """The next message."""
        if self.received:
            return self.received.pop(0)
        packet = await self.read()
        assert isinstance(packet, Publish)
        return packet

    async def ping(self) -> None:
        """Returns when everything sent before has been handled."""
        self.send(Pingreq())
        await self.expect(Pingresp())

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):  # whether the end is a clean one is not what is tested
            return

    def reset(self) -> None:
        """Break off without a goodbye: the peer gets RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
