"""MQTT 5.0, sections 3.3.1 to 3.3.2.1: the flags of PUBLISH, RETAIN and the topic name."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import PropertyId, Subscription
from headwater.mqtt.reason_codes import ReasonCode

from .client import payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, watch
from .packets import LASTING, frame, raw_publish, text


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_3_1_1(broker: Broker, qos: int) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    first = client.message()
    assert not first.dup
    client.drop()
    again = broker.resume(client_id, properties=LASTING).take()
    assert again.dup
    assert (again.payload, again.packet_id) == (b"m", first.packet_id)


def test_mqtt_3_3_1_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), first_byte=0x38))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_3_1_3(broker: Broker, qos: int) -> None:
    watcher, publisher = watch(broker), broker.connect()
    assert answer_to(publisher, broker.topic(), qos, dup=True).reason_code < 0x80
    assert not watcher.take().dup


@pytest.mark.parametrize("first_byte", [0x36, 0x37, 0x3E, 0x3F])
def test_mqtt_3_3_1_4(broker: Broker, first_byte: int) -> None:
    client = broker.connect()
    client.send(frame(first_byte, text(broker.topic()), b"\0\1\0"))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_5(broker: Broker, qos: int) -> None:
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"old", 1, retain=True)
    publisher.publish(broker.topic(), b"new", qos, retain=True, properties={PropertyId.CONTENT_TYPE: "x"})
    [message] = watch(broker).remaining()
    assert (message.payload, message.retain, message.qos) == (b"new", True, qos)
    assert message.properties == {PropertyId.CONTENT_TYPE: "x"}


def test_mqtt_3_3_1_6(broker: Broker) -> None:
    publisher, watcher = broker.connect(), watch(broker)
    publisher.publish(broker.topic(), b"kept", 1, retain=True)
    publisher.publish(broker.topic("other"), b"stays", 1, retain=True)
    publisher.publish(broker.topic(), b"", 1, retain=True)
    assert payloads(watcher.remaining()) == [b"kept", b"stays", b""]
    assert payloads(watch(broker).remaining()) == [b"stays"]


def test_mqtt_3_3_1_7(broker: Broker) -> None:
    broker.connect().publish(broker.topic(), b"", 1, retain=True)
    assert watch(broker).remaining() == []


def test_mqtt_3_3_1_8(broker: Broker) -> None:
    publisher = broker.connect()
    publisher.publish(broker.topic("new"), b"m", 1)
    publisher.publish(broker.topic(), b"kept", 1, retain=True)
    publisher.publish(broker.topic(), b"live", 1)
    publisher.publish(broker.topic(), b"", 1)
    assert payloads(watch(broker).remaining()) == [b"kept"]


def _retain_three(broker: Broker) -> None:
    publisher = broker.connect()
    for qos in (0, 1, 2):
        publisher.publish(broker.topic(f"{qos}"), b"%d" % qos, qos, retain=True)


def test_mqtt_3_3_1_9(broker: Broker) -> None:
    _retain_three(broker)
    client = broker.connect()
    for _ in range(2):
        client.subscribe(Subscription(broker.topic("#"), 1, retain_handling=0))
        messages = sorted((client.take() for _ in range(3)), key=lambda message: message.topic)
        assert payloads(messages) == [b"0", b"1", b"2"]
        assert [message.qos for message in messages] == [0, 1, 1]
        assert all(message.retain for message in messages)
    assert client.remaining() == []


def test_mqtt_3_3_1_10(broker: Broker) -> None:
    _retain_three(broker)
    client = broker.connect()
    wanted = Subscription(broker.topic("#"), 0, retain_handling=1)
    client.subscribe(wanted)
    assert len(client.remaining()) == 3
    client.subscribe(wanted)
    assert client.remaining() == []
    client.unsubscribe(broker.topic("#"))
    client.subscribe(wanted)
    assert len(client.remaining()) == 3


def test_mqtt_3_3_1_10_in_a_resumed_session(broker: Broker) -> None:
    _retain_three(broker)
    client_id, wanted = broker.client_id(), Subscription(broker.topic("#"), 0, retain_handling=1)
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(wanted)
    assert len(client.remaining()) == 3
    client.disconnect()
    client = broker.resume(client_id, properties=LASTING)
    client.subscribe(wanted)
    assert client.remaining() == []


def test_mqtt_3_3_1_11(broker: Broker) -> None:
    _retain_three(broker)
    client = broker.connect()
    for _ in range(2):
        client.subscribe(Subscription(broker.topic("#"), 0, retain_handling=2))
        assert client.remaining() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_12(broker: Broker, qos: int) -> None:
    watcher = watch(broker, qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos, retain=True)
    assert not watcher.take().retain


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_13(broker: Broker, qos: int) -> None:
    watcher = watch(broker, qos=qos, retain_as_published=True)
    publisher = broker.connect()
    for retain in (True, False, True):
        publisher.publish(broker.topic(), b"m", qos, retain=retain)
    assert [watcher.take().retain for _ in range(3)] == [True, False, True]


def test_mqtt_3_3_1_13_while_the_client_is_away(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(Subscription(broker.topic("as"), 1, retain_as_published=True), Subscription(broker.topic("no"), 1))
    client.disconnect()
    publisher = broker.connect()
    publisher.publish(broker.topic("as"), b"m", 1, retain=True)
    publisher.publish(broker.topic("no"), b"m", 1, retain=True)
    client = broker.resume(client_id, properties=LASTING)
    assert [client.take().retain, client.take().retain] == [True, False]


@pytest.mark.parametrize("topic", [b"a\xff", b"\xc0\x80", b"a\0"])
def test_mqtt_3_3_2_1(broker: Broker, topic: bytes) -> None:
    client = broker.connect()
    client.send(raw_publish(topic))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_3_2_1_beyond_its_packet(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0x30, b"\0\x20", b"short"))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("topic", ["+", "#", "a/+", "a/+/b", "a/#", "a+b", "a#"])
def test_mqtt_3_3_2_2(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(raw_publish(topic))
    explain_end(client, ReasonCode.MALFORMED_PACKET, ReasonCode.TOPIC_NAME_INVALID)


def test_mqtt_3_3_2_3(broker: Broker) -> None:
    client, publisher = watch(broker, "a/+/c"), broker.connect()
    for rest in ("a/b/c", "a/b", "a/b/c/d", "b/b/c", "a//c"):
        publisher.publish(broker.topic(rest), b"m", 1)
    assert [message.topic for message in client.remaining()] == [broker.topic("a/b/c"), broker.topic("a//c")]
