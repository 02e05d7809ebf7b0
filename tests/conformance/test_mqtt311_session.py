"""MQTT 3.1.1: what a session keeps, when it ends, and what is sent again (3.1.2.4, 4.1, 4.4, 4.5, 4.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.mqtt.packets import Connect, Publish
from server import running_server

from .client import Client, payloads
from .conftest import Broker
from .exchanges import answer_to, watch
from .packets import puback, pubcomp, pubrec, pubrel


def away(broker: Broker, client_id: str, qos: int = 2, rest: str = "t") -> None:
    """Make a session with one subscription whose client is not here."""
    client = broker.connect(client_id, clean_session=False)
    assert client.subscribe(broker.topic(rest), qos=qos) == (qos,)
    client.disconnect()


def test_mqtt_3_1_2_4(broker: Broker) -> None:
    """The subscription is there without being made again."""
    client_id = broker.client_id()
    away(broker, client_id)
    client = broker.resume(client_id)
    client.publish(broker.topic(), b"m")
    assert client.message().payload == b"m"


def test_mqtt_3_1_2_4_after_the_network_failed(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=1)
    client.drop()
    client = broker.resume(client_id)
    client.publish(broker.topic(), b"m")
    assert client.message().payload == b"m"


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_1_2_5(broker: Broker, qos: int) -> None:
    client_id = broker.client_id()
    away(broker, client_id, qos)
    publisher = broker.connect()
    for number in range(50):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    client = broker.resume(client_id)
    messages = [client.take() for _ in range(50)]
    assert payloads(messages) == [b"%d" % number for number in range(50)]
    assert {(message.qos, message.dup, message.retain) for message in messages} == {(qos, False, False)}


def test_mqtt_3_1_2_5_but_not_qos_0(broker: Broker) -> None:
    client_id = broker.client_id()
    away(broker, client_id)
    broker.connect().publish(broker.topic(), b"m")
    assert broker.resume(client_id).remaining() == []


def test_mqtt_3_1_2_6(broker: Broker) -> None:
    """Neither subscriptions nor messages of the old session come back, now or later."""
    client_id = broker.client_id()
    away(broker, client_id)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"waiting", 1)
    client = broker.connect(client_id, clean_session=True)
    publisher.publish(broker.topic(), b"new", 1)
    assert client.remaining() == []
    client.disconnect()
    client = broker.open()
    assert not client.sign_in(broker.connect_packet(client_id, clean_session=False)).session_present
    publisher.publish(broker.topic(), b"newer", 1)
    assert client.remaining() == []


def test_mqtt_3_1_2_6_ends_with_the_connection(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=True)
    client.subscribe(broker.topic(), qos=1)
    client.drop()
    broker.connect().publish(broker.topic(), b"m", 1)
    client = broker.connect(client_id, clean_session=False)
    assert client.remaining() == []


def test_mqtt_3_1_2_6_forgets_half_received_messages(broker: Broker) -> None:
    """The same identifier is a new message in the new session."""
    subscriber, client_id = watch(broker), broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    assert answer_to(client, broker.topic(), 2, b"old", packet_id=7) == pubrec(7)
    client.drop()
    client = broker.connect(client_id, clean_session=True)
    assert answer_to(client, broker.topic(), 2, b"new", packet_id=7) == pubrec(7)
    assert payloads(subscriber.take() for _ in range(2)) == [b"old", b"new"]


@pytest.mark.parametrize("clean_session", [True, False])
def test_mqtt_3_1_2_7(broker: Broker, clean_session: bool) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=clean_session)
    client.publish(broker.topic(), b"kept", 1, retain=True)
    client.disconnect()
    broker.connect(client_id, clean_session=True).disconnect()
    assert watch(broker, "t").take().payload == b"kept"


def test_mqtt_4_1_0_1(tmp_path: Path) -> None:
    """Subscriptions, messages on their way, identifiers of QoS 2: all survive the server."""
    anonymous = {"HEADWATER_MQTT_ALLOW_ANONYMOUS": "true"}
    connect = Connect("keeper", clean_session=False, keep_alive_s=0)
    with running_server(tmp_path / "data", **anonymous) as server:
        client, publisher = Client(server.mqtt_port), Client(server.mqtt_port)
        client.sign_in(connect)
        client.subscribe("t", qos=2)
        assert answer_to(client, "other", 2, packet_id=9) == pubrec(9)
        client.drop()
        publisher.sign_in(Connect("publisher"))
        publisher.publish("t", b"one", 1)
        publisher.publish("t", b"two", 2)
        publisher.close()
        server.kill()
    with running_server(tmp_path / "data", **anonymous) as server:
        client, watcher = Client(server.mqtt_port), Client(server.mqtt_port)
        watcher.sign_in(Connect("watcher"))
        watcher.subscribe("other")
        assert client.sign_in(connect).session_present
        assert payloads(client.take() for _ in range(2)) == [b"one", b"two"]
        assert answer_to(client, "other", 2, packet_id=9, dup=True) == pubrec(9)
        assert watcher.remaining() == []
        client.publish("t", b"three")
        assert client.message().payload == b"three"
        client.close()
        watcher.close()


def test_mqtt_4_1_0_2(broker: Broker) -> None:
    """A clean session is whole as long as its connection is there."""
    client = watch(broker, "t", 1)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"first", 1)
    first = client.message()
    for _ in range(3):
        client.ping()
        broker.check_alive()
    publisher.publish(broker.topic(), b"second", 1)
    assert client.message().payload == b"second"
    client.send(puback(first.packet_id))
    client.ping()


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_3_1_1(broker: Broker, qos: int) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    first = client.message()
    assert not first.dup
    client.drop()
    again = broker.resume(client_id).message()
    assert again == Publish(broker.topic(), b"m", qos, first.packet_id, dup=True)


def test_mqtt_3_3_1_1_not_for_what_was_never_sent(broker: Broker) -> None:
    client_id = broker.client_id()
    away(broker, client_id)
    broker.connect().publish(broker.topic(), b"m", 1)
    assert not broker.resume(client_id).message().dup


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_4_0_1(broker: Broker, qos: int) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    first = client.message()
    for _ in range(3):
        client.drop()
        client = broker.resume(client_id)
        again = client.message()
        assert (again.packet_id, again.dup, again.payload) == (first.packet_id, True, b"m")
    client.complete(again)
    client.drop()
    assert broker.resume(client_id).remaining() == []


def test_mqtt_4_4_0_1_of_pubrel(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=2)
    broker.connect().publish(broker.topic(), b"m", 2)
    packet_id = client.message().packet_id
    client.send(pubrec(packet_id))
    client.expect(pubrel(packet_id))
    client.drop()
    client = broker.resume(client_id)
    assert client.read() == pubrel(packet_id)
    client.send(pubcomp(packet_id))
    client.ping()
    client.drop()
    assert broker.resume(client_id).remaining() == []


def test_mqtt_4_5_0_1(broker: Broker) -> None:
    """Of those here and those away, each gets it for the subscription that it has."""
    away_id = broker.client_id()
    away(broker, away_id, 1, "+")
    exact, wide, other = watch(broker, "t"), watch(broker, "#", 1), watch(broker, "other")
    broker.connect().publish(broker.topic(), b"m", 2)
    assert [exact.take().qos, wide.take().qos, broker.resume(away_id).take().qos] == [2, 1, 1]
    assert other.remaining() == []


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_6_0_1(broker: Broker, qos: int) -> None:
    """In their first order, and before what is new."""
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=qos)
    publisher = broker.connect()
    for number in range(8):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    held = [client.message() for _ in range(8)]
    client.complete(held[2])
    client.ping()
    client.drop()
    for number in (8, 9):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    client = broker.resume(client_id)
    again = [client.message() for _ in range(9)]
    assert payloads(again) == [b"0", b"1", b"3", b"4", b"5", b"6", b"7", b"8", b"9"]
    assert all(message.dup for message in again[:7]), "and of the others nobody knows whether they went out before"


def test_mqtt_4_6_0_2(broker: Broker) -> None:
    client = broker.connect()
    watch(broker)
    ids = [5, 3, 9, 1, 65_535, 2]
    client.send(*(Publish(broker.topic(), b"m", 1, packet_id) for packet_id in ids))
    assert [client.read() for _ in ids] == [puback(packet_id) for packet_id in ids]


def test_mqtt_4_6_0_2_with_messages_that_have_to_be_stored(broker: Broker) -> None:
    """Some wait for the disk because a session is owed them, and some do not."""
    away(broker, broker.client_id(), 1, "stored")
    client = broker.connect()
    topics = [broker.topic("stored" if number % 3 == 0 else "t") for number in range(30)]
    client.send(*(Publish(topic, b"m", 1, number) for number, topic in enumerate(topics, 1)))
    assert [client.read() for _ in topics] == [puback(number) for number in range(1, 31)]


def test_mqtt_4_6_0_3(broker: Broker) -> None:
    away(broker, broker.client_id(), 2, "stored")
    client = broker.connect()
    topics = [broker.topic("stored" if number % 3 == 0 else "t") for number in range(30)]
    client.send(*(Publish(topic, b"m", 2, number) for number, topic in enumerate(topics, 1)))
    assert [client.read() for _ in topics] == [pubrec(number) for number in range(1, 31)]


@pytest.mark.parametrize("clean_session", [True, False])
def test_mqtt_4_6_0_4(broker: Broker, clean_session: bool) -> None:
    """PUBREC comes in another order than PUBLISH was sent in: PUBREL follows PUBREC."""
    client = broker.connect(clean_session=clean_session)
    client.subscribe(broker.topic(), qos=2)
    publisher = broker.connect()
    for _ in range(6):
        publisher.publish(broker.topic(), b"m", 2)
    ids = [client.message().packet_id for _ in range(6)]
    ids = [*ids[3:], *reversed(ids[:3])]
    client.send(*(pubrec(packet_id) for packet_id in ids))
    assert [client.read() for _ in ids] == [pubrel(packet_id) for packet_id in ids]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_5(broker: Broker, qos: int) -> None:
    """Any topic, without being asked for."""
    subscribers = [watch(broker, f"{rest}/+", qos) for rest in "ab"]
    publisher = broker.connect()
    for number in range(30):
        publisher.publish(broker.topic("ab"[number % 2] + f"/{number % 3}"), b"%d" % number, qos)
    for first, subscriber in enumerate(subscribers):
        assert payloads(subscriber.take() for _ in range(15)) == [b"%d" % number for number in range(first, 30, 2)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_6(broker: Broker, qos: int) -> None:
    """All at once, and more than fit into the window."""
    subscriber, publisher = watch(broker, "t", qos), broker.connect()
    numbers = range(1, 101)
    publisher.send(*(Publish(broker.topic(), b"%d" % n, qos, n if qos else None) for n in numbers))
    assert payloads(subscriber.take() for _ in numbers) == [b"%d" % n for n in numbers]


def test_mqtt_4_6_0_6_from_two_clients(broker: Broker) -> None:
    subscriber, publishers = watch(broker, "t", 1), [broker.connect() for _ in range(2)]
    numbers = range(1, 41)
    for name, publisher in zip((b"a", b"b"), publishers, strict=True):
        publisher.send(*(Publish(broker.topic(), b"%s%d" % (name, n), 1, n) for n in numbers))
    received = payloads(subscriber.take() for _ in range(80))
    for name in (b"a", b"b"):
        assert [payload for payload in received if payload.startswith(name)] == [b"%s%d" % (name, n) for n in numbers]
