"""paho-mqtt, unmodified, against a real server."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from server import ChannelKeys, Credentials, Server, wait_until


@contextmanager
def client(server: Server, device: Credentials, tls: bool = False, clean: bool = True) -> Iterator[paho.Client]:
    """A connected client with its network thread."""
    made = paho.Client(CallbackAPIVersion.VERSION2, client_id=device.client_id, clean_session=clean)
    made.username_pw_set(device.username, device.password)
    answers: queue.Queue[ReasonCode] = queue.Queue()
    made.on_connect = lambda _client, _data, _flags, code, _properties: answers.put(code)
    if tls:
        made.tls_set(ca_certs=str(server.ca_path))
    made.connect("localhost", server.mqtts_port if tls else server.mqtt_port)
    made.loop_start()
    try:
        assert answers.get(timeout=10) == 0
        yield made
    finally:
        made.disconnect()
        made.loop_stop()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_entries_are_stored_and_heard(
    server: Server, channel: ChannelKeys, device: Credentials, qos: int, tls: bool
) -> None:
    listener = server.create_device(subscribe=[channel])
    heard: queue.Queue[paho.MQTTMessage] = queue.Queue()
    subscribed: queue.Queue[list[ReasonCode]] = queue.Queue()
    with client(server, listener, tls) as subscriber, client(server, device, tls) as publisher:
        subscriber.on_message = lambda _client, _data, message: heard.put(message)
        subscriber.on_subscribe = lambda _client, _data, _mid, codes, _properties: subscribed.put(codes)
        subscriber.subscribe(f"channels/{channel.id}/subscribe", min(qos, 1))
        assert [code.value for code in subscribed.get(timeout=10)] == [min(qos, 1)]
        for n in range(20):
            publisher.publish(f"channels/{channel.id}/publish", f"field1={n}.25&field2={n}", qos)
        messages = [heard.get(timeout=10) for _ in range(20)]
    assert [json.loads(message.payload)["field1"] for message in messages] == [f"{n}.25" for n in range(20)]
    assert {message.qos for message in messages} == {min(qos, 1)}
    assert [entry["field2"] for entry in server.feeds(channel)] == [str(n) for n in range(20)]
    assert [entry["entry_id"] for entry in server.feeds(channel)] == list(range(1, 21))


def test_puback_means_stored(server: Server, channel: ChannelKeys, device: Credentials) -> None:
    with client(server, device) as publisher:
        info = publisher.publish(f"channels/{channel.id}/publish", "field1=1", 1)
        info.wait_for_publish(timeout=10)
        assert info.is_published()
        assert len(server.feeds(channel)) == 1


def test_subscription_without_the_right_is_refused(server: Server, channel: ChannelKeys) -> None:
    stranger = server.create_device(publish=[channel])
    answers: queue.Queue[list[ReasonCode]] = queue.Queue()
    with client(server, stranger) as subscriber:
        subscriber.on_subscribe = lambda _client, _data, _mid, codes, _properties: answers.put(codes)
        for topic in ("subscribe", "subscribe/fields/field1", "subscribe/fields/+", "publish", "#"):
            subscriber.subscribe(f"channels/{channel.id}/{topic}")
            assert [code.value for code in answers.get(timeout=10)] == [0x80], topic


def test_publish_without_the_right_stores_nothing_and_its_owner_reads_why(server: Server, channel: ChannelKeys) -> None:
    listener = server.create_device(subscribe=[channel], name="only listens")
    with client(server, listener) as publisher:
        info = publisher.publish(f"channels/{channel.id}/publish", "field1=1", 1)
        info.wait_for_publish(timeout=10)
    assert server.feeds(channel) == []
    page = server.visit("/devices").body
    assert f"no right to publish to channel {channel.id}:" in page.decode()


def test_clean_session_off_and_a_will_are_accepted(server: Server, device: Credentials, channel: ChannelKeys) -> None:
    """Tasmota's habits; upstream they shut it out."""
    made = paho.Client(CallbackAPIVersion.VERSION2, client_id=device.client_id, clean_session=False)
    made.username_pw_set(device.username, device.password)
    made.will_set("tele/tasmota/LWT", "Offline", retain=True)
    made.connect("localhost", server.mqtt_port, keepalive=30)
    made.loop_start()
    try:
        wait_until(made.is_connected, what="CONNACK")
        made.publish(f"channels/{channel.id}/publish", "field1=1", 1).wait_for_publish(timeout=10)
    finally:
        made.disconnect()
        made.loop_stop()
    assert len(server.feeds(channel)) == 1


def test_account_token_reaches_every_channel_of_its_account(server: Server, channel: ChannelKeys) -> None:
    from server import ADMIN_TOKEN

    with client(server, Credentials("my-script", "whatever", ADMIN_TOKEN)) as publisher:
        publisher.publish(f"channels/{channel.id}/publish", "field1=1", 1).wait_for_publish(timeout=10)
    assert len(server.feeds(channel)) == 1
