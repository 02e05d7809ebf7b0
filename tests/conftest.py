"""Shared by all tests: one real server process per test worker, and fresh ones for tests that end theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server import ChannelKeys, Credentials, Server, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share: each makes channels and devices of its own, and leaves the server alive."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def channel(server: Server) -> ChannelKeys:
    """A private channel with the fields Temp and Hum."""
    return server.create_channel()


@pytest.fixture
def device(server: Server, channel: ChannelKeys) -> Credentials:
    """A device that may publish and subscribe to `channel`."""
    return server.create_device([channel], [channel])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory for a server of the test's own."""
    return tmp_path / "data"
