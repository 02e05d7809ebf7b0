"""Rights that are taken away in the console are gone at once, also for clients that are connected, and for what waits
for those that are away."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mqtt_client import LastWill, MqttClient, Route, payloads
from server import Credentials, Server

Connect = Callable[..., MqttClient]

V5 = Route(5)
LASTING = {"route": V5, "clean": False, "properties": {"sessionExpiryInterval": 100}}
NOT_AUTHORIZED = 0x87
BANNED = 0x8A


def test_a_grant_that_is_removed(server: Server, connect: Connect, library: str, prefix: str) -> None:
    channel = server.create_channel()
    who = server.create_device([channel], [channel], name=prefix)
    device, script = connect(library, who=who, route=V5), connect(library, route=V5)
    topic = f"channels/{channel.id}"
    assert device.subscribe(f"{topic}/subscribe/fields/field1", 1) == 1
    assert device.publish(f"{topic}/publish", "field1=1", 1).code == 0
    assert payloads(device.receive()) == ["1"]
    server.submit(server.device_path(prefix), name=prefix)  # with no box ticked
    assert device.publish(f"{topic}/publish", "field1=2", 1).code == NOT_AUTHORIZED
    assert device.subscribe(f"{topic}/subscribe/fields/field1", 1) == NOT_AUTHORIZED
    assert script.publish(f"{topic}/publish", "field1=3", 1).code == 0
    server.submit(server.device_path(prefix), name=prefix, publish=[channel.id], subscribe=[channel.id])
    assert device.subscribe(f"{topic}/subscribe/fields/field1", 1) == 1
    assert device.publish(f"{topic}/publish", "field1=4", 1).code == 0
    assert payloads(device.receive()) == ["4"]
    assert [entry["field1"] for entry in server.feeds(channel)] == ["1", "3", "4"]


def test_what_waits_for_a_device_is_gone_with_its_grant(
    server: Server, connect: Connect, library: str, prefix: str
) -> None:
    channel = server.create_channel()
    device = connect(library, who=server.create_device(subscribe=[channel], name=prefix), **LASTING)
    topic = f"channels/{channel.id}/subscribe/fields/field1"
    device.subscribe(topic, 1)
    device.disconnect()
    writer = connect(library, route=V5)
    writer.publish(f"channels/{channel.id}/publish", "field1=secret", 1)
    server.submit(server.device_path(prefix), name=prefix)
    server.submit(server.device_path(prefix), name=prefix, subscribe=[channel.id])
    assert device.connect().session_present
    assert device.subscribe(topic, 1) == 1
    writer.publish(f"channels/{channel.id}/publish", "field1=new", 1)
    assert payloads(device.receive()) == ["new"]
    device.disconnect()


@pytest.mark.parametrize("kind", ["MQTT device", "account device"])
def test_a_device_that_is_disabled(server: Server, connect: Connect, library: str, prefix: str, kind: str) -> None:
    who = server.create_device(name=prefix) if kind == "MQTT device" else server.create_account_device(prefix)
    here = connect(library, who=who, **LASTING)
    path = server.device_path(prefix)
    server.submit(f"{path}/disable", page=path)
    assert here.wait_end() == NOT_AUTHORIZED
    assert here.connect().code == NOT_AUTHORIZED
    server.submit(f"{path}/enable", page=path)
    away = connect(library, who=who, **LASTING)
    away.disconnect()
    server.submit(f"{path}/delete", page=path)
    assert away.connect().code == NOT_AUTHORIZED


@pytest.mark.parametrize("kind", ["MQTT device", "account device"])
def test_a_password_that_is_changed(server: Server, connect: Connect, library: str, prefix: str, kind: str) -> None:
    if kind == "MQTT device":
        old, action, form = server.create_device(name=prefix), "password", {}
    else:
        old, action, form = server.create_account_device(prefix, "chosen by me"), "credential", {"credential": ""}
    here = connect(library, who=old, route=V5)
    path = server.device_path(prefix)
    new = server.new_credentials(f"{path}/{action}", path, **form)
    assert here.wait_end() == NOT_AUTHORIZED
    assert here.connect().code == NOT_AUTHORIZED
    assert new.password != old.password
    connect(library, who=new, route=V5)


@pytest.mark.parametrize("kind", ["MQTT device", "account device"])
def test_a_new_password_lifts_the_block_of_failed_sign_ins(
    server: Server, connect: Connect, make_client: Connect, library: str, prefix: str, kind: str
) -> None:
    if kind == "MQTT device":
        who, action, form = server.create_device(name=prefix), "password", {}
    else:
        who, action, form = server.create_account_device(prefix), "credential", {"credential": "chosen by me"}
    wrong = make_client(library, who=who._replace(password="wrong"), route=V5)
    assert [wrong.connect().code for _ in range(10)] == [NOT_AUTHORIZED] * 10
    right = make_client(library, who=who, route=V5)
    assert [right.connect().code for _ in range(2)] == [BANNED] * 2
    path = server.device_path(prefix)
    page = " ".join(server.visit(path).body.decode().split())
    assert re.search(
        r"blocked until <time [^>]+>[\d:]+ UTC</time></b> \(for \d+ min more\), "
        r"after 10 failed sign-ins from 127.0.0.1; 2 attempts",
        page,
    )
    connect(library, who=server.new_credentials(f"{path}/{action}", path, **form), route=V5)
    assert "blocked until" not in server.visit(path).body.decode()


@pytest.mark.parametrize("level", [3, 4, 5])
def test_a_token_that_is_removed(server: Server, connect: Connect, library: str, prefix: str, level: int) -> None:
    token, removal = server.add_token(prefix)
    who = Credentials(prefix, "any", token)
    script = connect(library, who=who, route=Route(level), will=LastWill(f"{prefix}/will", "cut off", 1))
    device = connect(library, who=server.create_account_device(f"{prefix}-d"), route=V5)
    device.subscribe(f"{prefix}/#", 1)
    script.publish(f"{prefix}/a", "1", 1)
    assert payloads(device.receive()) == ["1"]
    server.submit(removal, page="/profile")
    assert script.wait_end() == (NOT_AUTHORIZED if level == 5 else 0)
    assert payloads(device.receive()) == ["cut off"]  # devices of the account have credentials of their own
    assert script.connect().code in (5, NOT_AUTHORIZED)


def test_a_channel_that_is_deleted(server: Server, connect: Connect, library: str, prefix: str) -> None:
    channel = server.create_channel()
    device = connect(library, who=server.create_device([channel], [channel], name=prefix), route=V5)
    topic = f"channels/{channel.id}"
    assert device.publish(f"{topic}/publish", "field1=1", 1).code == 0
    page = f"/channels/{channel.id}/settings"
    server.submit(f"/channels/{channel.id}/delete", page=page, confirmation=channel.id)
    assert device.publish(f"{topic}/publish", "field1=2", 1).code == NOT_AUTHORIZED
    assert device.subscribe(f"{topic}/subscribe") == NOT_AUTHORIZED
