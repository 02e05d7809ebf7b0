"""Bulk updates over MQTT with paho: taken whole, acknowledged when they are on disk, refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from server import (
    ADMIN_PASSWORD,
    ADMIN_TOKEN,
    ChannelKeys,
    Credentials,
    Server,
    running_server,
    start_server,
    wait_until,
)

KEYS_ONLY = Credentials("", "", "")


class Client:
    """A paho client, and the reasons with which its publishes were answered."""

    def __init__(self, server: Server, who: Credentials, protocol: mqtt.MQTTProtocolVersion) -> None:
        self.reasons: dict[int, tuple[int, str]] = {}
        self.messages: list[str] = []
        connected = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, who.client_id, protocol=protocol)
        if who.password:
            self.client.username_pw_set(who.username, who.password)
        self.client.on_connect = lambda *_: connected.set()
        self.client.on_publish = self._on_publish
        self.client.on_message = lambda _c, _d, message: self.messages.append(message.topic)
        self.client.connect("127.0.0.1", server.mqtt_port)
        self.client.loop_start()
        assert connected.wait(10)

    def _on_publish(self, _client: object, _data: object, mid: int, code: Any, properties: Any) -> None:
        self.reasons[mid] = (code.value, getattr(properties, "ReasonString", ""))

    def publish(self, topic: str, payload: str, qos: int = 1) -> tuple[int, str]:
        """Publish and wait for the answer: its code and what it says."""
        mid = self.client.publish(topic, payload, qos).mid
        wait_until(lambda: mid in self.reasons, what="an acknowledgement")
        return self.reasons[mid]


@contextmanager
def connected(
    server: Server, who: Credentials = KEYS_ONLY, protocol: mqtt.MQTTProtocolVersion = mqtt.MQTTv5
) -> Iterator[Client]:
    one = Client(server, who, protocol)
    try:
        yield one
    finally:
        one.client.disconnect()
        one.client.loop_stop()


def message(*updates: dict[str, object], **members: object) -> str:
    return json.dumps({**members, "updates": updates})


UPDATES = {"created_at": "2026-01-02 03:04:05", "field1": 21.50, "status": "ok"}, {"delta_t": 10, "field2": "x"}
SHOWN = [("2026-01-02T03:04:05Z", 1, "21.5", None), ("2026-01-02T03:04:15Z", 2, None, "x")]


def shown(server: Server, channel: ChannelKeys) -> list[tuple[object, ...]]:
    return [tuple(feed.values()) for feed in server.feeds(channel)]


@pytest.mark.parametrize("qos", [1, 2])
def test_by_the_rights_of_a_device(server: Server, channel: ChannelKeys, device: Credentials, qos: int) -> None:
    with connected(server, device, mqtt.MQTTv311) as client:
        client.publish(f"channels/{channel.id}/bulk_update/json", message(*UPDATES), qos)
        assert shown(server, channel) == SHOWN, "it is there once it is acknowledged"
        client.publish(f"channels/{channel.id}/bulk_update/json", message(*UPDATES), qos)
    assert shown(server, channel) == SHOWN, "sent again it is there once"


def test_csv_with_the_key_in_the_topic(server: Server, channel: ChannelKeys) -> None:
    body = "time_format=absolute&updates=2026-01-02 03:04:05,21.5|1767323055,,x"
    with connected(server) as client:
        assert client.publish(f"channels/{channel.id}/bulk_update/csv/{channel.write_key}", body)[0] == 0
    assert shown(server, channel) == SHOWN


def test_with_the_key_in_the_message(server: Server, channel: ChannelKeys) -> None:
    with connected(server) as client:
        topic = f"channels/{channel.id}/bulk_update/json"
        assert client.publish(topic, message(*UPDATES, write_api_key=channel.write_key))[0] == 0
    assert shown(server, channel) == SHOWN


def test_without_right_nobody_learns_whether_there_is_the_channel(
    server: Server, channel: ChannelKeys, stranger: str
) -> None:
    assert stranger
    elsewhere = dataclasses.replace(server, cookies={})
    elsewhere.submit("/sign-in", name="stranger", password=ADMIN_PASSWORD, next="/channels")
    token = Credentials("", "any", elsewhere.add_token("any")[0])
    for who in (KEYS_ONLY, token, server.create_device(name="without rights")):
        with connected(server, who) as client:
            for ending, key in (("", ""), ("", channel.read_key), (f"/{channel.read_key}", ""), ("/x", "")):
                answers = [
                    client.publish(f"channels/{n}/bulk_update/json{ending}", message(*UPDATES, write_api_key=key))
                    for n in (channel.id, 999_999_999)
                ]
                (code, reason), (other_code, other_reason) = answers
                assert (code, reason) == (other_code, other_reason.replace("999999999", str(channel.id)))
                assert code >= 0x80
                assert reason.startswith(f"no right to write to channel {channel.id}: ")
    assert server.feeds(channel) == []


@pytest.mark.parametrize(
    ("form", "body", "says"),
    [
        ("json", "field1=5", "The body must be JSON of the form"),
        ("json", message(), "There are no updates"),
        ("json", message({"field1": 1}), "created_at or delta_t is missing"),
        ("csv", "updates=1,2", "time_format must be absolute or relative"),
        ("json", message(*[{"delta_t": 1}] * 14_401), "at most 14400 are taken at once"),
    ],
)
def test_what_cannot_be_taken(
    server: Server, channel: ChannelKeys, device: Credentials, form: str, body: str, says: str
) -> None:
    with connected(server, device) as client:
        code, reason = client.publish(f"channels/{channel.id}/bulk_update/{form}", body)
    assert code == 0x99
    assert says in reason
    assert server.feeds(channel) == []
    assert says in server.visit(f"/channels/{channel.id}").body.decode().replace("&#34;", '"'), "its owner is told"


def test_subscribers_are_not_told(server: Server, channel: ChannelKeys, device: Credentials) -> None:
    with connected(server, device) as client:
        client.client.subscribe(f"channels/{channel.id}/subscribe")
        client.publish(f"channels/{channel.id}/bulk_update/json", message(*UPDATES))
        client.publish(f"channels/{channel.id}/publish", "field1=1")
        wait_until(lambda: client.messages, what="the entry that came alone")
        assert client.messages == [f"channels/{channel.id}/subscribe"]


def test_many_messages_at_once_are_all_stored(server: Server, channel: ChannelKeys, device: Credentials) -> None:
    with connected(server, device) as client:
        mids = [
            client.client.publish(
                f"channels/{channel.id}/bulk_update/json",
                message(*({"created_at": str(1_767_323_045 + 1_000 * n + k), "field1": k} for k in range(1_000))),
                1,
            ).mid
            for n in range(8)
        ]
        wait_until(lambda: client.reasons.keys() >= set(mids), timeout_s=60)
        assert {client.reasons[mid][0] for mid in mids} == {0}
    feeds = server.feeds(channel, results=8000)
    assert [feed["field1"] for feed in feeds] == [str(k) for k in range(1_000)] * 8


def test_messages_that_fill_all_the_room_there_is(data: Path) -> None:
    """Each counts as what waits for the disk: it must not wait for itself, and the next is read once it is stored."""
    room = {"HEADWATER_INGEST_MAX_PENDING_POINTS": "1000", "HEADWATER_INGEST_FLUSH_POINTS": "1000"}
    with (
        running_server(data, **room) as server,
        connected(server, Credentials("", "any", ADMIN_TOKEN)) as client,
    ):
        channel = server.create_channel()
        for start in (1_767_000_000, 1_767_100_000):
            updates = [{"created_at": start + k, "field1": k} for k in range(500)]
            code, _ = client.publish(f"channels/{channel.id}/bulk_update/json", message(*updates))
            assert code == 0
        assert client.publish(f"channels/{channel.id}/publish", "field1=after") == (0, "")
        assert len(server.feeds(channel, results=8000)) == 1_001


def test_what_was_acknowledged_survives_sigkill(data: Path) -> None:
    server = start_server(data)
    try:
        channel = server.create_channel()
        with connected(server, Credentials("", "any", ADMIN_TOKEN), mqtt.MQTTv311) as client:
            client.publish(f"channels/{channel.id}/bulk_update/json", message(*UPDATES))
            server.kill()
        server = start_server(data)
        assert shown(server, channel) == SHOWN
    finally:
        server.kill()
    assert "Traceback" not in server.log
