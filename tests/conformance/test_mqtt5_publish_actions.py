"""MQTT 5.0, section 3.3.4: what the server does with a PUBLISH."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode

from .client import payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, sign_in
from .packets import LASTING, puback, pubrec, pubrel, raw_publish, section

SUBSCRIPTION_ID = PropertyId.SUBSCRIPTION_IDENTIFIER


def test_mqtt_3_3_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish(broker.topic(), b"m"))
    client.ping()  # nothing else was answered
    assert answer_to(client, broker.topic(), 1).type is PacketType.PUBACK
    assert answer_to(client, broker.topic(), 2).type is PacketType.PUBREC


def test_mqtt_3_3_4_2(broker: Broker) -> None:
    client = broker.connect()
    for topic_filter, qos in ((broker.topic("a/b"), 0), (broker.topic("a/#"), 2), (broker.topic("+/b"), 1)):
        client.subscribe(topic_filter, qos=qos)
    broker.connect().publish(broker.topic("a/b"), b"m", 2)
    assert [message.qos for message in client.remaining()] == [2]


def test_mqtt_3_3_4_3(broker: Broker) -> None:
    client = broker.connect()
    for number, rest in ((1, "a"), (268_435_455, "b")):
        client.subscribe(broker.topic(rest), qos=2, properties={SUBSCRIPTION_ID: (number,)})
    client.subscribe(broker.topic("c"), qos=2)
    publisher = broker.connect()
    for qos in (0, 1, 2):
        for rest, expected in (("a", (1,)), ("b", (268_435_455,)), ("c", None)):
            publisher.publish(broker.topic(rest), b"m", qos)
            assert client.take().properties.get(SUBSCRIPTION_ID) == expected


def test_mqtt_3_3_4_3_while_the_client_is_away(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=1, properties={SUBSCRIPTION_ID: (300,)})
    client.disconnect()
    broker.connect().publish(broker.topic(), b"m", 1)
    assert broker.resume(client_id).take().properties == {SUBSCRIPTION_ID: (300,)}


def test_mqtt_3_3_4_3_of_shared_subscriptions(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(f"$share/g/{broker.topic()}", qos=1, properties={SUBSCRIPTION_ID: (4,)})
    client.publish(broker.topic(), b"m", 1)
    assert [message.properties for message in client.remaining()] == [{SUBSCRIPTION_ID: (4,)}]


def test_mqtt_3_3_4_4(broker: Broker) -> None:
    client = broker.connect()
    for number, rest in ((7, "a/b"), (5, "a/#"), (7, "+/b")):
        client.subscribe(broker.topic(rest), qos=1, properties={SUBSCRIPTION_ID: (number,)})
    client.subscribe(broker.topic("a/+"))
    broker.connect().publish(broker.topic("a/b"), b"m", 1)
    [message] = client.remaining()
    assert sorted(message.properties[SUBSCRIPTION_ID]) in ([5, 7], [5, 7, 7])


def test_mqtt_3_3_4_4_after_a_subscription_was_replaced(broker: Broker) -> None:
    client = broker.connect()
    for number in (1, 2):
        client.subscribe(broker.topic(), properties={SUBSCRIPTION_ID: (number,)})
    client.publish(broker.topic(), b"m")
    client.subscribe(broker.topic())
    client.publish(broker.topic(), b"m")
    assert [message.properties for message in client.remaining()] == [{SUBSCRIPTION_ID: (2,)}, {}]


def test_mqtt_3_3_4_5(broker: Broker) -> None:
    broker.connect().publish(broker.topic("a"), b"m", 1, retain=True)
    client = broker.connect()
    client.subscribe(broker.topic("#"), properties={SUBSCRIPTION_ID: (1,)})
    client.subscribe(broker.topic("a"), properties={SUBSCRIPTION_ID: (2,)})
    ids = [message.properties[SUBSCRIPTION_ID] for message in client.remaining()]
    assert ids == [(1,), (2,)]


def test_mqtt_3_3_4_6(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x0b\x01")))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_3_4_7(broker: Broker) -> None:
    """QoS 2 messages stay unacknowledged for as long as the client does not release them."""
    client, connack = sign_in(broker)
    most = connack.properties[PropertyId.RECEIVE_MAXIMUM]
    for packet_id in range(1, most + 1):
        assert answer_to(client, broker.topic(), 2, packet_id=packet_id).reason_code < 0x80
    client.send(Publish(broker.topic(), b"one more", 2, most + 1))
    explain_end(client, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)


def test_mqtt_3_3_4_7_after_a_release(broker: Broker) -> None:
    client, connack = sign_in(broker)
    most = connack.properties[PropertyId.RECEIVE_MAXIMUM]
    for packet_id in range(1, most + 1):
        answer_to(client, broker.topic(), 2, packet_id=packet_id)
    client.send(pubrel(1))
    client.expect(Acknowledgement(PacketType.PUBCOMP, 1))
    assert answer_to(client, broker.topic(), 2, packet_id=most + 1).reason_code < 0x80
    assert answer_to(client, broker.topic(), 2, packet_id=most + 1, dup=True).reason_code < 0x80


@pytest.mark.parametrize("most", [1, 3])
def test_mqtt_3_3_4_9(broker: Broker, most: int) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: most})
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for number in range(10):
        publisher.publish(broker.topic(), b"%d" % number, 1 + number % 2)
    taken: list[bytes] = []
    while len(taken) < 10:
        in_flight = client.remaining()
        assert len(in_flight) == min(most, 10 - len(taken))
        taken += payloads(in_flight)
        for message in in_flight:
            client.send(puback(message.packet_id) if message.qos == 1 else pubrec(message.packet_id, 0x80))
    assert taken == [b"%d" % number for number in range(10)]


def test_mqtt_3_3_4_9_counts_until_pubcomp(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for _ in range(2):
        publisher.publish(broker.topic(), b"m", 2)
    [first] = client.remaining()
    client.send(pubrec(first.packet_id))
    client.expect(pubrel(first.packet_id))
    assert client.remaining() == []
    assert first.packet_id is not None
    client.send(Acknowledgement(PacketType.PUBCOMP, first.packet_id))
    assert len(client.remaining()) == 1


def test_mqtt_3_3_4_9_does_not_count_qos_0(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"1", 1)
    publisher.publish(broker.topic(), b"1", 1)
    for _ in range(5):
        publisher.publish(broker.topic(), b"0")
    assert payloads(client.remaining()) == [b"1", *[b"0"] * 5]


def test_mqtt_3_3_4_10(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    for _ in range(3):
        publisher.publish(broker.topic(), b"m", 1)
    client.ping()
    assert client.subscribe(broker.topic("other"), qos=1) == (1,)
    assert client.unsubscribe(broker.topic("other")) == (0,)
    client.publish(broker.topic("elsewhere"), b"m", 1)
    client.publish(broker.topic("elsewhere"), b"m", 2)
    assert len(client.kept) == 1
