"""Every test here runs on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from headwater.broker import broker as broker_module

from .house import House, open_house

OpenHouse = Callable[..., House]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at often, so that tests can make them short."""
    monkeypatch.setattr(broker_module, "SWEEP_INTERVAL_S", 0.02)
    monkeypatch.setattr(broker_module, "CLOSE_TIMEOUT_S", 0.3)


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., Any]]:
    """Opens brokers with the settings that a test wants; afterwards nothing may be left of any."""
    houses: list[House] = []
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))

    async def open_one(**settings: Any) -> House:
        house = await open_house(**settings)
        houses.append(house)
        return house

    yield open_one
    for house in houses:
        await house.close()
        house.check_nothing_is_left()
    assert problems == [], "an exception reached the event loop"


@pytest.fixture
async def house(build: Callable[..., Any]) -> House:
    """A broker with the settings as they come."""
    opened: House = await build()
    return opened
