"""MQTT 5.0, section 4.7: topic names and topic filters."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.mqtt.packets import Publish, Will
from headwater.mqtt.reason_codes import ReasonCode
from server import ADMIN_TOKEN

from .client import payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, watch
from .packets import frame, raw_publish, raw_subscribe, text

MATCHES = {
    "a/#": ["a", "a/", "a/b", "a/b/c"],
    "a/+": ["a/", "a/b"],
    "+/b": ["a/b", "/b"],
    "+": ["a", "A"],
    "+/+": ["a/", "a/b", "/b"],
    "+/+/#": ["a/", "a/b", "a/b/c", "/b"],
    "/+": ["/b"],
    "#": ["a", "A", "a/", "a/b", "a/b/c", "/b"],
}
"""Of the topics a, A, a/, a/b, a/b/c and /b (below the test's own), those that a filter matches."""


@pytest.mark.parametrize("topic_filter", MATCHES)
def test_mqtt_4_7_0_1(broker: Broker, topic_filter: str) -> None:
    subscriber, publisher = watch(broker, topic_filter), broker.connect()
    for topic in MATCHES["#"]:
        publisher.publish(broker.topic(topic), b"m")
    prefix = broker.topic("")
    assert [message.topic.removeprefix(prefix) for message in subscriber.remaining()] == MATCHES[topic_filter]


@pytest.mark.parametrize("topic_filter", MATCHES)
def test_mqtt_4_7_0_1_for_retained_messages(broker: Broker, topic_filter: str) -> None:
    publisher, prefix = broker.connect(), broker.topic("")
    for topic in MATCHES["#"]:
        publisher.publish(broker.topic(topic), b"m", 1, retain=True)
    found = {message.topic.removeprefix(prefix) for message in watch(broker, topic_filter).remaining()}
    assert found == set(MATCHES[topic_filter])


@pytest.mark.parametrize("topic", ["a/+", "a/#", "+", "#", "a+", "#a"])
def test_mqtt_4_7_0_1_not_in_names(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.send(raw_publish(topic, b"m"))
    explain_end(client, ReasonCode.MALFORMED_PACKET, ReasonCode.TOPIC_NAME_INVALID)


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "#a", "#/a", "##", "a/b#", "#/#", "+#"])
def test_mqtt_4_7_1_1(broker: Broker, topic_filter: str) -> None:
    client = broker.connect()
    for prefix in ("", "$share/g/"):
        assert client.subscribe(prefix + topic_filter) == (ReasonCode.TOPIC_FILTER_INVALID,)
    client.ping()


@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+/c", "a/+b", "++", "a/++"])
def test_mqtt_4_7_1_2(broker: Broker, topic_filter: str) -> None:
    client = broker.connect()
    for prefix in ("", "$share/g/"):
        assert client.subscribe(prefix + topic_filter) == (ReasonCode.TOPIC_FILTER_INVALID,)
    client.ping()


def test_mqtt_4_7_2_1(broker: Broker) -> None:
    """An administrator may read `$SYS`, so there is something that must not be matched."""
    administrator: dict[str, Any] = {"username": "any", "password": ADMIN_TOKEN.encode()}
    client = broker.connect(**administrator)
    assert client.subscribe("$SYS/#") == (0,)
    topic = client.message().topic
    assert topic.startswith("$SYS/")
    client = broker.connect(**administrator)
    levels = topic.split("/")
    for topic_filter in ("#", "+/#", "/".join(["+", *levels[1:]]), "/".join("+" * len(levels))):
        assert client.subscribe(topic_filter) == (0,)
    assert client.remaining() == []
    assert client.subscribe(topic) == (0,)
    assert client.message().topic == topic


@pytest.mark.parametrize("topic", ["$SYS/x", "$x", "$", "$share/g/t"])
def test_mqtt_4_7_2_1_and_nobody_publishes_there(broker: Broker, topic: str) -> None:
    client = broker.connect()
    client.subscribe("+/x")
    assert answer_to(client, topic, 1, retain=True).reason_code == ReasonCode.NOT_AUTHORIZED
    client.send(Publish(topic, b"m"))
    assert [message for message in client.remaining() if message.topic.startswith("$")] == []
    will = broker.open()
    will.send(broker.connect_packet(will=Will(topic, b"w", 0, False)))
    assert will.read_frame()[3] == ReasonCode.TOPIC_NAME_INVALID


def test_mqtt_4_7_2_1_but_a_dollar_elsewhere_is_nothing_special(broker: Broker) -> None:
    subscriber = watch(broker, "+/$x")
    broker.connect().publish(broker.topic("$a/$x"), b"m")
    assert payloads(subscriber.remaining()) == [b"m"]


def test_mqtt_4_7_3_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(""))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
    for packet in (
        raw_subscribe(text(""), b"\0"),
        raw_subscribe(text(broker.topic()), b"\0", text(""), b"\0"),
        frame(0xA2, b"\0\1\0", text("")),
    ):
        client = broker.connect()
        client.send(packet)
        explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_4_7_3_1_with_a_will(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(will=Will("", b"", 0, False)))
    assert client.expect_closed() == []


def test_mqtt_4_7_3_2(broker: Broker) -> None:
    for packet in (raw_publish("\0"), raw_publish("a/\0/b"), raw_subscribe(text("a/\0"), b"\0")):
        client = broker.connect()
        client.send(packet)
        explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_4_7_3_3(broker: Broker) -> None:
    """The length field of a string cannot say more; fewer are accepted."""
    client = broker.connect()
    longest = broker.topic("").ljust(1024, "x")
    assert client.subscribe(longest) == (0,)
    client.publish(longest, b"m")
    assert payloads(client.remaining()) == [b"m"]
    for topic_filter in (longest + "x", "x" * 65_000):
        assert client.subscribe(topic_filter) == (ReasonCode.TOPIC_FILTER_INVALID,)
    for topic in (longest + "x", "x" * 65_535):
        client = broker.connect()
        client.send(raw_publish(topic))
        explain_end(client, ReasonCode.TOPIC_NAME_INVALID)


@pytest.mark.parametrize("topic", ["/", "//", "/" * 31])
def test_mqtt_4_7_3_3_of_many_levels(broker: Broker, topic: str) -> None:
    subscriber = watch(broker, topic[:30])
    broker.connect().publish(broker.topic(topic[:30]), b"m", 1)
    assert payloads(subscriber.remaining()) == [b"m"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Accounts", "ACCOUNTS"),
        ("é", "e\u0301"),
        ("a", "/a"),
        ("a", "a/"),
        ("a/b", "a//b"),
        ("ﬁ", "fi"),
        ("a b", "a  b"),
    ],
)
def test_mqtt_4_7_3_4(broker: Broker, one: str, other: str) -> None:
    first, second, publisher = watch(broker, one), watch(broker, other), broker.connect()
    publisher.publish(broker.topic(one), b"one", 1, retain=True)
    publisher.publish(broker.topic(other), b"other", 1, retain=True)
    assert [(m.topic, m.payload) for m in first.remaining()] == [(broker.topic(one), b"one")]
    assert [(m.topic, m.payload) for m in second.remaining()] == [(broker.topic(other), b"other")]
    assert payloads(watch(broker, other).remaining()) == [b"other"]
