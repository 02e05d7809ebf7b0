"""Tasmota's habits, which are those of PubSubClient: MQTT 3.1.1, a retained will, clean session 0 or 1, keep alive 30,
tele/ and stat/ topics that it cannot be talked out of, and a rule that publishes to its channel."""

from __future__ import annotations

import html
from collections.abc import Callable

import pytest

from mqtt_client import LastWill, MqttClient, Route
from server import Server

Connect = Callable[..., MqttClient]


@pytest.mark.parametrize("clean", [True, False], ids=["clean session 1", "clean session 0"])
@pytest.mark.parametrize("level", [4, 3], ids=["3.1.1", "3.1"])
def test_tasmota_as_an_mqtt_device(server: Server, connect: Connect, prefix: str, clean: bool, level: int) -> None:
    channel = server.create_channel()
    who = server.create_device([channel], [channel], name=prefix)
    topic = f"channels/{channel.id}/publish"
    will = LastWill(f"tele/{prefix}/LWT", "Offline", 0, retain=True)
    tasmota = connect(who=who, route=Route(level), clean=clean, keep_alive_s=30, will=will)
    tasmota.publish(f"tele/{prefix}/LWT", "Online", 0, retain=True)
    assert tasmota.subscribe(f"cmnd/{prefix}/#") == 0x80
    assert tasmota.subscribe("cmnd/tasmotas/#") == 0x80
    tasmota.publish(f"tele/{prefix}/STATE", '{"Time":"2026-01-01T00:00:00","POWER":"ON"}')
    tasmota.publish(f"stat/{prefix}/RESULT", '{"POWER":"ON"}')
    tasmota.publish(topic, "field1=21.5&field2=60")
    tasmota.publish(f"{topic}/fields/field1", "22.5", 1)  # answered when what came before it is stored too
    tasmota.vanish()
    again = tasmota.connect()
    assert again.code == 0
    assert again.session_present is (level > 3 and not clean)
    tasmota.publish(topic, "field1=23", 1)
    tasmota.disconnect()
    assert [entry["field1"] for entry in server.feeds(channel)] == ["21.5", "22.5", "23"]
    page = html.unescape(server.visit(server.device_path(prefix)).body.decode())
    assert "no right to publish to this topic" in page, "its owner can read what was refused"


def test_tasmota_as_an_account_device_has_all_of_its_topics(server: Server, connect: Connect, prefix: str) -> None:
    """And a home automation that acts for the account sees them and commands it."""
    home = connect()
    assert home.subscribe(f"tele/{prefix}/#") == 0
    will = LastWill(f"tele/{prefix}/LWT", "Offline", 0, retain=True)
    tasmota = connect(who=server.create_account_device(prefix), clean=False, keep_alive_s=30, will=will)
    tasmota.publish(f"tele/{prefix}/LWT", "Online", 0, retain=True)
    assert tasmota.subscribe(f"cmnd/{prefix}/#", 1) == 1
    home.publish(f"cmnd/{prefix}/POWER", "TOGGLE", 1)
    assert tasmota.receive()[0][:2] == (f"cmnd/{prefix}/POWER", b"TOGGLE")
    tasmota.vanish()
    assert [message.payload for message in home.receive(2)] == [b"Online", b"Offline"]
    home.publish(f"cmnd/{prefix}/POWER", "ON", 1)
    assert tasmota.connect().session_present
    assert tasmota.receive()[0].payload == b"ON"
    tasmota.disconnect()
