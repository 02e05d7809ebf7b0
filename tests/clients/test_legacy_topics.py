"""Subscribing as before there were MQTT devices: a form and a key in the topic, with paho."""

from __future__ import annotations

import threading
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as mqtt
import pytest

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Subscribe, Subscription
from server import ADMIN_TOKEN, ChannelKeys, Server, wait_until


class Subscriber:
    """A client without rights of its own, and what it gets."""

    def __init__(self, server: Server, *filters: str) -> None:
        self.granted: list[int] = []
        self.messages: list[tuple[str, bytes]] = []
        subscribed = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)

        def on_connect(client: mqtt.Client, *_: object) -> None:
            client.subscribe([(one, 0) for one in filters])

        def on_subscribe(_client: object, _data: object, _mid: object, codes: list[object], _p: object) -> None:
            self.granted = [code.value for code in codes]  # type: ignore[attr-defined]
            subscribed.set()

        self.client.on_connect = on_connect
        self.client.on_subscribe = on_subscribe
        self.client.on_message = lambda _c, _d, message: self.messages.append((message.topic, message.payload))
        self.client.connect("127.0.0.1", server.mqtt_port)
        self.client.loop_start()
        assert subscribed.wait(10)


@contextmanager
def subscriber(server: Server, *filters: str) -> Iterator[Subscriber]:
    one = Subscriber(server, *filters)
    try:
        yield one
    finally:
        one.client.disconnect()
        one.client.loop_stop()


def update(server: Server, channel: ChannelKeys, **fields: object) -> None:
    form = urllib.parse.urlencode({"api_key": channel.write_key, **fields})
    assert server.call("POST", "/update", form).status == 200


def test_every_form_with_the_read_key(server: Server, channel: ChannelKeys) -> None:
    base, key = f"channels/{channel.id}/subscribe", channel.read_key
    filters = [f"{base}/{form}/{key}" for form in ("json", "xml", "csv")]
    filters += [f"{base}/fields/field1/{key}", f"{base}/fields/+/{channel.write_key}"]
    with subscriber(server, *filters) as one:
        assert one.granted == [0] * 5
        update(server, channel, field1="21.5", field2="a,b", created_at="2026-01-02T03:04:05Z")
        wait_until(lambda: len(one.messages) == 6, what="a message for each")
    got = dict(one.messages)
    assert got[f"{base}/json/{key}"].startswith(
        f'{{"channel_id":{channel.id},"created_at":"2026-01-02T03:04:05Z","entry_id":1,"field1":"21.5"'.encode()
    )
    assert ET.fromstring(got[f"{base}/xml/{key}"]).findtext("entry-id") == "1"
    assert got[f"{base}/csv/{key}"] == b'2026-01-02T03:04:05Z,1,21.5,"a,b",,,,,,,,,,'
    assert got[f"{base}/fields/field1/{key}"] == b"21.5"
    assert got[f"{base}/fields/field2/{channel.write_key}"] == b"a,b"


def test_other_keys_get_nothing(server: Server, channel: ChannelKeys) -> None:
    other = server.create_channel()
    base = f"channels/{channel.id}/subscribe"
    keys = ("0123456789ABCDEF", other.read_key, other.write_key)
    filters = [base, f"{base}/json", *(f"{base}/json/{key}" for key in keys), f"{base}/fields/+/{other.read_key}"]
    with subscriber(server, *filters) as one:
        assert one.granted == [0x80] * len(filters)


def test_a_public_channel_needs_no_key(server: Server) -> None:
    channel = server.create_channel(public_flag="true")
    with subscriber(server, f"channels/{channel.id}/subscribe/json", f"channels/{channel.id}/subscribe") as one:
        assert one.granted == [0, 0]
        update(server, channel, field1="1")
        wait_until(lambda: len(one.messages) == 2, what="both messages")
        assert (
            server.call("PUT", f"/channels/{channel.id}.json", f"api_key={ADMIN_TOKEN}&public_flag=false").status == 200
        )
        update(server, channel, field1="2")
        with subscriber(server, f"channels/{channel.id}/subscribe/json/{channel.read_key}") as with_key:
            update(server, channel, field1="3")
            # What there was comes too, unless the update was faster.
            wait_until(lambda: '"field1":"3"' in str(with_key.messages), what="the message of one who may")
        assert len(one.messages) == 2, "what was private was not sent"


