"""MQTT 5.0, section 3.3.2.3: the properties of PUBLISH."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.mqtt.packets import PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode

from .client import payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, let_time_pass, sign_in, watch
from .packets import LASTING, raw_publish, section, text

EXPIRY = PropertyId.MESSAGE_EXPIRY_INTERVAL
ALIAS = PropertyId.TOPIC_ALIAS


def _check_passed_on(broker: Broker, properties: dict[PropertyId, Any], payload: bytes = b"m") -> None:
    """Live with each QoS, retained, and to a client that is away."""
    watcher, publisher, client_id = watch(broker), broker.connect(), broker.client_id()
    away = broker.connect(client_id, properties=LASTING)
    away.subscribe(broker.topic("#"), qos=2)
    away.disconnect()
    for qos in (0, 1, 2):
        publisher.publish(broker.topic(str(qos)), payload, qos, retain=True, properties=properties)
    received = [watcher.take() for _ in range(3)]
    received += watch(broker, qos=0).remaining()
    away = broker.resume(client_id, properties=LASTING)
    received += [away.take(), away.take()]
    assert len(received) == 8
    for message in received:
        assert message.properties == properties
        assert message.payload == payload


@pytest.mark.parametrize("indicator", [0, 1])
def test_mqtt_3_3_2_4(broker: Broker, indicator: int) -> None:
    _check_passed_on(broker, {PropertyId.PAYLOAD_FORMAT_INDICATOR: indicator}, "Grüße".encode())


def test_mqtt_3_3_2_5(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic("#"), qos=2)
    client.disconnect()
    publisher = broker.connect()
    for qos in (1, 2):
        publisher.publish(broker.topic(), b"short", qos, properties={EXPIRY: 1})
        publisher.publish(broker.topic(), b"long", qos, properties={EXPIRY: 600})
    publisher.publish(broker.topic("retained"), b"short", 0, retain=True, properties={EXPIRY: 1})
    let_time_pass(broker)
    assert payloads(broker.resume(client_id, properties=LASTING).remaining()) == [b"long", b"long"]
    assert watch(broker, "retained").remaining() == []


def test_mqtt_3_3_2_5_for_a_slow_client(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"started", 1, properties={EXPIRY: 1})
    publisher.publish(broker.topic(), b"waits", 1, properties={EXPIRY: 1})
    publisher.publish(broker.topic(), b"last", 1)
    let_time_pass(broker)
    assert [client.take().payload, client.take().payload] == [b"started", b"last"]


def test_mqtt_3_3_2_6(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    watcher, publisher = watch(broker), broker.connect()
    publisher.publish(broker.topic(), b"m", 1, retain=True, properties={EXPIRY: 600})
    assert watcher.take().properties == {EXPIRY: 600}
    let_time_pass(broker)
    for message in (broker.resume(client_id).take(), watch(broker, "t").take()):
        assert 500 < message.properties[EXPIRY] <= 599


@pytest.mark.parametrize("interval", [1, 0xFFFF_FFFF])
def test_mqtt_3_3_2_6_at_once(broker: Broker, interval: int) -> None:
    watcher = watch(broker)
    broker.connect().publish(broker.topic(), b"m", 1, properties={EXPIRY: interval})
    assert watcher.take().properties[EXPIRY] in (interval - 1, interval)


def test_mqtt_3_3_2_7(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.publish(broker.topic(), b"m", 1, properties={ALIAS: 1})
    client.publish("", b"m", 1, properties={ALIAS: 1})
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    client.send(Publish("", b"m", properties={ALIAS: 1}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_3_2_7_of_the_server(broker: Broker) -> None:
    client_id = broker.client_id()
    options = {"properties": LASTING | {PropertyId.TOPIC_ALIAS_MAXIMUM: 5}}
    client = broker.connect(client_id, **options)
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    for _ in range(3):
        publisher.publish(broker.topic(), b"m", 1)
    topics = [client.message().topic for _ in range(3)]
    assert topics == [broker.topic(), "", ""]
    client.drop()
    client = broker.resume(client_id, **options)
    first = client.take()
    assert (first.topic, first.dup) == (broker.topic(), True)


def test_mqtt_3_3_2_8(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x23\0\0")))
    explain_end(client, ReasonCode.TOPIC_ALIAS_INVALID)


def test_mqtt_3_3_2_9(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish(broker.topic(), b"m", properties={ALIAS: 65_535}))
    explain_end(client, ReasonCode.TOPIC_ALIAS_INVALID)


def test_mqtt_3_3_2_9_of_an_alias_without_a_topic(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish("", b"m", properties={ALIAS: 3}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
    client = broker.connect()
    client.send(raw_publish(""))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_3_2_11(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 1})
    client.subscribe(broker.topic("#"))
    publisher = broker.connect()
    for rest in ("a", "b", "a", "b"):
        publisher.publish(broker.topic(rest))
    received = [(message.topic, message.properties.get(ALIAS)) for message in (client.message() for _ in range(4))]
    assert received == [(broker.topic("a"), 1), (broker.topic("b"), None), ("", 1), (broker.topic("b"), None)]


def test_mqtt_3_3_2_12(broker: Broker) -> None:
    client, connack = sign_in(broker)
    client.subscribe(broker.topic("#"))
    most = connack.properties[PropertyId.TOPIC_ALIAS_MAXIMUM]
    for alias in range(1, most + 1):
        client.publish(broker.topic(str(alias)), properties={ALIAS: alias})
    for alias in range(most, 0, -1):
        client.publish("", b"again", properties={ALIAS: alias})
    client.publish(broker.topic("another"), properties={ALIAS: 1})
    client.publish("", b"again", properties={ALIAS: 1})
    messages = client.remaining()
    topics = [broker.topic(str(alias)) for alias in range(1, most + 1)]
    assert [message.topic for message in messages] == [*topics, *reversed(topics), *[broker.topic("another")] * 2]
    assert all(ALIAS not in message.properties for message in messages)


def test_mqtt_3_3_2_12_with_qos_2_twice(broker: Broker) -> None:
    """A repeated message may have its alias again, and sets it again."""
    subscriber, client = watch(broker), broker.connect()
    for _ in range(2):
        answer_to(client, broker.topic(), 2, packet_id=1, properties={ALIAS: 1})
    client.publish("", b"by alias", 1, properties={ALIAS: 1})
    assert payloads(subscriber.remaining()) == [b"m", b"by alias"]


def test_mqtt_3_3_2_12_of_a_topic_without_rights(broker: Broker) -> None:
    client = broker.connect()
    assert answer_to(client, "$SYS/x", 1, properties={ALIAS: 1}).reason_code == ReasonCode.NOT_AUTHORIZED
    assert answer_to(client, "", 1, properties={ALIAS: 1}).reason_code == ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("topic", [b"\xff", b"a\0b"])
def test_mqtt_3_3_2_13(broker: Broker, topic: bytes) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x08" + text(topic))))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("topic", ["a/+", "#", "a#"])
def test_mqtt_3_3_2_14(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x08" + text(topic))))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_3_2_15(broker: Broker) -> None:
    _check_passed_on(broker, {PropertyId.RESPONSE_TOPIC: broker.topic("ä answer")})


def test_mqtt_3_3_2_16(broker: Broker) -> None:
    _check_passed_on(broker, {PropertyId.CORRELATION_DATA: bytes(range(256))})


def test_mqtt_3_3_2_17(broker: Broker) -> None:
    _check_passed_on(broker, {PropertyId.USER_PROPERTY: (("name", "value"), ("", ""), ("ü", "x" * 500))})


def test_mqtt_3_3_2_17_up_to_the_limit(broker: Broker) -> None:
    pairs = tuple((str(number), "v") for number in range(65))
    client = broker.connect()
    client.publish(broker.topic(), properties={PropertyId.USER_PROPERTY: pairs[:64]})
    client.send(Publish(broker.topic(), b"", properties={PropertyId.USER_PROPERTY: pairs}))
    explain_end(client, ReasonCode.QUOTA_EXCEEDED)


def test_mqtt_3_3_2_18(broker: Broker) -> None:
    pairs = tuple((name, str(number)) for number, name in enumerate(["b", "a", "b", "c", "a", "b"]))
    _check_passed_on(broker, {PropertyId.USER_PROPERTY: pairs})


def test_mqtt_3_3_2_18_between_other_properties(broker: Broker) -> None:
    """User properties before, between and behind others, some of which stay here, keep their order."""
    client = watch(broker, "t", qos=0)
    pairs = [(f"{number}", "v") for number in range(3)]
    user = [b"\x26" + text(name) + text(value) for name, value in pairs]
    properties = section(user[0], b"\x23\0\1", user[1], b"\x03" + text("kind"), user[2])
    client.send(raw_publish(broker.topic(), b"m", properties))
    assert client.message().properties == {PropertyId.USER_PROPERTY: tuple(pairs), PropertyId.CONTENT_TYPE: "kind"}


def test_mqtt_3_3_2_19(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x03" + text(b"\xff"))))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_3_2_20(broker: Broker) -> None:
    _check_passed_on(broker, {PropertyId.CONTENT_TYPE: "text/plain; charset=utf-8"})
