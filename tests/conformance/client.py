"""A small MQTT client on a blocking socket, with deadlines; it does what it is told, right or wrong."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

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
    """One connection. Packets are read and written as those of `level`."""

    def __init__(self, port: int, level: int = 4) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.level = level
        self.kept: list[Publish] = []
        """Messages that came while something else was waited for; `message` returns them first."""
        self._last_id = 0
        self._end_topic = ""

    # -- packets ----------------------------------------------------------------------------------------------

    def send(self, *packets: Packet | bytes) -> None:
        self.socket.sendall(b"".join(p if isinstance(p, bytes) else render_packet(p, self.level) for p in packets))

    def read_frame(self) -> bytes:
        """The next packet as it came. Raises Closed when there is none any more."""
        head = self._read_exactly(2)
        while (header := parse_frame_length(head, 0, len(head))) is None:
            head += self._read_exactly(1)
        return head + self._read_exactly(header[1])

    def read(self) -> Packet:
        """The next packet, of any kind. Raises Closed when there is none any more."""
        frame = self.read_frame()
        header = parse_frame_length(frame, 0, len(frame))
        assert header is not None
        return parse_packet(frame[0], frame[header[0] :], self.level)

    def _read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                chunk = self.socket.recv(count - len(data))
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise Closed
            data += chunk
        return data

    def answer(self) -> Packet:
        """The next packet that is no message."""
        packet = self.read()
        while isinstance(packet, Publish):
            self.kept.append(packet)
            packet = self.read()
        return packet

    def expect(self, wanted: Packet) -> None:
        """The next packet must be this one; messages before it are kept, unless one is wanted."""
        packet = self.message() if isinstance(wanted, Publish) else self.answer()
        assert packet == wanted

    def expect_closed(self) -> list[Packet]:
        """The server must close; the packets that it sends before."""
        packets: list[Packet] = []
        try:
            while True:
                packets.append(self.read())
        except Closed:
            self.socket.close()
            return packets

    # -- what clients do --------------------------------------------------------------------------------------

    def sign_in(self, connect: Connect) -> Connack:
        """Send a CONNECT that must be accepted; the answer."""
        self.level = connect.level
        self.send(connect)
        connack = self.read()
        assert isinstance(connack, Connack)
        assert connack.reason_code == 0, connack
        return connack

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def subscribe(
        self, *wanted: Subscription | str, qos: int = 0, properties: Properties = NO_PROPERTIES
    ) -> tuple[int, ...]:
        """Subscribe to filters, with `qos` where only the filter is given; the codes of SUBACK."""
        packet_id = self.next_id()
        subscriptions = tuple(s if isinstance(s, Subscription) else Subscription(s, qos) for s in wanted)
        self.send(Subscribe(packet_id, subscriptions, properties))
        suback = self.answer()
        assert isinstance(suback, Suback)
        assert suback.packet_id == packet_id
        return suback.reason_codes

    def unsubscribe(self, *topic_filters: str) -> tuple[int, ...]:
        """The codes of UNSUBACK: none in 3.1.1."""
        packet_id = self.next_id()
        self.send(Unsubscribe(packet_id, topic_filters))
        unsuback = self.answer()
        assert isinstance(unsuback, Unsuback)
        assert unsuback.packet_id == packet_id
        return unsuback.reason_codes

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish, and return when the exchange is over: for QoS 0 when the server has handled it."""
        packet_id = self.next_id() if qos else None
        self.send(Publish(topic, payload, qos, packet_id, retain, properties=properties))
        if packet_id is None:
            self.ping()
        elif qos == 1:
            self._expect_acknowledgement(PacketType.PUBACK, packet_id)
        else:
            self._expect_acknowledgement(PacketType.PUBREC, packet_id)
            self.send(Acknowledgement(PacketType.PUBREL, packet_id))
            self._expect_acknowledgement(PacketType.PUBCOMP, packet_id)

    def _expect_acknowledgement(self, kind: PacketType, packet_id: int) -> None:
        packet = self.answer()
        assert isinstance(packet, Acknowledgement)
        assert (packet.type, packet.packet_id) == (kind, packet_id)
        assert packet.reason_code < 0x80, packet

    def message(self) -> Publish:
        """The next message. Nothing is acknowledged."""
        if self.kept:
            return self.kept.pop(0)
        packet = self.read()
        assert isinstance(packet, Publish), packet
        return packet

    def take(self) -> Publish:
        """The next message; its exchange is completed."""
        message = self.message()
        self.complete(message)
        return message

    def complete(self, message: Publish) -> None:
        """Acknowledge a message to the end."""
        if message.packet_id is None:
            return
        if message.qos == 1:
            self.send(Acknowledgement(PacketType.PUBACK, message.packet_id))
            return
        self.send(Acknowledgement(PacketType.PUBREC, message.packet_id))
        self._expect_acknowledgement(PacketType.PUBREL, message.packet_id)
        self.send(Acknowledgement(PacketType.PUBCOMP, message.packet_id))

    def ping(self) -> None:
        """Return when everything that was sent before has been handled."""
        self.send(Pingreq())
        self.expect(Pingresp())

    def remaining(self) -> list[Publish]:
        """Every message that is on its way, none acknowledged: what comes before a message of our own to ourselves.

        The first call adds a subscription to the session.
        """
        if not self._end_topic:
            self._end_topic = f"end/{id(self)}-{self.socket.getsockname()[1]}"
            self.subscribe(self._end_topic)
        self.send(Publish(self._end_topic, b"end"))
        messages = []
        while (message := self.message()).topic != self._end_topic:
            messages.append(message)
        return messages

    # -- ends -------------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """The polite end; returns when the server has closed as well."""
        self.send(Disconnect())
        self.expect_closed()

    def drop(self) -> None:
        """Break off without a goodbye: the server gets RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def payloads(messages: Iterable[Publish]) -> list[bytes]:
    return [message.payload for message in messages]
