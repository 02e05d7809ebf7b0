"""What the broker has acknowledged survives its process: killed without warning while messages flow, or ended politely.
All of it is seen by paho-mqtt, which resumes its sessions and sends again what was not acknowledged."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_client import LastWill, MqttClient, Received, Route, payloads
from server import ADMIN_TOKEN, Credentials, Server, start_server, wait_until

Connect = Callable[..., MqttClient]

KILLS = 3
WINDOW = 50
"""Messages that a publisher leaves unacknowledged; the server allows 100."""
MESSAGES_BETWEEN_KILLS = (100, 600)
ROOM = {"HEADWATER_MQTT_MAX_QUEUED_MESSAGES": "65000", "HEADWATER_MQTT_MAX_QUEUED_BYTES": "100000000"}
"""For everything that the subscriber misses."""
V5 = Route(5)
LASTING: dict[str, Any] = {"route": V5, "clean": False, "properties": {"sessionExpiryInterval": 1000}}


OLDER_LASTING: dict[str, Any] = {"route": Route(4), "clean": False}


def restart(server: Server) -> Server:
    """The server on the same data and MQTT port, after its process has ended."""
    return start_server(server.data, "--mqtt", f"127.0.0.1:{server.mqtt_port}", **ROOM)


_DONE = ("No matching subscribers", "Packet identifier not found")
"""The second answers a PUBREL that came again: the first one was acted on, and its PUBCOMP lost with the process."""


class Resuming:
    """A client with a session that lasts, for one thread at a time; after its connection was cut it can come back."""

    def __init__(self, name: str) -> None:
        self.library = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        self.library.username_pw_set("any", ADMIN_TOKEN)
        self.library.max_inflight_messages_set(0)
        self.is_connected = False
        self.library.on_connect = self._on_connect

    def connect(self, server: Server) -> None:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 1000
        self.library.connect("127.0.0.1", server.mqtt_port, clean_start=False, properties=properties)
        self.loop_until(lambda: self.is_connected)

    def loop_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert self.library.loop(0.05) == MQTTErrorCode.MQTT_ERR_SUCCESS
            assert time.monotonic() < deadline_s

    def loop_until_cut(self) -> None:
        while self.library.loop(0.05) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.act()
        self.is_connected = False

    def act(self) -> None:
        """What is done between packets."""

    def disconnect(self) -> None:
        self.library.disconnect()
        self.loop_until_cut()

    def _on_connect(
        self, _client: paho.Client, _data: object, flags: paho.ConnectFlags, code: object, _: object
    ) -> None:
        assert code == 0
        self.is_connected = True


class Publisher(Resuming):
    """Publishes its name and a number, as fast as acknowledgements allow."""

    def __init__(self, name: str, topic: str, qos: int) -> None:
        super().__init__(name)
        self.name = name
        self._topic = topic
        self.qos = qos
        self.sent = 0
        self.acknowledged = 0
        self.library.on_publish = self._on_publish

    def act(self) -> None:
        while self.sent - self.acknowledged < WINDOW:
            self.library.publish(self._topic, f"{self.name} {self.sent}", self.qos)
            self.sent += 1

    def finish(self) -> None:
        """Get everything acknowledged, and leave."""
        self.loop_until(lambda: self.acknowledged == self.sent)
        self.disconnect()

    def _on_publish(self, _client: paho.Client, _data: object, _mid: int, code: object, _: object) -> None:
        assert code == 0 or str(code) in _DONE
        self.acknowledged += 1


class Subscriber(Resuming):
    """Notes what it hears of each publisher."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.heard: dict[str, list[int]] = {}
        self.is_subscribed = False
        self.library.on_message = self._on_message
        self.library.on_subscribe = self._on_subscribe

    def subscribe(self, topic_filter: str) -> None:
        self.library.subscribe(topic_filter, 2)
        self.loop_until(lambda: self.is_subscribed)

    def hear_out(self, publishers: Iterable[Publisher]) -> None:
        """Hear everything that has been published, and whatever may still come after it."""
        self.loop_until(lambda: all(len(set(self.heard.get(p.name, ()))) >= p.sent for p in publishers))
        self.library.publish("load/end", "end 0", 2)
        self.loop_until(lambda: "end" in self.heard)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        name, _, number = message.payload.decode().partition(" ")
        self.heard.setdefault(name, []).append(int(number))

    def _on_subscribe(self, *_: object) -> None:
        self.is_subscribed = True


