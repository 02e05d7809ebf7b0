"""ThingSpeak's topics with client libraries over TCP, TLS and WebSocket: with credentials of devices, and with keys."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mqtt_client import MqttClient, Route
from server import ADMIN_TOKEN, ChannelKeys, Credentials, Server, wait_until

Connect = Callable[..., MqttClient]

WAYS = [("paho", "tls"), ("paho", "ws"), ("mqtt.js", "tcp"), ("mqtt.js", "ws"), ("mqtt.js", "wss")]
NOBODY = Credentials("", "", "")


def entry_of(payload: bytes) -> dict[str, object]:
    """What is not null of an entry, and cannot be known beforehand."""
    found = {name: value for name, value in json.loads(payload).items() if value is not None}
    del found["created_at"]
    return found


@pytest.mark.parametrize(("library", "transport"), WAYS)
def test_a_device(server: Server, connect: Connect, prefix: str, library: str, transport: str) -> None:
    channel = server.create_channel()
    topic = f"channels/{channel.id}"
    listener = server.create_device(subscribe=[channel], name=f"{prefix}-listener")
    entries = connect(library, who=listener, route=Route(4, transport))
    assert entries.subscribe(f"{topic}/subscribe") == 0
    fields = connect(library, who=server.create_device(subscribe=[channel]), route=Route(4, transport))
    assert fields.subscribe(f"{topic}/subscribe/fields/+") == 0
    device = connect(library, who=server.create_device([channel]), route=Route(4, transport))
    device.publish(f"{topic}/publish", "field1=21.5&field8=a%26b&status=all+well")
    device.publish(f"{topic}/publish/fields/field2", "60")
    wait_until(lambda: len(server.feeds(channel)) == 2, what="both entries")
    first, second = entries.receive(2)
    assert entry_of(first.payload) == {
        **{"channel_id": channel.id, "entry_id": 1, "field1": "21.5", "field8": "a&b", "status": "all well"}
    }
    assert entry_of(second.payload) == {"channel_id": channel.id, "entry_id": 2, "field2": "60"}
    assert {(one.topic, one.payload) for one in fields.receive(3)} == {
        (f"{topic}/subscribe/fields/field1", b"21.5"),
        (f"{topic}/subscribe/fields/field8", b"a&b"),
        (f"{topic}/subscribe/fields/field2", b"60"),
    }


@pytest.mark.parametrize(("library", "transport"), [("paho", "tcp"), ("mqtt.js", "ws")])
def test_keys_in_topics(server: Server, connect: Connect, library: str, transport: str) -> None:
    """As until 2021: without a user name to publish, and with any to subscribe."""
    channel = server.create_channel()
    base = f"channels/{channel.id}"
    listener = connect(library, who=Credentials("", "anybody", "0123456789ABCDEF"), route=Route(4, transport))
    endings = [f"json/{channel.read_key}", f"xml/{channel.read_key}", f"csv/{channel.write_key}"]
    for ending in (*endings, f"fields/+/{channel.read_key}"):
        assert listener.subscribe(f"{base}/subscribe/{ending}") == 0
    sketch = connect(library, who=NOBODY, route=Route(4, transport))
    sketch.publish(f"{base}/publish/{channel.write_key}", "field1=1&created_at=2026-01-02T03:04:05Z")
    got = {one.topic: one.payload for one in listener.receive(4)}
    assert json.loads(got[f"{base}/subscribe/json/{channel.read_key}"])["field1"] == "1"
    assert b"<field1>1</field1>" in got[f"{base}/subscribe/xml/{channel.read_key}"]
    assert got[f"{base}/subscribe/csv/{channel.write_key}"].startswith(b"2026-01-02T03:04:05Z,1,1,")
    assert got[f"{base}/subscribe/fields/field1/{channel.read_key}"] == b"1"
    sketch.publish(f"{base}/publish/fields/field2/{channel.write_key}", "2")
    wait_until(lambda: len(server.feeds(channel)) == 2, what="the value of a field")
    sketch.publish(f"{base}/publish/{channel.read_key}", "field1=3")
    sketch.publish(f"{base}/publish/{channel.write_key}", "field1=4", 1)
    assert [entry["field1"] for entry in server.feeds(channel)] == ["1", None, "4"]


@pytest.mark.parametrize(
    "topic_filter", ["#", "channels/#", "channels/+/subscribe", "channels/{id}/#", "+/{id}/subscribe"]
)
def test_other_wildcards_get_nothing_of_channels(server: Server, connect: Connect, topic_filter: str) -> None:
    """A bridge that asks for everything hears of its account's own topics, and is not cut off."""
    channel = server.create_channel()
    bridge = connect()
    granted = bridge.subscribe(topic_filter.format(id=channel.id))
    assert granted in (0, 0x80)
    assert server.call("POST", "/update", api_key=channel.write_key, field1="1").body == b"1"
    assert bridge.subscribe(f"channels/{channel.id}/subscribe") == 0
    assert server.call("POST", "/update", api_key=channel.write_key, field1="2").body == b"2"
    message = bridge.receive()[0]
    while not message.topic.startswith("channels/"):  # of other tests with this account
        message = bridge.receive()[0]
    assert json.loads(message.payload)["entry_id"] == 2


def test_retain_is_ignored(server: Server, connect: Connect) -> None:
    channel = server.create_channel()
    client = connect()
    for topic in (f"channels/{channel.id}/publish", f"channels/{channel.id}/publish/fields/field1"):
        client.publish(topic, "1" if topic.endswith("1") else "field1=1", 1, retain=True)
    assert client.subscribe(f"channels/{channel.id}/subscribe") == 0
    client.publish(f"channels/{channel.id}/publish", "field1=3", 1, retain=True)
    (message,) = client.receive()
    assert (json.loads(message.payload)["entry_id"], message.retain) == (3, False)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_quality_of_service(server: Server, connect: Connect, qos: int) -> None:
    channel = server.create_channel()
    client = connect()
    assert client.subscribe(f"channels/{channel.id}/subscribe", qos) == qos
    client.publish(f"channels/{channel.id}/publish", "field1=1", qos)
    (message,) = client.receive()
    assert message.qos == min(qos, 1)
    assert len(server.feeds(channel)) == 1


def test_a_stranger_s_channel_looks_like_none(server: Server, channel: ChannelKeys, connect: Connect) -> None:
    """With the credentials of a device that has no right to it: for publishing and subscribing alike."""
    client = connect(who=server.create_device())
    for channel_id in (channel.id, 99_999_999):
        for rest in ("subscribe", "subscribe/json", "subscribe/fields/field1", "subscribe/fields/+"):
            assert client.subscribe(f"channels/{channel_id}/{rest}") == 0x80
        client.publish(f"channels/{channel_id}/publish", "field1=1", 1)
    assert server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=ADMIN_TOKEN).json()["feeds"] == []
