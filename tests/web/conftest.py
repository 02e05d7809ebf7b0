"""Connections are tested on both event loops: they differ in when they pause and in what closing does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    plain: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    on_both = item.path.name in ("test_server.py", "test_upgrade.py")
    return plain | {"uvloop": uvloop.new_event_loop} if on_both else plain
