"""MQTT 5.0, sections 4.3 and 4.6: the three qualities of service, and order."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client, payloads
from .conftest import Broker
from .exchanges import answer_to, let_time_pass, watch
from .packets import LASTING, puback, pubcomp, pubrec, pubrel

FORBIDDEN = "$SYS/forbidden"
EXPIRY = PropertyId.MESSAGE_EXPIRY_INTERVAL


def _lasting(broker: Broker, qos: int) -> tuple[str, Client]:
    """A client whose session outlives its connection, with a subscription."""
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=qos)
    return client_id, client


def test_mqtt_4_3_1_1(broker: Broker) -> None:
    client, publisher = watch(broker), broker.connect()
    publisher.publish(broker.topic(), b"m", 0)
    answer_to(publisher, broker.topic("dup"), 1, dup=True)
    low = watch(broker, "low", qos=0)
    answer_to(publisher, broker.topic("low"), 1, dup=True)
    assert client.message() == Publish(broker.topic(), b"m")
    assert low.message() == Publish(broker.topic("low"), b"m")


def _check_new_identifiers(broker: Broker, qos: int) -> None:
    client, publisher = watch(broker, qos=qos), broker.connect()
    for _ in range(15):
        publisher.publish(broker.topic(), b"m", qos)
    messages = client.remaining()
    ids = [message.packet_id for message in messages]
    assert len(set(ids)) == 15
    assert None not in ids
    assert 0 not in ids
    for message in messages[:7]:
        client.complete(message)
    for _ in range(5):
        publisher.publish(broker.topic(), b"m", qos)
    in_use = {message.packet_id for message in messages[7:]}
    assert in_use.isdisjoint(message.packet_id for message in client.remaining())


def test_mqtt_4_3_2_1(broker: Broker) -> None:
    _check_new_identifiers(broker, 1)


def _check_first_sending(broker: Broker, qos: int) -> None:
    client, publisher = watch(broker), broker.connect()
    for number in range(3):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    for number in range(3):
        message = client.take()
        assert message.packet_id
        assert message == Publish(broker.topic(), b"%d" % number, qos, message.packet_id, dup=False)


def test_mqtt_4_3_2_2(broker: Broker) -> None:
    _check_first_sending(broker, 1)


def test_mqtt_4_3_2_3(broker: Broker) -> None:
    client_id, client = _lasting(broker, 1)
    broker.connect().publish(broker.topic(), b"m", 1)
    message = client.message()
    for _ in range(2):
        client.drop()
        client = broker.resume(client_id, properties=LASTING)
        again = client.message()
        assert (again.packet_id, again.payload, again.dup) == (message.packet_id, b"m", True)
    client.send(puback(message.packet_id))
    client.ping()
    client.drop()
    assert broker.resume(client_id).remaining() == []


def test_mqtt_4_3_2_4(broker: Broker) -> None:
    client_id, subscriber = _lasting(broker, 1)
    subscriber.drop()
    client = broker.connect()
    answer = answer_to(client, broker.topic(), 1, packet_id=300)
    assert (answer.type, answer.packet_id) == (PacketType.PUBACK, 300)
    client.drop()  # the message is the server's now
    assert broker.resume(client_id).take().payload == b"m"


@pytest.mark.parametrize("dup", [False, True])
def test_mqtt_4_3_2_5(broker: Broker, dup: bool) -> None:
    subscriber, client = watch(broker), broker.connect()
    for payload in (b"one", b"two"):
        answer_to(client, broker.topic(), 1, payload, packet_id=8, dup=dup)
    assert payloads(subscriber.remaining()) == [b"one", b"two"]


def test_mqtt_4_3_3_1(broker: Broker) -> None:
    _check_new_identifiers(broker, 2)


def test_mqtt_4_3_3_2(broker: Broker) -> None:
    _check_first_sending(broker, 2)


def test_mqtt_4_3_3_3(broker: Broker) -> None:
    client_id, client = _lasting(broker, 2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    again = client.take()
    assert (again.packet_id, again.qos, again.dup) == (message.packet_id, 2, True)
    client.ping()
    client.drop()
    assert broker.resume(client_id).remaining() == []


@pytest.mark.parametrize("code", [ReasonCode.SUCCESS, ReasonCode.NO_MATCHING_SUBSCRIBERS])
def test_mqtt_4_3_3_4(broker: Broker, code: ReasonCode) -> None:
    client = watch(broker)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    client.send(pubrec(message.packet_id, code))
    client.expect(pubrel(message.packet_id))


def test_mqtt_4_3_3_5(broker: Broker) -> None:
    client_id, client = _lasting(broker, 2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    client.send(pubrec(message.packet_id))
    client.expect(pubrel(message.packet_id))
    for _ in range(2):
        client.drop()
        client = broker.resume(client_id, properties=LASTING)
        assert client.read() == pubrel(message.packet_id)
    client.send(pubcomp(message.packet_id))
    client.ping()
    client.drop()
    assert broker.resume(client_id).remaining() == []


def test_mqtt_4_3_3_6(broker: Broker) -> None:
    client_id, client = _lasting(broker, 2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    for _ in range(2):
        client.send(pubrec(message.packet_id))
        client.expect(pubrel(message.packet_id))
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    client.expect(pubrel(message.packet_id))
    assert client.remaining() == []


def test_mqtt_4_3_3_7(broker: Broker) -> None:
    client_id, client = _lasting(broker, 2)
    broker.connect().publish(broker.topic(), b"m", 2, properties={EXPIRY: 1})
    client.message()
    client.drop()
    let_time_pass(broker)
    again = broker.resume(client_id).take()
    assert (again.payload, again.dup, again.properties) == (b"m", True, {EXPIRY: 0})


def test_mqtt_4_3_3_8(broker: Broker) -> None:
    client_id, subscriber = _lasting(broker, 2)
    subscriber.drop()
    client = broker.connect()
    answer = answer_to(client, broker.topic(), 2, packet_id=300)
    assert (answer.type, answer.packet_id) == (PacketType.PUBREC, 300)
    client.drop()
    assert broker.resume(client_id).take().payload == b"m"


def test_mqtt_4_3_3_9(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect()
    assert answer_to(client, FORBIDDEN, 2, packet_id=3).reason_code >= 0x80
    assert answer_to(client, broker.topic(), 2, b"new", packet_id=3).reason_code < 0x80
    assert payloads(subscriber.remaining()) == [b"new"]


@pytest.mark.parametrize("dup", [False, True])
def test_mqtt_4_3_3_10(broker: Broker, dup: bool) -> None:
    subscriber, client = watch(broker), broker.connect()
    for _ in range(3):
        assert answer_to(client, broker.topic(), 2, packet_id=3, dup=dup) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    assert payloads(subscriber.remaining()) == [b"m"]


def test_mqtt_4_3_3_10_in_a_resumed_session(broker: Broker) -> None:
    subscriber, client_id = watch(broker), broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    answer_to(client, broker.topic(), 2, packet_id=3)
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    assert answer_to(client, broker.topic(), 2, packet_id=3, dup=True) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    assert payloads(subscriber.remaining()) == [b"m"]


def test_mqtt_4_3_3_11(broker: Broker) -> None:
    client = broker.connect()
    answer_to(client, broker.topic(), 2, packet_id=65_535)
    client.send(pubrel(65_535), pubrel(65_535))
    client.expect(pubcomp(65_535))
    client.expect(pubcomp(65_535, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))


def test_mqtt_4_3_3_12(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect()
    for payload in (b"one", b"two", b"three"):
        answer_to(client, broker.topic(), 2, payload, packet_id=3, dup=payload == b"three")
        client.send(pubrel(3))
        client.expect(pubcomp(3))
    assert payloads(subscriber.remaining()) == [b"one", b"two", b"three"]


def test_mqtt_4_3_3_13(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect()
    answer_to(client, broker.topic(), 2, packet_id=3, properties={EXPIRY: 1})
    message = subscriber.message()
    let_time_pass(broker)
    assert answer_to(client, broker.topic(), 2, packet_id=3, dup=True, properties={EXPIRY: 1}) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    subscriber.complete(message)
    subscriber.ping()


# -- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_6_0_2(broker: Broker, qos: int) -> None:
    """The server answers in order too, whether a message is refused, stored or neither."""
    client_id, subscriber = _lasting(broker, 1)
    subscriber.drop()
    client = broker.connect()
    topics = [broker.topic(), FORBIDDEN, broker.topic("nobody"), broker.topic(), broker.topic("nobody"), FORBIDDEN]
    client.send(*(Publish(topic, b"m", qos, packet_id) for packet_id, topic in enumerate(topics, 1)))
    answers = [client.answer() for _ in topics]
    assert [answer.packet_id for answer in answers] == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]
    assert len(broker.resume(client_id).remaining()) == 2


def _publish_many(broker: Broker, qos: int, count: int = 60) -> list[bytes]:
    publisher = broker.connect()
    expected = [b"%d" % number for number in range(count)]
    packets: list[Publish | Acknowledgement] = []
    for number, payload in enumerate(expected, 1):
        packets.append(Publish(broker.topic(), payload, qos, number if qos else None))
        if qos == 2:
            packets.append(pubrel(number))
    publisher.send(*packets)
    return expected


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_5(broker: Broker, qos: int) -> None:
    subscriber = watch(broker, "t")
    expected = _publish_many(broker, qos)
    assert [subscriber.take().payload for _ in expected] == expected


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_6_0_5_over_several_connections(broker: Broker, qos: int) -> None:
    client_id, client = _lasting(broker, 2)
    expected = _publish_many(broker, qos, 30)
    received: list[bytes] = []
    while len(received) < len(expected):
        in_flight = [client.message() for _ in range(min(10, len(expected) - len(received)))]
        assert payloads(in_flight) == expected[len(received) : len(received) + len(in_flight)]
        for message in in_flight[:4]:
            client.complete(message)
        received += payloads(in_flight[:4])
        client.ping()
        client.drop()
        client = broker.resume(client_id, properties=LASTING)


def test_mqtt_4_6_0_6(broker: Broker) -> None:
    subscribers = [watch(broker, rest, qos) for rest, qos in (("t", 0), ("+", 1), ("#", 2))]
    expected = _publish_many(broker, 1)
    for subscriber in subscribers:
        assert [subscriber.take().payload for _ in expected] == expected
