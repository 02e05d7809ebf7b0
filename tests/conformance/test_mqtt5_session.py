"""MQTT 5.0, sections 4.1, 4.2, 4.4 and 4.5: session state, transports, delivery retry, receipt."""

from __future__ import annotations

import socket
import ssl

import pytest
from websockets.sync.client import connect as connect_websocket
from websockets.typing import Subprotocol

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId, Publish, Subscription

from .client import DEADLINE_S, payloads
from .conftest import Broker
from .exchanges import answer_to, let_time_pass, sign_in, watch, will_of
from .packets import LASTING, puback, pubcomp, pubrec, pubrel

SHORT = {PropertyId.SESSION_EXPIRY_INTERVAL: 1}


def test_mqtt_4_1_0_1(broker: Broker) -> None:
    """The expiry interval counts from the end of the connection, not from its beginning."""
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=SHORT)
    client.subscribe(broker.topic(), qos=2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    answer_to(client, broker.topic("elsewhere"), 2, packet_id=9)
    let_time_pass(broker)
    client.complete(message)
    client.send(pubrel(9))
    client.expect(pubcomp(9))
    client.drop()
    broker.resume(client_id)


def test_mqtt_4_1_0_2(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    will = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 600})
    client = broker.connect(client_id, properties=SHORT, will=will)
    client.subscribe(broker.topic(), qos=1)
    client.drop()
    broker.connect().publish(broker.topic(), b"m", 1)
    assert watcher.take().payload == b"will"  # which the end of the session sets free
    client, connack = sign_in(broker, client_id, clean_session=False)
    assert not connack.session_present
    assert client.remaining() == []


def test_mqtt_4_1_0_2_but_for_what_is_retained(broker: Broker) -> None:
    client = broker.connect()
    client.publish(broker.topic(), b"kept", 1, retain=True)
    client.disconnect()
    assert payloads(watch(broker).remaining()) == [b"kept"]


def test_mqtt_4_2_0_1(broker: Broker) -> None:
    """TCP, TLS and WebSocket: the same conversation on each, byte by byte."""
    hello = render_packet(broker.connect_packet()) + b"\xc0\x00"
    client = broker.open()
    for position in range(len(hello)):
        client.send(hello[position : position + 1])
    client.read()
    assert client.read_frame() == b"\xd0\x00"
    server = broker.server
    context = ssl.create_default_context(cafile=str(server.ca_path))
    tls = broker.open()
    tls.socket.close()
    plain = socket.create_connection(("127.0.0.1", server.mqtts_port), timeout=DEADLINE_S)
    tls.socket = context.wrap_socket(plain, server_hostname="localhost")
    tls.send(hello)
    tls.read()
    assert tls.read_frame() == b"\xd0\x00"
    with connect_websocket(f"ws://127.0.0.1:{server.http_port}/mqtt", subprotocols=[Subprotocol("mqtt")]) as web_socket:
        web_socket.send(hello)
        received = b""
        while not received.endswith(b"\xd0\x00"):
            received += web_socket.recv(timeout=DEADLINE_S, decode=False)
        assert received[0] == 0x20


def test_mqtt_4_4_0_1(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for number in range(6):
        publisher.publish(broker.topic(), b"%d" % number, 1 + number % 2)
    first = client.remaining()
    client.complete(first[0])
    client.send(pubrec(first[1].packet_id))
    client.expect(pubrel(first[1].packet_id))
    client.ping()
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    client.expect(pubrel(first[1].packet_id))
    again = client.remaining()
    assert payloads(again) == [b"2", b"3", b"4", b"5"]
    assert [message.packet_id for message in again] == [message.packet_id for message in first[2:]]
    assert all(message.dup for message in again)


def test_mqtt_4_4_0_1_before_anything_new(broker: Broker) -> None:
    """First what the client has seen, in its order, then what has waited."""
    client_id = broker.client_id()
    properties = LASTING | {PropertyId.RECEIVE_MAXIMUM: 3}
    client = broker.connect(client_id, properties=properties)
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for number in range(5):
        publisher.publish(broker.topic(), b"%d" % number, 2)
    one, two, three = client.remaining()
    client.send(pubrec(two.packet_id))
    client.expect(pubrel(two.packet_id))
    client.drop()
    client = broker.resume(client_id, properties=properties)
    packets = [client.read() for _ in range(3)]
    assert pubrel(two.packet_id) in packets
    again = [packet for packet in packets if isinstance(packet, Publish)]
    assert [(message.packet_id, message.dup) for message in again] == [(one.packet_id, True), (three.packet_id, True)]
    client.send(pubcomp(two.packet_id))
    new = client.message()
    assert (new.payload, new.dup) == (b"3", False)


def test_mqtt_4_4_0_1_at_no_other_time(broker: Broker) -> None:
    client = watch(broker, "t")
    broker.connect().publish(broker.topic(), b"m", 1)
    assert len(client.remaining()) == 1
    let_time_pass(broker)
    client.ping()
    assert client.remaining() == []


@pytest.mark.parametrize(("qos", "code"), [(1, 0x80), (2, 0x80), (1, 0x97), (2, 0x83)])
def test_mqtt_4_4_0_2(broker: Broker, qos: int, code: int) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    message = client.message()
    client.send((puback if qos == 1 else pubrec)(message.packet_id, code))
    client.ping()
    client.drop()
    assert broker.resume(client_id, properties=LASTING).remaining() == []


def test_mqtt_4_5_0_1(broker: Broker) -> None:
    """To those that are here and those that are away, but not to those who subscribed to something else."""
    here, wild, other = watch(broker, "a/b"), watch(broker, "a/+"), watch(broker, "b/#")
    client_id = broker.client_id()
    away = broker.connect(client_id, properties=LASTING)
    away.subscribe(Subscription(broker.topic("a/#"), 2))
    away.drop()
    publisher = broker.connect()
    for qos in (0, 1, 2):
        publisher.publish(broker.topic("a/b"), b"%d" % qos, qos)
    assert payloads(here.remaining()) == payloads(wild.remaining()) == [b"0", b"1", b"2"]
    assert other.remaining() == []
    assert payloads(broker.resume(client_id).remaining()) == [b"1", b"2"]


def test_acknowledgements_of_what_is_not_known_here_do_no_harm(broker: Broker) -> None:
    client = broker.connect()
    client.send(Acknowledgement(PacketType.PUBCOMP, 5), Acknowledgement(PacketType.PUBREC, 6))
    client.ping()
