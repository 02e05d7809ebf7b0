"""MQTT 5.0, section 4.8: shared subscriptions."""

from __future__ import annotations

from collections import Counter

import pytest

from headwater.mqtt.packets import PropertyId, Subscribe, Subscription
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client, payloads
from .conftest import Broker
from .exchanges import explain_end
from .packets import LASTING, puback, pubrec


def _shared(broker: Broker, rest: str = "t", group: str = "g") -> str:
    return f"$share/{group}/{broker.topic(rest)}"


def _member(broker: Broker, qos: int = 2, rest: str = "t", group: str = "g") -> Client:
    client = broker.connect()
    assert client.subscribe(_shared(broker, rest, group), qos=qos) == (qos,)
    return client


@pytest.mark.parametrize("topic_filter", ["$share//t", "$share/", "$share//", "$share//#"])
def test_mqtt_4_8_2_1(broker: Broker, topic_filter: str) -> None:
    _spoil(broker, topic_filter)


def _spoil(broker: Broker, topic_filter: str) -> None:
    """A packet with this filter ends the connection, and nothing else in it takes effect."""
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.send(Subscribe(1, (Subscription(broker.topic(), 1), Subscription(topic_filter, 1))))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
    broker.connect().publish(broker.topic(), b"m", 1)
    assert broker.resume(client_id, properties=LASTING).remaining() == []


def test_mqtt_4_8_2_1_only_with_this_prefix(broker: Broker) -> None:
    """`$Share` and the like are topics like any other that begins with `$`: nobody may subscribe to them."""
    client = broker.connect()
    for topic_filter in ("$Share/g/t", "$shared/g/t", "$share"):
        assert client.subscribe(topic_filter) == (ReasonCode.UNSPECIFIED_ERROR,)
    client.subscribe(_shared(broker, group="x"))
    client.publish(broker.topic(), b"m")
    assert payloads(client.remaining()) == [b"m"]


@pytest.mark.parametrize(
    "topic_filter", ["$share/g", "$share/g/", "$share/+/t", "$share/a+/t", "$share/#/t", "$share/#"]
)
def test_mqtt_4_8_2_2(broker: Broker, topic_filter: str) -> None:
    _spoil(broker, topic_filter)


def test_mqtt_4_8_2_2_with_a_filter_of_its_own(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(f"$share/g/{broker.topic('+/b/#')}", qos=1)
    for rest in ("a/b", "a/b/c", "a/c"):
        client.publish(broker.topic(rest), rest.encode())
    assert payloads(client.remaining()) == [b"a/b", b"a/b/c"]


def test_mqtt_4_8_2_3(broker: Broker) -> None:
    members = [_member(broker, qos) for qos in (0, 1, 2)]
    publisher = broker.connect()
    for published in (0, 1, 2):
        for _ in range(3):
            publisher.publish(broker.topic(), b"%d" % published, published)
    received = [member.remaining() for member in members]
    assert Counter(payload for messages in received for payload in payloads(messages)) == {b"0": 3, b"1": 3, b"2": 3}
    for granted, messages in enumerate(received):
        assert messages
        for message in messages:
            assert message.qos == min(granted, int(message.payload))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_8_2_3_one_member_gets_a_message(broker: Broker, qos: int) -> None:
    members, publisher = [_member(broker) for _ in range(3)], broker.connect()
    others = _member(broker, group="another")
    alone = broker.connect()
    alone.subscribe(broker.topic())
    for number in range(12):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    expected = {b"%d" % number: 1 for number in range(12)}
    received = [payloads(member.remaining()) for member in members]
    assert Counter(payload for messages in received for payload in messages) == expected
    assert all(received), "everybody has a turn"
    assert Counter(payloads(others.remaining())) == Counter(payloads(alone.remaining())) == expected


def test_mqtt_4_8_2_3_beside_a_subscription_of_ones_own(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(Subscription(_shared(broker), 2), Subscription(broker.topic(), 0))
    client.publish(broker.topic(), b"m", 2)
    assert sorted(message.qos for message in client.remaining()) == [0, 2]


def test_mqtt_4_8_2_3_nothing_retained_comes(broker: Broker) -> None:
    broker.connect().publish(broker.topic(), b"kept", 1, retain=True)
    client = broker.connect()
    client.subscribe(Subscription(_shared(broker), 1, retain_handling=0))
    assert client.remaining() == []


def test_mqtt_4_8_2_3_of_members_that_leave(broker: Broker) -> None:
    stays, leaves, breaks_off = _member(broker), _member(broker), _member(broker)
    leaves.unsubscribe(_shared(broker))
    breaks_off.disconnect()
    publisher = broker.connect()
    for number in range(6):
        publisher.publish(broker.topic(), b"%d" % number, 1)
    assert len(stays.remaining()) == 6
    assert leaves.remaining() == []


def _lasting_member(broker: Broker, client_id: str) -> Client:
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(_shared(broker), qos=2)
    return client


def test_mqtt_4_8_2_4(broker: Broker) -> None:
    client_id = broker.client_id()
    client = _lasting_member(broker, client_id)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    other = _member(broker)
    client.drop()
    assert other.remaining() == []
    client = broker.resume(client_id, properties=LASTING)
    again = client.take()
    assert (again.payload, again.packet_id, again.dup) == (b"m", message.packet_id, True)
    assert other.remaining() == []


def test_mqtt_4_8_2_5(broker: Broker) -> None:
    client_id = broker.client_id()
    client = _lasting_member(broker, client_id)
    broker.connect().publish(broker.topic(), b"m", 2)
    client.message()
    other = _member(broker)
    client.drop()
    assert broker.connect(client_id).remaining() == []  # Clean Start 1: the session has ended
    assert other.remaining() == []


def test_mqtt_4_8_2_5_but_what_was_not_sent_goes_to_others(broker: Broker) -> None:
    slow = broker.connect(properties=LASTING | {PropertyId.RECEIVE_MAXIMUM: 1})
    publisher = broker.connect()
    slow.subscribe(_shared(broker), qos=2)
    for number in range(3):
        publisher.publish(broker.topic(), b"%d" % number, 2)
    assert payloads(slow.remaining()) == [b"0"]
    other = _member(broker)
    slow.drop()
    assert sorted([other.take().payload, other.take().payload]) == [b"1", b"2"]
    assert other.remaining() == []


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_8_2_6(broker: Broker, qos: int) -> None:
    client = _member(broker)
    broker.connect().publish(broker.topic(), b"m", qos)
    message = client.message()
    other = _member(broker)
    client.send((puback if qos == 1 else pubrec)(message.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    client.ping()
    assert client.remaining() == []
    client.drop()
    assert other.remaining() == []