@pytest.mark.parametrize("path", ["bulk_update.json"])
def test_bulk_updates_are_not_sent(server: Server, channel: ChannelKeys, path: str) -> None:
    with subscriber(server, f"channels/{channel.id}/subscribe/json/{channel.read_key}") as one:
        body = f'{{"write_api_key":"{channel.write_key}","updates":[{{"delta_t":0,"field1":1}}]}}'
        assert server.call("POST", f"/channels/{channel.id}/{path}", body).status == 202
        update(server, channel, field1="2")
        wait_until(lambda: one.messages, what="the update")
    assert [b'"field1":"2"' in payload for _, payload in one.messages] == [True]


def test_the_last_entry_comes_at_once(server: Server, channel: ChannelKeys) -> None:
    """In the legacy forms, to whoever subscribes; not in the current ones, and not to who has subscribed already."""
    base, key = f"channels/{channel.id}/subscribe", channel.read_key
    with subscriber(server, f"{base}/json/{key}", f"{base}/fields/+/{key}") as early:
        update(server, channel, field1="1", field2="2")
        update(server, channel, field1="21.5", field2="b", created_at="2100-01-02T03:04:05Z")
        wait_until(lambda: len(early.messages) == 6, what="what comes as it is stored")
        forms = [f"{base}/{form}/{key}" for form in ("json", "xml", "csv")]
        with subscriber(server, *forms, f"{base}/fields/field2/{key}", f"{base}/fields/+/{channel.write_key}") as late:
            wait_until(lambda: len(late.messages) == 6, what="the last entry in each form")
        got = dict(late.messages)
        assert b'"entry_id":2,"field1":"21.5","field2":"b"' in got[forms[0]]
        assert ET.fromstring(got[forms[1]]).findtext("entry-id") == "2"
        assert got[forms[2]].startswith(b"2100-01-02T03:04:05Z,2,21.5,b,")
        assert got[f"{base}/fields/field2/{key}"] == b"b"
        assert got[f"{base}/fields/field1/{channel.write_key}"] == b"21.5"
        assert got[f"{base}/fields/field2/{channel.write_key}"] == b"b"
        with subscriber(server, f"{base}/json/{key}") as again:
            wait_until(lambda: again.messages, what="the last entry")
        assert len(early.messages) == 6


def test_current_topics_and_empty_channels_send_nothing_at_once(server: Server) -> None:
    empty, public = server.create_channel(), server.create_channel(public_flag="true")
    update(server, public, field1="1")
    base = f"channels/{public.id}/subscribe"
    filters = [base, f"{base}/fields/+", f"channels/{empty.id}/subscribe/json/{empty.read_key}", f"{base}/json"]
    with subscriber(server, *filters) as one:
        wait_until(lambda: one.messages, what="the public channel's last entry")
        update(server, empty, field1="5")
        wait_until(lambda: len(one.messages) == 2, what="the empty channel's first entry")
        assert [topic for topic, _ in one.messages] == [f"{base}/json", filters[2]]


@pytest.mark.parametrize("is_clean", [True, False])
def test_the_last_entry_comes_after_suback(server: Server, channel: ChannelKeys, is_clean: bool) -> None:
    """Also where SUBACK waits for the disk."""
    update(server, channel, field1="1")
    topic = f"channels/{channel.id}/subscribe/csv/{channel.read_key}"
    device = server.create_device()
    connect = Connect(device.client_id, is_clean, username=device.username, password=device.password.encode())
    with server.mqtt_socket() as client:
        client.sendall(render_packet(connect))
        assert client.recv(4) == b"\x20\x02\x00\x00"
        client.sendall(render_packet(Subscribe(7, (Subscription(topic, 1),))))
        received = b""
        while b",1,1," not in received:
            received += client.recv(4096)
        assert received.startswith(b"\x90\x03\x00\x07\x01\x32")
        assert received.count(b",1,1,") == 1
