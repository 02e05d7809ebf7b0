"""One broker with an anonymous topic tree per test worker, and clients that end with their test."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headwater.mqtt.packets import Connect, ProtocolLevel
from server import Server, running_server

from .client import Client

_SETTINGS = {"HEADWATER_MQTT_ALLOW_ANONYMOUS": "true", "HEADWATER_MQTT_MAX_TAKEOVERS_PER_MINUTE": "0"}


class Broker:
    """What a test does with the shared broker. Topics and client ids that begin with `name` are the test's own."""

    def __init__(self, server: Server, name: str, level: ProtocolLevel) -> None:
        self.server = server
        self.name = name
        self.level = level
        self._numbers = itertools.count(1)
        self._clients: list[Client] = []

    def topic(self, rest: str = "t") -> str:
        return f"{self.name}/{rest}"

    def client_id(self) -> str:
        """Another one at each call."""
        return f"{self.name}-{next(self._numbers)}"

    def connect_packet(self, client_id: str | None = None, **options: Any) -> Connect:
        """CONNECT of the version under test, without a keep alive that could get in the way."""
        options = {"level": self.level, "keep_alive_s": 0} | options
        return Connect(self.client_id() if client_id is None else client_id, **options)

    def open(self) -> Client:
        """A connection on which nothing has been said."""
        client = Client(self.server.mqtt_port, self.level)
        self._clients.append(client)
        return client

    def connect(self, client_id: str | None = None, **options: Any) -> Client:
        """A client that was accepted; the options are fields of Connect."""
        client = self.open()
        client.sign_in(self.connect_packet(client_id, **options))
        return client

    def resume(self, client_id: str, **options: Any) -> Client:
        """The same with a session that must be there already."""
        client = self.open()
        options = {"clean_session": False} | options
        assert client.sign_in(self.connect_packet(client_id, **options)).session_present
        return client

    def check_alive(self) -> None:
        """Clients that have nothing to do with what happened are served."""
        client = self.connect()
        client.subscribe(self.topic("alive"), qos=1)
        client.publish(self.topic("alive"), b"yes", 1)
        assert client.take().payload == b"yes"
        client.disconnect()

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in anonymous mode: whoever connects without a password shares one topic tree."""
    with running_server(tmp_path_factory.mktemp("open") / "data", **_SETTINGS) as running:
        yield running


@pytest.fixture
def make_broker(open_server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[[int], Broker]]:
    brokers: list[Broker] = []

    def make(level: int) -> Broker:
        name = re.sub(r"\W", "-", request.node.name.removeprefix("test_"))[:40] + "-" + secrets.token_hex(3)
        brokers.append(Broker(open_server, name, ProtocolLevel(level)))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(make_broker: Callable[[int], Broker], request: pytest.FixtureRequest) -> Broker:
    """The broker as clients of the version see it that the test's module is about."""
    return make_broker(5 if "mqtt5" in request.module.__name__ else 4)
