"""MQTT 5.0, sections 3.1.2.10 and 3.1.2.11: keep alive, and what the properties of CONNECT ask of the server."""

from __future__ import annotations

import time

import pytest

from headwater.mqtt.packets import PropertyId, Publish, Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client, Closed, payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, sign_in, watch, will_of
from .packets import LASTING, raw_subscribe, text


def test_mqtt_3_1_2_22(broker: Broker) -> None:
    watcher = watch(broker, "will")
    began_s = time.monotonic()
    client = broker.connect(keep_alive_s=1, will=will_of(broker))
    explain_end(client, ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert time.monotonic() - began_s >= 1.4
    assert watcher.take().payload == b"will"


def test_mqtt_3_1_2_22_counts_what_is_received(broker: Broker) -> None:
    """Of two clients, the one that goes on sending stays when the other is closed."""
    silent = broker.connect(keep_alive_s=1)
    active = broker.connect(keep_alive_s=1)
    silent.socket.settimeout(0.1)
    for _ in range(100):
        active.ping()
        try:
            silent.read()
            break
        except TimeoutError:
            continue
    with pytest.raises(Closed):
        silent.read()
    active.ping()


def test_mqtt_3_1_2_23(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=2)
    client.drop()
    broker.connect().publish(broker.topic(), b"kept", 2)
    assert broker.resume(client_id).take().payload == b"kept"


@pytest.mark.parametrize("properties", [{}, {PropertyId.SESSION_EXPIRY_INTERVAL: 0}], ids=["absent", "0"])
def test_mqtt_3_1_2_23_without_an_interval(broker: Broker, properties: dict[PropertyId, int]) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, properties=properties).disconnect()
    assert not sign_in(broker, client_id, clean_session=False)[1].session_present


def test_mqtt_3_1_2_23_above_the_cap(broker: Broker) -> None:
    _, connack = sign_in(broker, properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0xFFFF_FFFF})
    assert connack.properties[PropertyId.SESSION_EXPIRY_INTERVAL] == 604_800
    _, connack = sign_in(broker, properties=LASTING)
    assert PropertyId.SESSION_EXPIRY_INTERVAL not in connack.properties


def _connect_limited(broker: Broker, most: int) -> Client:
    return broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: most})


def _frames(client: Client) -> list[bytes]:
    """What comes until the connection ends."""
    frames = []
    try:
        while True:
            frames.append(client.read_frame())
    except Closed:
        return frames


def test_mqtt_3_1_2_24(broker: Broker) -> None:
    most = 40
    client = _connect_limited(broker, most)
    client.subscribe(broker.topic("#"), qos=1)
    publisher = broker.connect()
    for length in range(0, 40, 3):
        publisher.publish(broker.topic(), b"x" * length, length % 2)
    client.send(Publish("$SYS/forbidden", b"", 1, 77), b"\x00\x00")
    frames = _frames(client)
    assert frames
    assert max(map(len, frames)) <= most


@pytest.mark.parametrize("packet", [Subscribe, Unsubscribe])
def test_mqtt_3_1_2_24_of_answers_to_many_filters(broker: Broker, packet: type) -> None:
    client = _connect_limited(broker, 40)
    filters = [broker.topic(str(number)) for number in range(50)]
    if packet is Subscribe:
        client.send(Subscribe(1, tuple(Subscription(topic_filter, 0) for topic_filter in filters)))
    else:
        client.send(Unsubscribe(1, tuple(filters)))
    *_, last = frames = _frames(client)
    assert max(map(len, frames)) <= 40
    assert last[0] == 0xE0
    assert last[2] == ReasonCode.PACKET_TOO_LARGE


def test_mqtt_3_1_2_24_smaller_than_connack(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(properties={PropertyId.MAXIMUM_PACKET_SIZE: 2}))
    assert client.expect_closed() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_25(broker: Broker, qos: int) -> None:
    small, large = _connect_limited(broker, 200), broker.connect()
    publisher = broker.connect()
    for client in (small, large):
        client.subscribe(broker.topic(), qos=qos)
    for payload in (b"before", b"x" * 200, b"after"):
        publisher.publish(broker.topic(), payload, qos)
    assert [small.take().payload, small.take().payload] == [b"before", b"after"]
    assert [large.take().payload for _ in range(3)] == [b"before", b"x" * 200, b"after"]


