"""What MQTT.js does by itself and others do not: resolve the aliases that the server gives to topics."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_client import MqttClient, Route

Connect = Callable[..., MqttClient]


@pytest.mark.parametrize("transport", ["tcp", "wss"])
def test_topic_aliases_from_the_server(connect: Connect, prefix: str, transport: str) -> None:
    client = connect("mqtt.js", route=Route(5, transport), properties={"topicAliasMaximum": 2})
    client.subscribe(f"{prefix}/#", 1)
    for n in range(30):
        client.publish(f"{prefix}/{n % 5}", str(n), n % 3)
    messages = client.receive(30)
    assert {(message.topic, message.payload) for message in messages} == {
        (f"{prefix}/{n % 5}", str(n).encode()) for n in range(30)
    }
    assert any("topicAlias" in message.properties for message in messages)
