"""What can be seen of the broker with paho-mqtt only, because it lets one hold back or shape single packets."""

from __future__ import annotations

import time
from collections.abc import Callable

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho_client import PahoClient

from mqtt_client import LastWill, MqttClient, Route, payloads
from server import ADMIN_TOKEN, Server, wait_until

Connect = Callable[..., MqttClient]

V5 = Route(5)


def test_no_more_is_in_flight_than_the_client_takes(connect: Connect, prefix: str) -> None:
    """QoS 0 messages do not wait for acknowledgements, so the last of them shows what was held back."""
    slow = connect(route=V5, manual_ack=True, properties={"receiveMaximum": 3})
    assert isinstance(slow, PahoClient)
    mids: list[int] = []
    hear = slow.library.on_message

    def note(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        if message.qos:
            mids.append(message.mid)
        assert hear is not None
        hear(client, data, message)

    slow.library.on_message = note
    slow.subscribe(prefix, 1)
    publisher = connect()
    publisher.publish_all(prefix, [str(n) for n in range(10)], 1)
    publisher.publish(prefix, "mark", 0)
    assert payloads(slow.receive_until("mark")) == ["0", "1", "2"]
    slow.library.ack(mids[0], 1)
    assert payloads(slow.receive()) == ["3"]
    publisher.publish(prefix, "mark", 0)
    assert slow.receive_until("mark") == []
    for expected in range(4, 10):
        slow.library.ack(mids[expected - 3], 1)
        assert payloads(slow.receive()) == [str(expected)]


def test_unacknowledged_messages_come_again_with_their_old_order(connect: Connect, prefix: str) -> None:
    client = connect(clean=False, manual_ack=True)
    client.subscribe(prefix, 1)
    connect().publish_all(prefix, [str(n) for n in range(30)], 1)
    assert payloads(client.receive(20)) == [str(n) for n in range(20)]
    client.vanish()
    assert client.connect().session_present
    assert payloads(client.receive(20)) == [str(n) for n in range(20)]
    client.vanish()


def test_topic_aliases_from_the_client(connect: Connect, prefix: str) -> None:
    client = connect(route=V5)
    client.subscribe(f"{prefix}/#", 1)
    client.publish(f"{prefix}/a", "1", 1, topicAlias=1)
    client.publish(f"{prefix}/b", "2", 0, topicAlias=20)
    client.publish("", "3", 1, topicAlias=1)
    client.publish("", "4", 2, topicAlias=20)
    client.publish(f"{prefix}/c", "5", 1, topicAlias=1)
    client.publish("", "6", 1, topicAlias=1)
    heard = [(message.topic.rpartition("/")[2], message.payload.decode()) for message in client.receive(6)]
    assert heard == [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("c", "5"), ("c", "6")]


def test_topic_aliases_from_the_server(connect: Connect, prefix: str) -> None:
    client = connect(route=V5, properties={"topicAliasMaximum": 2})
    client.subscribe(f"{prefix}/#", 1)
    aliases: dict[int, str] = {}
    heard = []
    for n in range(12):
        client.publish(f"{prefix}/{n % 3}", str(n), 1)
        (message,) = client.receive()
        alias = message.properties.get("topicAlias")
        assert alias is None or 1 <= alias <= 2
        if message.topic and alias:
            aliases[alias] = message.topic
        heard.append(message.topic or aliases[alias])
    assert heard == [f"{prefix}/{n % 3}" for n in range(12)]
    assert aliases


@pytest.mark.parametrize(("alias", "code"), [(21, 0x94), (5, 0x82)], ids=["above the maximum", "never defined"])
def test_an_alias_that_cannot_be(connect: Connect, prefix: str, alias: int, code: int) -> None:
    client = connect(route=V5)
    assert isinstance(client, PahoClient)
    made = client._properties(3, {"topicAlias": alias})
    client.library.publish(prefix if alias > 20 else "", "x", 0, properties=made)
    assert client.wait_end() == code


@pytest.mark.parametrize("level", [3, 4, 5])
def test_a_client_that_falls_silent(server: Server, connect: Connect, prefix: str, level: int) -> None:
    """No loop, no ping: after one and a half times its keep alive it is gone, and its will goes out."""
    listener = connect()
    listener.subscribe(prefix, 1)
    silent = paho.Client(CallbackAPIVersion.VERSION2, f"{prefix}-silent", protocol=level)
    silent.username_pw_set("any", ADMIN_TOKEN)
    silent.will_set(prefix, "Offline", 1)
    silent.connect("127.0.0.1", server.mqtt_port, keepalive=1)
    wait_until(lambda: silent.loop(0.01) != MQTTErrorCode.MQTT_ERR_SUCCESS or silent.is_connected(), what="CONNACK")
    since_s = time.monotonic()
    assert payloads(listener.receive()) == ["Offline"]
    assert 1.3 < time.monotonic() - since_s < 5
    wait_until(lambda: silent.loop(0.01) != MQTTErrorCode.MQTT_ERR_SUCCESS, what="the end of the connection")


def test_a_will_is_not_delayed_where_the_session_ends_with_the_connection(connect: Connect, prefix: str) -> None:
    listener = connect()
    listener.subscribe(prefix, 1)
    connect(route=V5, will=LastWill(prefix, "Offline", 1, delay_s=1000)).vanish()
    assert payloads(listener.receive()) == ["Offline"]