def test_nothing_acknowledged_is_lost_and_no_qos_2_comes_twice(data: Path) -> None:
    """Two subscribers, one away all the time and one cut off with the publishers again and again."""
    chance = random.Random(7)
    server = start_server(data, **ROOM)
    try:
        away, here = Subscriber("away"), Subscriber("here")
        for subscriber in (away, here):
            subscriber.connect(server)
            subscriber.subscribe("load/#")
        away.disconnect()
        publishers = [Publisher(f"p{n}", f"load/{n}", qos) for n, qos in enumerate((1, 2, 1, 2))]
        running: list[Resuming] = [*publishers, here]
        for _ in range(KILLS):
            for client in running:
                if not client.is_connected:
                    client.connect(server)
            threads = [threading.Thread(target=client.loop_until_cut) for client in running]
            for thread in threads:
                thread.start()
            goal = sum(publisher.acknowledged for publisher in publishers) + chance.randint(*MESSAGES_BETWEEN_KILLS)
            wait_until(lambda: sum(p.acknowledged for p in publishers) >= goal, 30, "acknowledgements")  # noqa: B023
            server.kill()
            for thread in threads:
                thread.join(timeout=30)
            server = restart(server)
        for publisher in publishers:
            publisher.connect(server)
            publisher.finish()
        for subscriber in (away, here):
            subscriber.connect(server)
            subscriber.hear_out(publishers)
            subscriber.disconnect()
        for subscriber in (away, here):
            for publisher in publishers:
                numbers = subscriber.heard[publisher.name]
                if publisher.qos == 1:
                    numbers = list(dict.fromkeys(numbers))
                assert numbers == list(range(publisher.sent)), f"{publisher.name} to {subscriber.name}"
    finally:
        if server.process.returncode is None:
            server.kill()


# -- what is there after a kill, and after SIGTERM ------------------------------------------------------------------
#
# Each of these prepares something, waits at its `yield` for the server's end and restart, and looks at what is left.
# So that they cost two processes together, and not two each.

Story: TypeAlias = Iterator[None]


class Stage:
    """The server of now, and clients for it."""

    def __init__(self, server: Server, make_client: Connect, *, is_polite: bool) -> None:
        self.server = server
        self.is_polite = is_polite
        self._make_client = make_client

    def make(self, **options: Any) -> MqttClient:
        return self._make_client(at=self.server, **options)

    def connect(self, **options: Any) -> MqttClient:
        client = self.make(**options)
        assert client.connect().code == 0
        return client

    def resume(self, old: MqttClient, options: dict[str, Any]) -> MqttClient:
        """Connect with a session that must be there."""
        client = self.make(who=old.options.who, **options)
        assert client.connect().session_present
        return client


def retained_messages(stage: Stage) -> Story:
    publisher = stage.connect(route=V5)
    carried = {"contentType": "a/b", "userProperties": [("k", "v"), ("k", "w")]}
    publisher.publish("retained/kept", "1", 1, retain=True, messageExpiryInterval=1000, **carried)
    publisher.publish("retained/replaced", "first", 2, retain=True)
    publisher.publish("retained/replaced", "second", 1, retain=True)
    publisher.publish("retained/deleted", "x", 1, retain=True)
    publisher.publish("retained/deleted", "", 1, retain=True)
    yield
    newcomer = stage.connect(route=V5)
    newcomer.subscribe("retained/#", 1)
    newcomer.publish("retained/end", "the end", 1)
    kept = {message.topic: message for message in newcomer.receive_until("the end")}
    assert kept.keys() == {"retained/kept", "retained/replaced"}
    assert kept["retained/replaced"][1:4] == (b"second", 1, True)
    properties = kept["retained/kept"].properties
    assert 900 < properties.pop("messageExpiryInterval") <= 1000
    assert properties == carried


def messages_that_wait(stage: Stage) -> Story:
    """With the subscription that brought them, and its options."""
    away = stage.connect(**LASTING)
    away.subscribe("waiting/+", 2, subscription_id=9, retain_as_published=True)
    away.subscribe("waiting/given up/+", 1)
    away.unsubscribe("waiting/given up/+")
    away.disconnect()
    publisher = stage.connect(route=V5)
    publisher.publish("waiting/a", "1", 1, retain=True)
    publisher.publish("waiting/given up/a", "never", 1)
    publisher.publish("waiting/a", "2", 1, contentType="a/b")
    publisher.publish("waiting/a", "3", 2)
    yield
    returned = stage.resume(away, LASTING)
    missed = returned.receive(3)
    assert sorted((message.payload, message.qos, message.retain) for message in missed) == [
        (b"1", 1, True),
        (b"2", 1, False),
        (b"3", 2, False),
    ]
    assert [message.properties.get("contentType") for message in missed if message.payload == b"2"] == ["a/b"]
    assert {tuple(message.properties["subscriptionIdentifier"]) for message in missed} == {(9,)}
    stage.connect().publish("waiting/live", "still subscribed", 1)
    assert payloads(returned.receive()) == ["still subscribed"]


