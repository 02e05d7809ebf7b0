"""MQTT 5.0, section 4.9: flow control."""

from __future__ import annotations

from headwater.mqtt.packets import PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client, payloads
from .conftest import Broker
from .exchanges import answer_to
from .packets import LASTING, pubcomp, pubrec, pubrel, raw_connect, section, text

MOST = PropertyId.RECEIVE_MAXIMUM
MAX_IN_FLIGHT = 20
"""The server's own limit where the client has a higher one or none."""


def _owed(broker: Broker, most: int | None, count: int, qos: int = 1) -> Client:
    """A client with this Receive Maximum, to whom so many messages are owed."""
    client = broker.connect(properties={} if most is None else {MOST: most})
    client.subscribe(broker.topic(), qos=qos)
    publisher = broker.connect()
    for number in range(count):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    return client


def test_mqtt_4_9_0_1(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), properties=section(b"\x21\0\0")))
    assert client.expect_closed() == []
    assert len(_owed(broker, 1, 5).remaining()) == 1
    assert len(_owed(broker, 4, 5).remaining()) == 4


def test_mqtt_4_9_0_1_with_the_servers_own_limit(broker: Broker) -> None:
    for most in (None, 65_535):
        assert len(_owed(broker, most, MAX_IN_FLIGHT + 1).remaining()) == MAX_IN_FLIGHT


def test_mqtt_4_9_0_1_anew_with_each_connection(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING | {MOST: 2})
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    for number in range(5):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    assert payloads(client.remaining()) == [b"0", b"1"]
    client.drop()
    client = broker.resume(client_id, properties=LASTING | {MOST: 4})
    assert payloads(client.remaining()) == [b"0", b"1", b"2", b"3"]


def test_mqtt_4_9_0_1_when_it_is_lower_than_before(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING | {MOST: 4})
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    for number in range(6):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    assert len(client.remaining()) == 4
    client.drop()
    client = broker.resume(client_id, properties=LASTING | {MOST: 2})
    received: list[bytes] = []
    while len(received) < 6:
        in_flight = client.remaining()
        assert 1 <= len(in_flight) <= 2
        received += payloads(in_flight)
        for message in in_flight:
            client.complete(message)
    assert received == [b"%d" % number for number in range(6)]


def test_mqtt_4_9_0_2(broker: Broker) -> None:
    client = _owed(broker, 2, 5)
    for expected in ([b"0", b"1"], [b"2", b"3"], [b"4"]):
        messages = client.remaining()
        assert payloads(messages) == expected
        assert client.remaining() == []
        for message in messages:
            client.complete(message)


def test_mqtt_4_9_0_2_with_qos_2(broker: Broker) -> None:
    """PUBCOMP, or a PUBREC that refuses, gives the quota back; a PUBREC that accepts does not."""
    client = _owed(broker, 1, 3, qos=2)
    [first] = client.remaining()
    client.send(pubrec(first.packet_id))
    client.expect(pubrel(first.packet_id))
    assert client.remaining() == []
    client.send(pubcomp(first.packet_id))
    [second] = client.remaining()
    client.send(pubrec(second.packet_id, ReasonCode.QUOTA_EXCEEDED))
    assert payloads(client.remaining()) == [b"2"]


def test_mqtt_4_9_0_3(broker: Broker) -> None:
    client = _owed(broker, 1, 3)
    client.ping()
    assert client.subscribe(broker.topic("x"), qos=2) == (2,)
    client.publish(broker.topic("elsewhere"), b"m", 2)
    other = broker.connect()
    other.send(Publish(broker.topic("x"), b"qos 0"))
    other.ping()
    assert client.unsubscribe(broker.topic("x")) == (0,)
    assert answer_to(client, broker.topic("elsewhere"), 1).reason_code < 0x80
    assert payloads(client.remaining()) == [b"0", b"qos 0"]
