"""Clients for the tests of this folder: each is let go of when its test ends."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest
from mqtt_js_client import JavaScript, MqttJsClient
from paho_client import PahoClient

from mqtt_client import PLAIN, MqttClient, Options, Route
from server import ADMIN_TOKEN, Credentials, Server, running_server

Connect: TypeAlias = Callable[..., MqttClient]

LIBRARIES = ("paho", "mqtt.js")


@pytest.fixture(scope="session")
def javascript() -> Iterator[JavaScript]:
    """A Node process that the tests of one worker share."""
    process = JavaScript()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets clients without a password share a topic tree."""
    data = tmp_path_factory.mktemp("open-server") / "data"
    with running_server(data, HEADWATER_MQTT_ALLOW_ANONYMOUS="true") as running:
        yield running


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    """The name of a client library."""
    name: str = request.param
    return name


@pytest.fixture
def prefix() -> str:
    """The first level of topics, and the beginning of client ids, that no other test uses."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def make_client(request: pytest.FixtureRequest, server: Server, prefix: str) -> Iterator[Connect]:
    """Makes a client of a library (paho unless said otherwise) that has not connected yet. Without credentials it shows
    the administrator's token, and has a client id that no other has."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def make(
            library: str = "paho",
            *,
            who: Credentials | None = None,
            at: Server | None = None,
            route: Route = PLAIN,
            **options: Any,
        ) -> MqttClient:
            who = who or Credentials(f"{prefix}-{next(numbers)}", "any", ADMIN_TOKEN)
            given = Options(at or server, who, route, **options)
            made: MqttClient
            if library == "paho":
                made = PahoClient(given)
            else:
                made = MqttJsClient(given, request.getfixturevalue("javascript"))
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def connect(make_client: Connect) -> Connect:
    """Makes a client as `make_client` does, and connects it; the server must accept it."""

    def connect_one(library: str = "paho", **options: Any) -> MqttClient:
        made = make_client(library, **options)
        connected = made.connect()
        assert connected.code == 0, connected
        return made

    return connect_one


@pytest.fixture(scope="session")
def stranger(server: Server) -> str:
    """The User API Key of an account that has nothing to do with the channels of the others."""
    return server.add_account("stranger")