def test_mqtt_3_1_2_25_does_not_use_up_the_window(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: 200, PropertyId.RECEIVE_MAXIMUM: 1})
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for _ in range(5):
        publisher.publish(broker.topic(), b"x" * 200, 1)
    publisher.publish(broker.topic(), b"small", 1)
    assert payloads(client.remaining()) == [b"small"]


def test_mqtt_3_1_2_25_of_queued_messages(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    publisher = broker.connect()
    for payload in (b"x" * 300, b"small"):
        publisher.publish(broker.topic(), payload, 1)
    client = broker.resume(client_id, properties=LASTING | {PropertyId.MAXIMUM_PACKET_SIZE: 200})
    assert payloads(client.remaining()) == [b"small"]
    client.drop()
    assert payloads(broker.resume(client_id).remaining()) == [b"small"], "the large one counts as sent"


def test_mqtt_3_1_2_26(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 2})
    client.subscribe(broker.topic("#"))
    publisher = broker.connect()
    for _ in range(2):
        for number in range(5):
            publisher.publish(broker.topic(str(number)), b"%d" % number)
    topics: dict[int, str] = {}
    for number in [*range(5)] * 2:
        message = client.message()
        alias = message.properties.get(PropertyId.TOPIC_ALIAS)
        assert alias is None or 1 <= alias <= 2
        if alias is not None and message.topic:
            topics[alias] = message.topic
        assert (message.topic or topics[alias or 0]) == broker.topic(str(number))
    assert len(topics) == 2


@pytest.mark.parametrize("properties", [{}, {PropertyId.TOPIC_ALIAS_MAXIMUM: 0}], ids=["absent", "0"])
def test_mqtt_3_1_2_27(broker: Broker, properties: dict[PropertyId, int]) -> None:
    client = broker.connect(properties=properties)
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for qos in (0, 1, 2):
        publisher.publish(broker.topic(), b"m", qos, properties={PropertyId.TOPIC_ALIAS: 1})
        message = client.take()
        assert message.topic == broker.topic()
        assert PropertyId.TOPIC_ALIAS not in message.properties


@pytest.mark.parametrize("asked", [{}, {PropertyId.REQUEST_RESPONSE_INFORMATION: 0}], ids=["absent", "0"])
def test_mqtt_3_1_2_28(broker: Broker, asked: dict[PropertyId, int]) -> None:
    assert PropertyId.RESPONSE_INFORMATION not in sign_in(broker, properties=asked)[1].properties


def test_mqtt_3_1_2_29(broker: Broker) -> None:
    silent = {PropertyId.REQUEST_PROBLEM_INFORMATION: 0}
    client = broker.connect(properties=silent)
    for qos in (1, 2):
        answer = answer_to(client, "$SYS/forbidden", qos)
        assert answer.reason_code == ReasonCode.NOT_AUTHORIZED
        assert answer.properties == {}
    client.send(raw_subscribe(text("a/#/b"), b"\0"))
    client.expect(Suback(1, (ReasonCode.TOPIC_FILTER_INVALID,)))
    client.send(Unsubscribe(2, ("a/#/b",)))
    client.expect(Unsuback(2, (ReasonCode.NO_SUBSCRIPTION_EXISTED,)))
    chatty = broker.connect()
    assert PropertyId.REASON_STRING in answer_to(chatty, "$SYS/forbidden", 1).properties


def test_mqtt_3_1_2_29_still_has_user_properties_in_messages(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.REQUEST_PROBLEM_INFORMATION: 0})
    client.subscribe(broker.topic())
    properties = {PropertyId.USER_PROPERTY: (("a", "b"),)}
    client.publish(broker.topic(), properties=properties)
    assert client.message().properties == properties
