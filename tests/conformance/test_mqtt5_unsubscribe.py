"""MQTT 5.0, sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import PacketType, PropertyId, Unsuback, Unsubscribe
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import REASON_CODES

from .client import payloads
from .conftest import Broker
from .exchanges import explain_end, watch
from .packets import frame, puback, pubcomp, pubrec, pubrel, section, text

NOTHING = ReasonCode.NO_SUBSCRIPTION_EXISTED


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt_3_10_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    client.send(frame(0xA0 | flags, b"\0\1\0", text("t")))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("topic_filter", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt_3_10_3_1(broker: Broker, topic_filter: bytes) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1\0", text(topic_filter)))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_10_3_1_of_filters_that_cannot_be_subscribed_to(broker: Broker) -> None:
    client = broker.connect()
    assert client.unsubscribe("a/#/b", "$share//t", "$share/g", "+a") == (NOTHING,) * 4
    client.send(frame(0xA2, b"\0\1\0", text(b"")))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_10_3_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1\0"))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_10_3_2_and_no_other_properties(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1", section(b"\x0b\1"), text("t")))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_10_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(broker.topic("a/+"), broker.topic("é"))
    others = ("a/#", "a/b", "A/+", "a/+/", "a", "e\u0301")
    assert client.unsubscribe(*map(broker.topic, others)) == (NOTHING,) * len(others)
    for rest in ("a/b", "é"):
        client.publish(broker.topic(rest), b"m")
    assert len(client.remaining()) == 2
    assert client.unsubscribe(broker.topic("a/+")) == (ReasonCode.SUCCESS,)


def test_mqtt_3_10_4_1_of_a_shared_subscription(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(f"$share/g/{broker.topic()}")
    assert client.unsubscribe(broker.topic(), f"$share/h/{broker.topic()}") == (NOTHING, NOTHING)
    client.publish(broker.topic(), b"m")
    assert payloads(client.remaining()) == [b"m"]
    assert client.unsubscribe(f"$share/g/{broker.topic()}") == (ReasonCode.SUCCESS,)
    client.publish(broker.topic(), b"m")
    assert client.remaining() == []


def test_mqtt_3_10_4_2(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(broker.topic("#"), broker.topic("a"))
    client.unsubscribe(broker.topic("#"))
    client.publish(broker.topic("a"), b"a")
    client.publish(broker.topic("b"), b"b")
    assert payloads(client.remaining()) == [b"a"]
    client.unsubscribe(broker.topic("a"))
    client.publish(broker.topic("a"), b"a")
    assert client.remaining() == []


def test_mqtt_3_10_4_3(broker: Broker) -> None:
    client, publisher = watch(broker, "t"), broker.connect()
    publisher.publish(broker.topic(), b"1", 1)
    publisher.publish(broker.topic(), b"2", 2)
    one, two = client.message(), client.message()
    client.unsubscribe(broker.topic("t"))
    client.send(puback(one.packet_id), pubrec(two.packet_id))
    client.expect(pubrel(two.packet_id))
    client.send(pubcomp(two.packet_id))
    client.ping()


def test_mqtt_3_10_4_3_of_what_is_queued(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=1)
    publisher = broker.connect()
    for number in range(3):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    client.unsubscribe(broker.topic())
    assert [client.take().payload for _ in range(3)] == [b"0", b"1", b"2"]


def test_mqtt_3_10_4_4(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(broker.topic())
    for code in (ReasonCode.SUCCESS, NOTHING):
        client.send(Unsubscribe(5, (broker.topic(),)))
        assert client.read() == Unsuback(5, (code,))


def test_mqtt_3_10_4_5(broker: Broker) -> None:
    client = broker.connect()
    ids = [65_535, 1, 258]
    client.send(*(Unsubscribe(packet_id, (broker.topic(),)) for packet_id in ids))
    assert [client.read() for _ in ids] == [Unsuback(packet_id, (NOTHING,)) for packet_id in ids]


def test_mqtt_3_10_4_6(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(*(broker.topic(rest) for rest in "abc"))
    codes = client.unsubscribe(*(broker.topic(rest) for rest in "axba"))
    assert codes == (ReasonCode.SUCCESS, NOTHING, ReasonCode.SUCCESS, NOTHING)
    for rest in "abc":
        client.publish(broker.topic(rest), rest.encode())
    assert payloads(client.remaining()) == [b"c"]


def test_mqtt_3_11_2_1(broker: Broker) -> None:
    for most in (40, 1000):
        client = broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: most})
        client.send(Unsubscribe(1, ("a/#/b",)))
        assert client.read() == Unsuback(1, (NOTHING,))


def test_mqtt_3_11_2_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0xA2, b"\0\1", section(b"\x26" + text("a") + text("b")), text("t")))
    unsuback = client.read()
    assert isinstance(unsuback, Unsuback)
    assert unsuback.properties == {}


def test_mqtt_3_11_3_1(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(broker.topic("b"), broker.topic("d"))
    codes = client.unsubscribe(*(broker.topic(rest) for rest in "abcd"))
    assert codes == (NOTHING, ReasonCode.SUCCESS, NOTHING, ReasonCode.SUCCESS)


def test_mqtt_3_11_3_2(broker: Broker) -> None:
    client = broker.connect()
    codes = client.unsubscribe("a/#/b", "$x", "$share/g", "+", "$share//x", "/" * 100)
    assert REASON_CODES[PacketType.UNSUBACK].issuperset(codes)