def wills(stage: Stage) -> Story:
    """Of clients that were here, as far as their sessions last: the others ended with a killed process."""
    listener = stage.connect(**LASTING)
    listener.subscribe("will/#", 1)
    listener.disconnect()
    stage.connect(will=LastWill("will/polite", "Offline", 1), **LASTING).disconnect()
    mortals = [
        stage.connect(will=LastWill("will/3", "Offline", 1), **OLDER_LASTING),
        stage.connect(will=LastWill("will/5", "Offline", 2, retain=True), **LASTING),
        stage.connect(will=LastWill("will/delayed", "Offline", 1, delay_s=1), **LASTING),
        stage.connect(will=LastWill("will/back", "Offline", 1, delay_s=30), **LASTING),
    ]
    for mortal in mortals:
        mortal.subscribe("nothing/in/particular")  # its answer means that the session is written down
    yield
    back = stage.resume(mortals[3], LASTING)
    listener = stage.resume(listener, LASTING)
    topics = [message.topic for message in listener.receive(3)]
    assert sorted(topics) == ["will/3", "will/5", "will/delayed"]
    back.disconnect()
    back.connect()
    back.publish("will/end", "the end", 1)
    assert listener.receive_until("the end") == []
    newcomer = stage.connect()
    newcomer.subscribe("will/5")
    assert newcomer.receive()[0].retain


def time_that_passes_meanwhile(stage: Stage) -> Story:
    listener = stage.connect()
    listener.subscribe("left")
    short = stage.connect(
        route=V5, clean=False, properties={"sessionExpiryInterval": 1}, will=LastWill("left", "Offline")
    )
    lasting = stage.connect(**LASTING)
    lasting.disconnect()
    short.disconnect(0x04)
    listener.receive()
    listener.publish("written/down", "x", 1, retain=True)  # and so is that the client has left
    over_at_s = time.monotonic() + 1
    yield
    wait_until(lambda: time.monotonic() > over_at_s, what="the end of the session")
    stage.resume(lasting, LASTING)
    assert not stage.make(who=short.options.who, **LASTING).connect().session_present


def owners_of_sessions(stage: Stage) -> Story:
    """An account's script with the client id of its device does not get the device's session."""
    boiler = stage.connect(who=stage.server.create_account_device("boiler"), clean=False)
    boiler.subscribe("boiler/#", 1)
    boiler.disconnect()
    yield
    other = stage.make(who=Credentials("boiler", "any", ADMIN_TOKEN), clean=False)
    assert not other.connect().session_present
    other.publish("boiler/a", "x", 1)
    assert payloads(stage.resume(boiler, {"clean": False}).receive()) == ["x"]


def clients_that_are_here(stage: Stage) -> Story:
    """They are told, where their MQTT has words for it, and go on with what they had."""
    older, newer = stage.connect(**OLDER_LASTING), stage.connect(**LASTING)
    for client in (older, newer):
        client.subscribe("here/#", 1)
    stage.connect().publish("here/a", "before", 1)
    for client in (older, newer):
        assert payloads(client.receive()) == ["before"]
    yield
    assert (older.wait_end(), newer.wait_end()) == (0, 0x8B if stage.is_polite else 0)
    stage.connect().publish("here/a", "after", 1)
    for client, options in ((older, OLDER_LASTING), (newer, LASTING)):
        assert payloads(after_duplicates(stage.resume(client, options))) == ["after"]


def after_duplicates(client: MqttClient) -> list[Received]:
    """A PUBACK may have been on its way when the server was killed."""
    messages = client.receive()
    return messages if payloads(messages) != ["before"] else client.receive()


STORIES = (
    retained_messages,
    messages_that_wait,
    wills,
    time_that_passes_meanwhile,
    owners_of_sessions,
    clients_that_are_here,
)


@pytest.mark.parametrize("is_polite", [False, True], ids=["SIGKILL", "SIGTERM"])
def test_state_survives_the_process(data: Path, make_client: Connect, is_polite: bool) -> None:
    stage = Stage(start_server(data), make_client, is_polite=is_polite)
    try:
        stories = [story(stage) for story in STORIES]
        for story in stories:
            next(story)
        if is_polite:
            assert stage.server.stop() == 0
        else:
            stage.server.kill()
        stage.server = restart(stage.server)
        for story in stories:
            with suppress(StopIteration):
                next(story)
    finally:
        if stage.server.process.returncode is None:
            stage.server.kill()
