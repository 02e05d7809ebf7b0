"""Brokers for hostile tests: those of `tests/broker`, on the event loop that Headwater runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from broker.conftest import build, house, quick_sweeps

__all__ = ["build", "house", "quick_sweeps"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
