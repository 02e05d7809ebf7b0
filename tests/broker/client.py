"""A small MQTT client on a raw socket, with deadlines; it does what it is told, right or wrong.

The CONNECT that it sends decides which MQTT it speaks from then on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.framing import parse_frame_length
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Properties,
    PropertyId,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)

DEADLINE_S = 10.0


class Closed(Exception):
    """The server has closed the connection."""


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.level = 4
        self.connack: Connack | None = None
        """The answer to `sign_in`."""
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
        for packet in packets:
            if isinstance(packet, Connect):
                self.level = packet.level
            self.writer.write(packet if isinstance(packet, bytes) else render_packet(packet, self.level))

    async def read(self) -> Packet:
        """The next packet. Raises Closed when there is none any more."""
        return await asyncio.wait_for(self._read(), DEADLINE_S)

    async def _read(self) -> Packet:
        try:
            head = await self.reader.readexactly(2)
            while (header := parse_frame_length(head, 0, len(head))) is None:
                head += await self.reader.readexactly(1)
            return parse_packet(head[0], await self.reader.readexactly(header[1]), self.level)
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

    async def expect_disconnect(self, reason_code: int) -> Disconnect:
        """The server closes, and says why."""
        *_, last = await self.expect_closed()
        assert isinstance(last, Disconnect)
        assert last.reason_code == reason_code, last
        return last

    async def sign_in(self, connect: Connect) -> Connack:
        self.send(connect)
        connack = await self.read()
        assert isinstance(connack, Connack)
        assert connack.reason_code == 0, connack
        self.connack = connack
        return connack

    async def subscribe(
        self, topic_filter: str, qos: int = 0, *, subscription_id: int | None = None, **options: Any
    ) -> int:
        """The reason code; `options` are those of `Subscription`."""
        self._last_id += 1
        properties = (
            NO_PROPERTIES if subscription_id is None else {PropertyId.SUBSCRIPTION_IDENTIFIER: (subscription_id,)}
        )
        self.send(Subscribe(self._last_id, (Subscription(topic_filter, qos, **options),), properties))
        suback = await self._answer()
        assert isinstance(suback, Suback)
        assert suback.packet_id == self._last_id
        return suback.reason_codes[0]

    async def unsubscribe(self, topic_filter: str) -> Unsuback:
        self._last_id += 1
        self.send(Unsubscribe(self._last_id, (topic_filter,)))
        unsuback = await self._answer()
        assert isinstance(unsuback, Unsuback)
        assert unsuback.packet_id == self._last_id
        return unsuback

    async def publish(
        self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> int:
        """Returns when the message is acknowledged for good, with the reason code."""
        self._last_id += 1
        self.send(Publish(topic, payload, qos, self._last_id if qos else None, retain, properties=properties))
        if not qos:
            return 0
        reason_code = await self._acknowledgement(PacketType.PUBREC if qos == 2 else PacketType.PUBACK)
        if qos == 2 and reason_code < 0x80:
            self.send(Acknowledgement(PacketType.PUBREL, self._last_id))
            await self._acknowledgement(PacketType.PUBCOMP)
        return reason_code

    async def _acknowledgement(self, kind: PacketType) -> int:
        packet = await self._answer()
        assert isinstance(packet, Acknowledgement)
        assert (packet.type, packet.packet_id) == (kind, self._last_id)
        return packet.reason_code

    async def _answer(self) -> Packet:
        """The next packet that is no message."""
        packet = await self.read()
        while isinstance(packet, Publish):
            self.received.append(packet)
            packet = await self.read()
        return packet

    async def message(self, *, acknowledge: bool = False) -> Publish:
        """The next message. Acknowledged, it is for good, in all its steps."""
        message = self.received.pop(0) if self.received else await self.read()
        assert isinstance(message, Publish), message
        if acknowledge and message.packet_id is not None:
            if message.qos == 1:
                self.send(Acknowledgement(PacketType.PUBACK, message.packet_id))
            else:
                self.send(Acknowledgement(PacketType.PUBREC, message.packet_id))
                await self.expect(Acknowledgement(PacketType.PUBREL, message.packet_id))
                self.send(Acknowledgement(PacketType.PUBCOMP, message.packet_id))
        return message

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
