"""MQTT 3.1.1, section 4.7: topic names and topic filters."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Publish

from .client import payloads
from .conftest import Broker
from .exchanges import watch
from .packets import frame, text


def check_filter_closes(broker: Broker, topic_filter: str) -> None:
    client = broker.connect()
    client.send(frame(0x82, b"\0\1", text(topic_filter), b"\0"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("topic", ["#", "+", "a/+/b", "a/#", "a+b", "a#"])
def test_mqtt_4_7_1_1(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(Publish(topic, b"m"))
    assert client.expect_closed() == []


@pytest.mark.parametrize("topic_filter", ["a#", "#a", "a/#/b", "#/a", "##", "a/b#", "a/##", "#/", "+#"])
def test_mqtt_4_7_1_2(broker: Broker, topic_filter: str) -> None:
    check_filter_closes(broker, topic_filter)


def test_mqtt_4_7_1_2_matches_the_parent_and_all_below(broker: Broker) -> None:
    subscriber, publisher = watch(broker, "a/#"), broker.connect()
    for rest in ("a", "a/", "a/b", "a/b/c", "ab", "A/b", "b/a"):
        publisher.publish(broker.topic(rest), rest.encode(), 1)
    assert payloads(subscriber.remaining()) == [b"a", b"a/", b"a/b", b"a/b/c"]


def test_mqtt_4_7_1_2_alone(broker: Broker) -> None:
    subscriber = broker.connect()
    assert subscriber.subscribe("#", qos=1) == (1,)
    broker.connect().publish(broker.topic(), b"m", 1)
    message = subscriber.take()
    while message.topic != broker.topic():
        message = subscriber.take()
    assert message.payload == b"m"


@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+", "a/+b/c", "++", "a/++"])
def test_mqtt_4_7_1_3(broker: Broker, topic_filter: str) -> None:
    check_filter_closes(broker, topic_filter)


@pytest.mark.parametrize(
    ("rest", "matched"),
    [
        ("+", [b"a", b""]),
        ("a/+", [b"a/b", b"a/"]),
        ("+/b", [b"a/b", b"/b"]),
        ("+/+", [b"a/b", b"a/", b"/b"]),
        ("+/b/+", [b"a/b/c"]),
        ("+/#", [b"a", b"a/b", b"a/b/c", b"a/", b"/b", b""]),
    ],
)
def test_mqtt_4_7_1_3_matches_one_level(broker: Broker, rest: str, matched: list[bytes]) -> None:
    subscriber, publisher = watch(broker, rest), broker.connect()
    for name in ("a", "a/b", "a/b/c", "a/", "/b", ""):
        publisher.publish(broker.topic(name), name.encode(), 1)
    assert payloads(subscriber.remaining()) == matched


def test_mqtt_4_7_1_3_at_the_first_level(broker: Broker) -> None:
    subscriber = broker.connect()
    subscriber.subscribe("+/" + broker.name, "/" + broker.name)
    publisher = broker.connect()
    for first in ("", "a"):
        publisher.publish(f"{first}/{broker.name}", first.encode(), 1)
    assert payloads(subscriber.remaining()) == [b"", b"a"]


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/broker/#", "+/+/+"])
def test_mqtt_4_7_2_1(broker: Broker, topic_filter: str) -> None:
    """The broker publishes below $SYS itself, and keeps it retained: none of it comes."""
    client = broker.connect()
    assert client.subscribe(topic_filter, qos=0) == (0,)
    client.publish("$" + broker.name, b"m", 1)
    assert not [message for message in client.remaining() if message.topic.startswith("$")]


def test_mqtt_4_7_3_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish("", b"m"))
    assert client.expect_closed() == []


def test_mqtt_4_7_3_1_of_a_filter(broker: Broker) -> None:
    check_filter_closes(broker, "")


@pytest.mark.parametrize("topic", ["\0", "a\0", "\0b", "a/\0/b"])
def test_mqtt_4_7_3_2(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(Publish(topic, b"m"))
    assert client.expect_closed() == []
    check_filter_closes(broker, topic)


@pytest.mark.parametrize("topic", ["x" * 65_535, "x" * 1025, "ä" * 513])
def test_mqtt_4_7_3_3(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(Publish(topic, b"m"))
    assert client.expect_closed() == []


def test_mqtt_4_7_3_3_up_to_the_limit(broker: Broker) -> None:
    client = broker.connect()
    topic = broker.topic()
    topic += "x" * (1024 - len(topic))
    assert client.subscribe(topic, topic + "x", qos=1) == (1, 0x80)
    client.publish(topic, b"m", 1)
    assert client.take().topic == topic


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ("a", "A"),
        ("\u00e9", "e\u0301"),
        ("a", "a "),
        ("a/b", "a//b"),
        ("a", "a/"),
        ("\uff41", "a"),
        ("a/./b", "a/b"),
        ("%41", "A"),
        ("\u212b", "\u00c5"),
    ],
    ids=["case", "composed", "space", "empty level", "last separator", "wide", "dot", "percent", "sign"],
)
def test_mqtt_4_7_3_4(broker: Broker, wanted: str, other: str) -> None:
    subscriber, publisher = watch(broker, wanted), broker.connect()
    publisher.publish(broker.topic(other), b"other", 1)
    publisher.publish(broker.topic(wanted), b"wanted", 1)
    assert payloads(subscriber.remaining()) == [b"wanted"]
    subscriber = watch(broker, other)
    publisher.publish(broker.topic(wanted), b"wanted", 1)
    assert subscriber.remaining() == []
