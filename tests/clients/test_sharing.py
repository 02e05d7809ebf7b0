"""A channel that is shared with another account: what that account may read over REST and MQTT, and until when."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mqtt_client import MqttClient, Route, payloads
from server import ChannelKeys, Credentials, Server, headwater, wait_until

Connect = Callable[..., MqttClient]

V5 = Route(5)
PASSWORD = "a long enough password"
NOT_AUTHORIZED = 0x87


class Reader:
    """Somebody else with an account on the same server."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        told = headwater("account", "add", name, "--password-stdin", "--data", server.data, stdin=PASSWORD)
        key = re.search(r"user API key is (\w+)", told)
        assert key is not None, told
        self.user_api_key = key[1]
        self.browser = replace(server, cookies={})

    def sign_in(self) -> bool:
        """Whether the server knows the account already."""
        page = self.browser.visit("/sign-in")
        token = re.search(rb'name="csrf" value="([0-9a-f]+)"', page.body)
        assert token is not None
        form = f"csrf={token[1].decode()}&name={self.name}&password={PASSWORD.replace(' ', '+')}&next=/profile"
        return self.browser._visit("POST", "/sign-in", form).status == 303


@pytest.fixture
def reader(server: Server, prefix: str) -> Iterator[Reader]:
    made = Reader(server, prefix)
    wait_until(made.sign_in, what="the new account")
    yield made
    headwater("account", "remove", prefix, "--yes", "--data", server.data)


def share(server: Server, channel: ChannelKeys, *names: str) -> None:
    if not server.cookies:
        server.sign_in()
    access = "shared" if names else "private"
    server.submit(f"/channels/{channel.id}/sharing", access=access, names=" ".join(names))


def test_reading_with_ones_own_user_api_key(server: Server, channel: ChannelKeys, reader: Reader) -> None:
    server.call("GET", "/update", api_key=channel.write_key, field1="5")
    feed, key = f"/channels/{channel.id}/feeds.json", reader.user_api_key
    assert server.call("GET", feed, api_key=key).status == 400
    share(server, channel, reader.name)
    assert server.call("GET", feed, api_key=key).json()["feeds"][0]["field1"] == "5"
    shown = server.call("GET", f"/channels/{channel.id}.json", api_key=key).json()
    assert shown["id"] == channel.id
    assert "api_keys" not in shown
    assert server.call("GET", f"/channels/{channel.id}/charts/1", api_key=key).status == 200
    for method, path in (("PUT", f"/channels/{channel.id}.json"), ("DELETE", feed), ("DELETE", feed[:-11] + ".json")):
        assert server.call(method, path, api_key=key, name="mine").status in (401, 404)
    assert server.call("GET", "/update", api_key=key, field1="6").body == b"0"
    share(server, channel)
    assert server.call("GET", feed, api_key=key).status == 400
    assert [entry["field1"] for entry in server.feeds(channel)] == ["5"]


def test_subscribing_as_that_account(server: Server, channel: ChannelKeys, reader: Reader, connect: Connect) -> None:
    token, _ = reader.browser.add_token("mqtt")
    who = Credentials(f"{reader.name}-1", "any", token)
    client, topic = connect(who=who, route=V5), f"channels/{channel.id}/subscribe/fields/field1"
    assert client.subscribe(topic, 1) == NOT_AUTHORIZED
    share(server, channel, reader.name)
    assert client.subscribe(topic, 1) == 1
    server.call("GET", "/update", api_key=channel.write_key, field1="1")
    assert payloads(client.receive()) == ["1"]
    assert client.publish(f"channels/{channel.id}/publish", "field1=9", 1).code == NOT_AUTHORIZED
    share(server, channel)
    server.call("GET", "/update", api_key=channel.write_key, field1="secret")
    assert client.subscribe(topic, 1) == NOT_AUTHORIZED
    share(server, channel, reader.name)
    assert client.subscribe(topic, 1) == 1
    server.call("GET", "/update", api_key=channel.write_key, field1="3")
    assert payloads(client.receive()) == ["3"], "and nothing of what came while it was private"


def test_a_reader_takes_nothing_from_a_shared_group_of_the_owners(
    server: Server, channel: ChannelKeys, reader: Reader, connect: Connect
) -> None:
    share(server, channel, reader.name)
    token, _ = reader.browser.add_token("mqtt")
    topic = f"$share/workers/channels/{channel.id}/subscribe/fields/field1"
    clients = [connect(), connect(), connect(who=Credentials(f"{reader.name}-1", "any", token))]
    for client in clients:
        assert client.subscribe(topic, 1) == 1
    for number in range(6):
        server.call("GET", "/update", api_key=channel.write_key, field1=number)
    wait_until(lambda: sum(client.messages.qsize() for client in clients) == 12, what="each entry, for both accounts")
    assert [client.messages.qsize() for client in clients] == [3, 3, 6]


def test_what_waits_for_somebody_is_gone_with_their_share(
    server: Server, channel: ChannelKeys, reader: Reader, connect: Connect
) -> None:
    token, _ = reader.browser.add_token("mqtt")
    who, lasting = Credentials(f"{reader.name}-1", "any", token), {"sessionExpiryInterval": 100}
    share(server, channel, reader.name)
    client = connect(who=who, route=V5, clean=False, properties=lasting)
    topic = f"channels/{channel.id}/subscribe/fields/field1"
    assert client.subscribe(topic, 1) == 1
    client.disconnect()
    server.call("GET", "/update", api_key=channel.write_key, field1="secret")
    share(server, channel)
    share(server, channel, reader.name)
    assert client.connect().session_present
    assert client.subscribe(topic, 1) == 1
    server.call("GET", "/update", api_key=channel.write_key, field1="new")
    assert payloads(client.receive()) == ["new"]
    client.disconnect()


def test_a_share_is_there_after_a_reload(server: Server, channel: ChannelKeys, reader: Reader) -> None:
    share(server, channel, reader.name)
    reloads = server.log.count("reloaded registry")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log.count("reloaded registry") > reloads, what="the reload")
    assert server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=reader.user_api_key).status == 200
