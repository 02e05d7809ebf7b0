"""MQTT 3.1.1, sections 3.3 to 3.7 and 4.3: PUBLISH, retained messages, and the exchanges of each QoS."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Publish

from .client import payloads
from .conftest import Broker
from .exchanges import answer_to, watch
from .packets import frame, puback, pubcomp, pubrec, pubrel, text


def test_mqtt_3_3_1_2(broker: Broker) -> None:
    """From a client it is a violation; the server does not do it itself."""
    subscriber, client = watch(broker), broker.connect()
    client.send(frame(0x38, text(broker.topic()), b"m"))
    assert client.expect_closed() == []
    assert subscriber.remaining() == []


def test_mqtt_3_3_1_2_of_what_the_server_publishes(broker: Broker) -> None:
    subscriber = watch(broker, "t", 0)
    answer_to(broker.connect(), broker.topic(), 1, dup=True)
    assert subscriber.read_frame()[0] == 0x30


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_3_1_3(broker: Broker, qos: int) -> None:
    subscriber = watch(broker, "t", qos)
    answer_to(broker.connect(), broker.topic(), qos, dup=True)
    message = subscriber.message()
    assert (message.qos, message.dup) == (qos, False)


@pytest.mark.parametrize("first_byte", [0x36, 0x37, 0x3E, 0x3F])
def test_mqtt_3_3_1_4(broker: Broker, first_byte: int) -> None:
    subscriber, client = watch(broker), broker.connect()
    client.send(frame(first_byte, text(broker.topic()), b"\0\1m"))
    assert client.expect_closed() == []
    assert subscriber.remaining() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_5(broker: Broker, qos: int) -> None:
    broker.connect().publish(broker.topic(), b"kept", qos, retain=True)
    for _ in range(2):
        message = watch(broker, "t").message()
        assert (message.topic, message.payload, message.qos) == (broker.topic(), b"kept", qos)


def test_mqtt_3_3_1_5_only_the_last(broker: Broker) -> None:
    publisher = broker.connect()
    for number in range(3):
        publisher.publish(broker.topic(), b"%d" % number, 1, retain=True)
    assert payloads(watch(broker, "t").remaining()) == [b"2"]


def test_mqtt_3_3_1_6(broker: Broker) -> None:
    publisher = broker.connect()
    for rest in ("a", "a/b", "a/b/c", "d"):
        publisher.publish(broker.topic(rest), rest.encode(), 1, retain=True)
    for rest, matched in (("#", "a a/b a/b/c d"), ("a/#", "a a/b a/b/c"), ("+", "a d"), ("+/b", "a/b"), ("d", "d")):
        messages = watch(broker, rest).remaining()
        assert sorted(payloads(messages)) == [name.encode() for name in matched.split()]
        assert {message.topic for message in messages} == {broker.topic(name) for name in matched.split()}


def test_mqtt_3_3_1_6_only_for_who_subscribes(broker: Broker) -> None:
    broker.connect().publish(broker.topic(), b"kept", 1, retain=True)
    other = broker.connect()
    assert payloads(watch(broker, "t").remaining()) == [b"kept"]
    assert other.remaining() == []


def test_mqtt_3_3_1_7(broker: Broker) -> None:
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"old", 1, retain=True)
    publisher.publish(broker.topic(), b"new", 0, retain=True)
    assert payloads(watch(broker, "t").remaining()) == [b"new"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_8(broker: Broker, qos: int) -> None:
    broker.connect().publish(broker.topic(), b"kept", 2, retain=True)
    message = watch(broker, "t", qos).message()
    assert (message.retain, message.dup, message.qos) == (True, False, qos)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_9(broker: Broker, qos: int) -> None:
    subscriber = watch(broker)
    broker.connect().publish(broker.topic(), b"m", qos, retain=True)
    assert not subscriber.take().retain


def test_mqtt_3_3_1_9_for_a_client_that_was_away(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    broker.connect().publish(broker.topic(), b"m", 1, retain=True)
    client = broker.resume(client_id)
    message = client.take()
    assert (message.payload, message.retain) == (b"m", False)
    assert client.remaining() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_1_10(broker: Broker, qos: int) -> None:
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"kept", 1, retain=True)
    subscriber = watch(broker)
    assert subscriber.take().payload == b"kept"
    publisher.publish(broker.topic(), b"", qos, retain=True)
    message = subscriber.take()
    assert (message.payload, message.retain, message.qos) == (b"", False, qos)
    assert watch(broker).remaining() == []


def test_mqtt_3_3_1_11(broker: Broker) -> None:
    """Nothing was retained there before either."""
    broker.connect().publish(broker.topic(), b"", 1, retain=True)
    assert watch(broker).remaining() == []


@pytest.mark.parametrize("payload", [b"passing", b""])
def test_mqtt_3_3_1_12(broker: Broker, payload: bytes) -> None:
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"kept", 1, retain=True)
    publisher.publish(broker.topic(), payload, 1)
    publisher.publish(broker.topic("other"), b"passing", 1)
    assert payloads(watch(broker).remaining()) == [b"kept"]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\2t", b"\xff\xfft"])
def test_mqtt_3_3_2_1(broker: Broker, body: bytes) -> None:
    client = broker.connect()
    client.send(frame(0x30, body))
    assert client.expect_closed() == []


def test_mqtt_3_3_2_1_of_what_the_server_publishes(broker: Broker) -> None:
    subscriber, topic = watch(broker), broker.topic("größe/µ/😀")
    broker.connect().publish(topic, b"m")
    assert subscriber.read_frame() == frame(0x30, text(topic), b"m")


@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+/b", "a+", "a#b"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_2_2(broker: Broker, topic: str, qos: int) -> None:
    client = broker.connect()
    client.send(Publish(topic, b"m", qos, 1 if qos else None))
    assert client.expect_closed() == []


def test_mqtt_3_3_2_3(broker: Broker) -> None:
    """As it was published, not as the filter says."""
    subscriber, publisher = watch(broker, "+/b/#"), broker.connect()
    for rest in ("a/b", "a/c", "a/b/c/d", "b", "/b/"):
        publisher.publish(broker.topic(rest), b"m", 1)
    topics = [message.topic for message in subscriber.remaining()]
    assert topics == [broker.topic("a/b"), broker.topic("a/b/c/d"), broker.topic("/b/")]


def test_mqtt_3_3_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish(broker.topic(), b"m"))
    client.ping()
    assert client.kept == []
    assert answer_to(client, broker.topic(), 1, packet_id=4) == puback(4)
    assert answer_to(client, broker.topic(), 2, packet_id=4) == pubrec(4)


@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (1, 0)])
def test_mqtt_3_3_5_1(broker: Broker, first: int, second: int) -> None:
    subscriber = watch(broker, "#", first)
    subscriber.subscribe(broker.topic("+"), qos=second)
    broker.connect().publish(broker.topic(), b"m", 2)
    assert [message.qos for message in subscriber.remaining()] == [max(first, second)]


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$other", "channels/1/publish"])
@pytest.mark.parametrize("retain", [False, True])
def test_mqtt_3_3_5_2(broker: Broker, topic: str, retain: bool) -> None:
    subscriber = broker.connect()
    subscriber.subscribe("#", "$other", qos=0)
    client = broker.connect()
    payload = broker.name.encode()
    client.publish(topic, payload, 0, retain=retain)
    client.publish(topic, payload, 1, retain=retain)
    client.publish(topic, payload, 2, retain=retain)
    assert payload not in payloads(subscriber.remaining())


@pytest.mark.parametrize("flags", sorted(set(range(16)) - {2}))
def test_mqtt_3_6_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    assert answer_to(client, broker.topic(), 2, packet_id=4) == pubrec(4)
    client.send(frame(0x60 | flags, b"\0\4"))
    assert client.expect_closed() == []


def test_mqtt_3_6_1_1_of_what_the_server_sends(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = subscriber.message()
    subscriber.send(pubrec(message.packet_id))
    assert subscriber.read_frame()[0] == 0x62


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_4_3_1_1(broker: Broker, granted: int) -> None:
    subscriber = watch(broker, "t", granted)
    broker.connect().publish(broker.topic(), b"m")
    assert subscriber.message() == Publish(broker.topic(), b"m", 0)


def test_mqtt_4_3_2_1(broker: Broker) -> None:
    subscriber, publisher = watch(broker, "t", 1), broker.connect()
    for number in range(5):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    messages = [subscriber.message() for _ in range(5)]
    assert {(message.qos, message.dup) for message in messages} == {(1, False)}
    assert len({message.packet_id for message in messages}) == 5


def test_mqtt_4_3_2_1_unacknowledged_until_puback(broker: Broker) -> None:
    """As many as the window holds; one more for each PUBACK, whatever their order."""
    subscriber, publisher = watch(broker, "t", 1), broker.connect()
    for number in range(30):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    messages = [subscriber.message() for _ in range(20)]
    subscriber.ping()
    assert subscriber.kept == []
    subscriber.complete(messages[7])
    assert subscriber.message().payload == b"20"
    subscriber.ping()
    assert subscriber.kept == []


def test_mqtt_4_3_2_2(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect()
    for number, dup in enumerate((False, True, True, False)):
        assert answer_to(client, broker.topic(), 1, b"%d" % number, packet_id=3, dup=dup) == puback(3)
    assert payloads(subscriber.take() for _ in range(4)) == [b"0", b"1", b"2", b"3"]


def test_mqtt_4_3_3_1(broker: Broker) -> None:
    subscriber, publisher = watch(broker, "t", 2), broker.connect()
    publisher.publish(broker.topic(), b"first", 2)
    publisher.publish(broker.topic(), b"second", 2)
    first, second = subscriber.message(), subscriber.message()
    assert {(message.qos, message.dup) for message in (first, second)} == {(2, False)}
    assert first.packet_id != second.packet_id
    subscriber.send(pubrec(first.packet_id))
    subscriber.expect(pubrel(first.packet_id))
    subscriber.send(pubcomp(first.packet_id))
    subscriber.ping()
    assert subscriber.kept == []


def test_mqtt_4_3_3_1_no_publish_after_pubrel(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=2)
    broker.connect().publish(broker.topic(), b"m", 2)
    packet_id = client.message().packet_id
    client.send(pubrec(packet_id))
    client.expect(pubrel(packet_id))
    client.drop()
    client = broker.resume(client_id)
    client.expect(pubrel(packet_id))
    assert client.remaining() == []


def test_mqtt_4_3_3_1_unacknowledged_until_pubcomp(broker: Broker) -> None:
    """The identifier is in use until then, and the window as full."""
    subscriber, publisher = watch(broker, "t", 2), broker.connect()
    for number in range(25):
        publisher.publish(broker.topic(), b"%d" % number, 2)
    messages = [subscriber.message() for _ in range(20)]
    for message in messages:
        subscriber.send(pubrec(message.packet_id))
        subscriber.expect(pubrel(message.packet_id))
    subscriber.ping()
    assert subscriber.kept == []
    subscriber.send(pubcomp(messages[0].packet_id))
    new = subscriber.message()
    assert new.payload == b"20"
    assert new.packet_id not in {message.packet_id for message in messages[1:]}


def test_mqtt_4_3_3_1_pubrec_for_what_is_not_known(broker: Broker) -> None:
    client = broker.connect()
    client.send(pubrec(7))
    client.ping()


def test_mqtt_4_3_3_2(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect()
    for dup in (False, True, True, False):
        assert answer_to(client, broker.topic(), 2, b"once", packet_id=3, dup=dup) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    assert answer_to(client, broker.topic(), 2, b"again", packet_id=3, dup=True) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    assert payloads(subscriber.take() for _ in range(2)) == [b"once", b"again"]
    assert subscriber.remaining() == []


def test_mqtt_4_3_3_2_across_connections(broker: Broker) -> None:
    subscriber, client_id = watch(broker), broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    assert answer_to(client, broker.topic(), 2, b"once", packet_id=3) == pubrec(3)
    client.drop()
    client = broker.resume(client_id)
    assert answer_to(client, broker.topic(), 2, b"once", packet_id=3, dup=True) == pubrec(3)
    client.send(pubrel(3))
    client.expect(pubcomp(3))
    assert payloads(subscriber.remaining()) == [b"once"]


def test_mqtt_4_3_3_2_pubrel_for_what_is_not_known(broker: Broker) -> None:
    client = broker.connect()
    client.send(pubrel(3), pubrel(3))
    assert [client.read(), client.read()] == [pubcomp(3), pubcomp(3)]
