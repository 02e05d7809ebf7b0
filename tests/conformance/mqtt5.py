"""What tests of MQTT 5.0 say and hear: packets byte by byte, and the ends of connections."""

from __future__ import annotations

from headwater.mqtt.fields import render_binary, render_uint16, render_variable_int
from headwater.mqtt.packets import (
    NO_PROPERTIES,
    Acknowledgement,
    Connack,
    Disconnect,
    PacketType,
    Properties,
    PropertyId,
    Publish,
    Subscription,
    Will,
)
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client
from .conftest import Broker

LASTING = {PropertyId.SESSION_EXPIRY_INTERVAL: 600}
"""CONNECT properties of a session that outlives its connection."""


def frame(first_byte: int, *parts: bytes) -> bytes:
    """A packet from its first byte and what follows the Remaining Length."""
    body = b"".join(parts)
    return bytes((first_byte,)) + render_variable_int(len(body)) + body


def text(raw: str | bytes) -> bytes:
    """A string field, well formed or not."""
    return render_binary(raw.encode() if isinstance(raw, str) else raw)


def section(*properties: bytes) -> bytes:
    """Properties with their length in front."""
    body = b"".join(properties)
    return render_variable_int(len(body)) + body


def raw_connect(
    *payload: bytes, flags: int = 0x02, properties: bytes = b"\0", name: str = "MQTT", level: int = 5
) -> bytes:
    """A CONNECT byte by byte; the payload is the client id and what follows it."""
    return frame(0x10, text(name), bytes((level, flags)), render_uint16(0), properties, *payload)


def raw_publish(topic: str | bytes, payload: bytes = b"", properties: bytes = b"\0", first_byte: int = 0x30) -> bytes:
    """A PUBLISH of QoS 0."""
    return frame(first_byte, text(topic), properties, payload)


def raw_subscribe(*payload: bytes, properties: bytes = b"\0", first_byte: int = 0x82, packet_id: int = 1) -> bytes:
    return frame(first_byte, render_uint16(packet_id), properties, *payload)


def explain_end(client: Client, *codes: ReasonCode) -> Disconnect:
    """The server must close, and say why last, with (one of) these codes."""
    packets = client.expect_closed()
    assert packets, "closed without a DISCONNECT"
    last = packets[-1]
    assert isinstance(last, Disconnect), last
    assert last.reason_code in codes, last
    return last


def refuse(client: Client, code: ReasonCode) -> Connack:
    """The server must refuse the CONNECT that was sent, with this code, and close."""
    connack, *rest = client.expect_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code == code, connack
    assert rest == []
    return connack


def sign_in(broker: Broker, client_id: str | None = None, **options: object) -> tuple[Client, Connack]:
    """A new client and the CONNACK that it got; the options are fields of Connect."""
    client = broker.open()
    return client, client.sign_in(broker.connect_packet(client_id, **options))


def answer_to(
    client: Client,
    topic: str,
    qos: int,
    payload: bytes = b"m",
    *,
    packet_id: int | None = None,
    dup: bool = False,
    retain: bool = False,
    properties: Properties = NO_PROPERTIES,
) -> Acknowledgement:
    """Publish with QoS 1 or 2; the first acknowledgement."""
    client.send(
        Publish(topic, payload, qos, packet_id or client.next_id(), retain=retain, dup=dup, properties=properties)
    )
    answer = client.answer()
    assert isinstance(answer, Acknowledgement)
    return answer


def puback(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBACK, packet_id, code)


def pubrec(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBREC, packet_id, code)


def pubrel(packet_id: int | None) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBREL, packet_id)


def pubcomp(packet_id: int | None, code: int = 0) -> Acknowledgement:
    assert packet_id is not None
    return Acknowledgement(PacketType.PUBCOMP, packet_id, code)


def will_of(broker: Broker, payload: bytes = b"will", **options: object) -> Will:
    """A will to the topic `will` of the test."""
    fields: dict[str, object] = {"qos": 1, "retain": False} | options
    return Will(broker.topic("will"), payload, **fields)  # type: ignore[arg-type]


def watch(broker: Broker, rest: str = "#", qos: int = 2, **options: object) -> Client:
    """A client of its own that has subscribed to something of the test."""
    client = broker.connect()
    options = {"qos": qos} | options
    code = client.subscribe(Subscription(broker.topic(rest), **options))  # type: ignore[arg-type]
    assert code == (options["qos"],)
    return client


def let_time_pass(broker: Broker) -> None:
    """Wait until a second has gone by on the server's own clock: what a will with this delay shows when it comes."""
    topic = f"clock/{broker.name}"
    watcher = broker.connect()
    watcher.subscribe(topic)
    will = Will(topic, b"", 0, False, {PropertyId.WILL_DELAY_INTERVAL: 1})
    broker.connect(will=will, properties=LASTING).drop()
    assert watcher.message().topic == topic
    watcher.disconnect()
