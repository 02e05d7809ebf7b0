"""MQTT 3.1.1, sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Suback, Subscribe, Subscription, Unsuback, Unsubscribe

from .client import payloads
from .conftest import Broker
from .exchanges import watch
from .packets import frame, pubcomp, pubrec, pubrel, text

FORBIDDEN = "$SYS/#"
"""Who is no administrator may not subscribe to it."""


@pytest.mark.parametrize("flags", sorted(set(range(16)) - {2}))
def test_mqtt_3_8_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    client.send(frame(0x80 | flags, b"\0\1", text(broker.topic()), b"\0"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xc0\xaf", b"a\0"])
def test_mqtt_3_8_3_1(broker: Broker, raw: bytes) -> None:
    client = broker.connect()
    client.send(frame(0x82, b"\0\1", text(raw), b"\0"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("rest", ["+", "#", "a/+", "+/+", "a/#"])
def test_mqtt_3_8_3_2(broker: Broker, rest: str) -> None:
    """Wildcards are supported: granted, and they work."""
    client = watch(broker, rest)
    broker.connect().publish(broker.topic("a/b" if "/" in rest else "a"), b"m", 1)
    assert client.take().payload == b"m"


def test_mqtt_3_8_3_2_with_too_many(broker: Broker) -> None:
    assert broker.connect().subscribe("/".join("+" * 9), broker.topic()) == (0x80, 0)


def test_mqtt_3_8_3_3(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0x82, b"\0\1"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("qos_byte", [3, 4, 8, 0x10, 0x40, 0x80, 0x82, 0xFF])
def test_mqtt_3_8_3_4(broker: Broker, qos_byte: int) -> None:
    client = broker.connect()
    client.send(frame(0x82, b"\0\1", text(broker.topic()), bytes((qos_byte,))))
    assert client.expect_closed() == []


def test_mqtt_3_8_3_4_without_qos(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0x82, b"\0\1", text(broker.topic())))
    assert client.expect_closed() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_8_4_1(broker: Broker, qos: int) -> None:
    client = broker.connect()
    client.send(Subscribe(1, (Subscription(broker.topic(), qos),)))
    assert client.read_frame() == bytes((0x90, 3, 0, 1, qos))


def test_mqtt_3_8_4_2(broker: Broker) -> None:
    client = broker.connect()
    for packet_id in (300, 1, 65_535, 300):
        client.send(Subscribe(packet_id, (Subscription(broker.topic(), 0),)))
        client.expect(Suback(packet_id, (0,)))


@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0), (1, 1)])
def test_mqtt_3_8_4_3(broker: Broker, first: int, second: int) -> None:
    """One subscription, with the new QoS."""
    client = watch(broker, "t", first)
    assert client.subscribe(broker.topic(), qos=second) == (second,)
    broker.connect().publish(broker.topic(), b"m", 2)
    assert [message.qos for message in client.remaining()] == [second]


def test_mqtt_3_8_4_3_sends_retained_messages_again(broker: Broker) -> None:
    broker.connect().publish(broker.topic(), b"kept", 1, retain=True)
    client = broker.connect()
    for _ in range(3):
        client.subscribe(broker.topic())
        message = client.message()
        assert (message.payload, message.retain) == (b"kept", True)


def test_mqtt_3_8_4_3_loses_no_message(broker: Broker) -> None:
    client, publisher = watch(broker, "t", 1), broker.connect()
    for number in range(10):
        client.send(Subscribe(number + 100, (Subscription(broker.topic(), 1),)))
        publisher.publish(broker.topic(), b"%d" % number, 1)
    for number in range(10):
        client.expect(Suback(number + 100, (1,)))
    assert payloads(client.message() for _ in range(10)) == [b"%d" % number for number in range(10)]


def test_mqtt_3_8_4_4(broker: Broker) -> None:
    client, publisher = broker.connect(), broker.connect()
    publisher.publish(broker.topic("a"), b"kept", 1, retain=True)
    wanted = tuple(Subscription(broker.topic(rest), qos) for rest, qos in (("a", 1), ("b/+", 2), ("c", 0), ("a", 2)))
    client.send(Subscribe(9, wanted))
    assert client.answer() == Suback(9, (1, 2, 0, 2))
    for rest in ("b/x", "c", "a"):
        publisher.publish(broker.topic(rest), rest.encode(), 2)
    messages = client.remaining()
    assert [(message.payload, message.qos) for message in messages if not message.retain] == [
        (b"b/x", 2),
        (b"c", 0),
        (b"a", 2),
    ]
    assert set(payloads(message for message in messages if message.retain)) == {b"kept"}


def test_mqtt_3_8_4_5(broker: Broker) -> None:
    """The QoS granted, or that it failed; one that fails does no harm to the others."""
    client = broker.connect()
    filters = (broker.topic("a"), FORBIDDEN, broker.topic("b"))
    assert client.subscribe(*filters, qos=1) == (1, 0x80, 1)
    client.publish(broker.topic("b"), b"m", 1)
    assert client.take().payload == b"m"


def test_mqtt_3_8_4_5_for_more_filters_than_are_looked_at(broker: Broker) -> None:
    codes = broker.connect().subscribe(*(broker.topic(str(number)) for number in range(60)))
    assert codes == (0,) * 50 + (0x80,) * 10


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_mqtt_3_8_4_6(broker: Broker, published: int, granted: int) -> None:
    client, publisher = watch(broker, "t", granted), broker.connect()
    publisher.publish(broker.topic(), b"m", published)
    assert client.take().qos == min(published, granted)


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_mqtt_3_8_4_6_of_retained_messages(broker: Broker, published: int, granted: int) -> None:
    broker.connect().publish(broker.topic(), b"m", published, retain=True)
    assert watch(broker, "t", granted).take().qos == min(published, granted)


def test_mqtt_3_9_3_1(broker: Broker) -> None:
    client = broker.connect()
    wanted = [2, 0, 1, 1, 0, 2]
    subscriptions = [Subscription(broker.topic(str(number)), qos) for number, qos in enumerate(wanted)]
    assert client.subscribe(*subscriptions, FORBIDDEN, subscriptions[0]) == (*wanted, 0x80, 2)


def test_mqtt_3_9_3_2(broker: Broker) -> None:
    """Every way to be refused has the one code that there is."""
    client = broker.connect()
    refused = (FORBIDDEN, "$share/g/" + FORBIDDEN, "/".join("+" * 9), "x" * 1025)
    assert client.subscribe(*refused) == (0x80,) * len(refused)
    codes: set[int] = set()
    for start in range(0, 120, 40):
        codes |= {*client.subscribe(*(broker.topic(str(number)) for number in range(start, start + 40)), qos=2)}
    assert codes == {2, 0x80}


@pytest.mark.parametrize("flags", sorted(set(range(16)) - {2}))
def test_mqtt_3_10_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    client.send(frame(0xA0 | flags, b"\0\1", text(broker.topic())))
    assert client.expect_closed() == []


@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xc0\xaf", b"a\0"])
def test_mqtt_3_10_3_1(broker: Broker, raw: bytes) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1", text(raw)))
    assert client.expect_closed() == []


def test_mqtt_3_10_3_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("other", ["+/b", "a/#", "#", "A/b", "a/b/", "/a/b", "a"])
def test_mqtt_3_10_4_1(broker: Broker, other: str) -> None:
    """A filter that matches the same topics, or looks much the same, is another."""
    client = watch(broker, "a/b", 1)
    client.unsubscribe(broker.topic(other))
    broker.connect().publish(broker.topic("a/b"), b"m", 1)
    assert client.take().payload == b"m"
    client.unsubscribe(broker.topic("a/b"))
    broker.connect().publish(broker.topic("a/b"), b"m", 1)
    assert client.remaining() == []


def test_mqtt_3_10_4_1_with_wildcards(broker: Broker) -> None:
    client = watch(broker, "+", 1)
    client.subscribe(broker.topic("t"))
    client.unsubscribe(broker.topic("+"))
    broker.connect().publish(broker.topic("t"), b"m", 1)
    assert [message.qos for message in client.remaining()] == [0]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_10_4_2(broker: Broker, qos: int) -> None:
    client, publisher = watch(broker, "t", qos), broker.connect()
    publisher.publish(broker.topic(), b"before", 2)
    client.unsubscribe(broker.topic())
    publisher.publish(broker.topic(), b"after", 2)
    assert payloads(client.remaining()) == [b"before"]


def test_mqtt_3_10_4_3(broker: Broker) -> None:
    client = watch(broker, "t", 2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    client.unsubscribe(broker.topic())
    client.send(pubrec(message.packet_id))
    client.expect(pubrel(message.packet_id))
    client.send(pubcomp(message.packet_id))
    client.ping()


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_10_4_3_on_the_next_connection(broker: Broker, qos: int) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    first = client.message()
    client.unsubscribe(broker.topic())
    client.drop()
    again = broker.resume(client_id).take()
    assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"m", True)


def test_mqtt_3_10_4_4(broker: Broker) -> None:
    client = watch(broker, "t")
    for packet_id in (300, 1, 65_535):
        client.send(Unsubscribe(packet_id, (broker.topic(),)))
        assert client.read_frame() == b"\xb0\x02" + packet_id.to_bytes(2, "big")


def test_mqtt_3_10_4_5(broker: Broker) -> None:
    client = broker.connect()
    client.send(Unsubscribe(8, (broker.topic("never"), "#")))
    client.expect(Unsuback(8))


def test_mqtt_3_10_4_6(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(*(broker.topic(rest) for rest in "abcd"))
    client.send(Unsubscribe(8, tuple(broker.topic(rest) for rest in ("a", "x", "c", "a"))))
    client.expect(Unsuback(8))
    publisher = broker.connect()
    for rest in "abcd":
        publisher.publish(broker.topic(rest), rest.encode(), 1)
    assert payloads(client.remaining()) == [b"b", b"d"]
