"""The behaviours of MQTT 3.1.1 by which interoperability of brokers is commonly judged, each as one short story."""

from __future__ import annotations

import time

import pytest

from headwater.mqtt.packets import Publish

from .client import payloads
from .conftest import Broker
from .exchanges import will_of


def test_connect_subscribe_publish_disconnect(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id).disconnect()
    client = broker.connect(client_id)
    assert client.subscribe(broker.topic(), qos=2) == (2,)
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"%d" % qos, qos)
    messages = [client.take() for _ in range(3)]
    assert [(message.payload, message.qos) for message in messages] == [(b"0", 0), (b"1", 1), (b"2", 2)]
    client.disconnect()


def test_a_second_connect_ends_the_connection(broker: Broker) -> None:
    client = broker.connect()
    client.send(broker.connect_packet())
    assert client.expect_closed() == []


def test_a_wrong_protocol_name_ends_the_connection(broker: Broker) -> None:
    client = broker.open()
    client.send(b"\x10\x0e\x00\x02hj\x04\x02\x00\x00\x00\x04name")
    assert client.expect_closed() == []


def test_retained_messages_come_until_they_are_cleared(broker: Broker) -> None:
    publisher = broker.connect()
    topics = [broker.topic(rest) for rest in ("qos 0", "qos 1", "qos 2")]
    for qos, topic in enumerate(topics):
        publisher.publish(topic, b"kept", qos, retain=True)
    subscriber = broker.connect()
    subscriber.subscribe(broker.topic("+"), qos=2)
    messages = sorted(subscriber.remaining(), key=lambda message: message.topic)
    assert [(m.topic, m.qos, m.retain) for m in messages] == [(topic, qos, True) for qos, topic in enumerate(topics)]
    for qos, topic in enumerate(topics):
        publisher.publish(topic, b"", qos, retain=True)
    subscriber = broker.connect()
    subscriber.subscribe(broker.topic("+"), qos=2)
    assert subscriber.remaining() == []


def test_messages_wait_for_a_client_that_is_away(broker: Broker) -> None:
    """Those of QoS 1 and 2; those of QoS 0 are not kept."""
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic("#"), qos=2)
    client.disconnect()
    publisher = broker.connect()
    for qos in (0, 1, 2):
        publisher.publish(broker.topic(f"t{qos}"), b"%d" % qos, qos)
    client = broker.resume(client_id)
    assert payloads(client.take() for _ in range(2)) == [b"1", b"2"]
    assert client.remaining() == []


@pytest.mark.parametrize("is_lasting", [False, True])
def test_a_will_is_published_when_the_connection_breaks(broker: Broker, is_lasting: bool) -> None:
    subscriber = broker.connect(clean_session=not is_lasting)
    subscriber.subscribe(broker.topic("will"), qos=2)
    broker.connect(will=will_of(broker), keep_alive_s=2).drop()
    assert subscriber.take().payload == b"will"
    assert subscriber.remaining() == []


def test_overlapping_subscriptions_give_one_message_with_the_highest_qos(broker: Broker) -> None:
    client = broker.connect()
    assert [*client.subscribe(broker.topic("#"), qos=2), *client.subscribe(broker.topic("+"), qos=1)] == [2, 1]
    client.publish(broker.topic(), b"m", 2)
    assert [message.qos for message in client.remaining()] == [2]


def test_a_silent_client_is_disconnected_and_its_will_published(broker: Broker) -> None:
    subscriber = broker.connect()
    subscriber.subscribe(broker.topic("will"), qos=2)
    since_s = time.monotonic()
    broker.connect(will=will_of(broker, b"keep alive"), keep_alive_s=2)
    assert subscriber.take().payload == b"keep alive"
    assert 2.9 < time.monotonic() - since_s < 8


def test_what_was_not_acknowledged_is_sent_again(broker: Broker) -> None:
    """The client reads nothing between its messages and the end of the connection."""
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic("#"), qos=2)
    client.send(Publish(broker.topic("a"), b"one", 1, 2), Publish(broker.topic("b"), b"two", 2, 3))
    client.ping()
    client.disconnect()
    client = broker.resume(client_id)
    assert payloads(client.take() for _ in range(2)) == [b"one", b"two"]
    assert client.remaining() == []


def test_an_empty_client_id_needs_a_clean_session(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet("", clean_session=False))
    assert client.read_frame() == b"\x20\x02\x00\x02"
    assert client.expect_closed() == []
    broker.connect("", clean_session=True).disconnect()


def test_a_subscription_that_is_not_allowed_fails(broker: Broker) -> None:
    assert broker.connect().subscribe("$SYS/#", qos=2) == (0x80,)


def test_wildcards_at_the_start_do_not_match_dollar_topics(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe("+/" + broker.name, "#", qos=2)
    client.publish(f"$name/{broker.name}", b"m", 1)
    assert not [message for message in client.remaining() if message.topic.startswith("$")]
