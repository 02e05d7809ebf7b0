"""Rules for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from rule_house import RuleHouse

from headwater.registry.entities import Account, ChannelSettings
from headwater.services.channels import Channels
from headwater.settings import RuleSettings


@pytest.fixture
def rule_settings() -> RuleSettings:
    return RuleSettings()


@pytest.fixture
async def rules_house(house: object, rule_settings: RuleSettings) -> AsyncIterator[RuleHouse]:
    account: Callable[[str], Awaitable[Account]] = house.account  # type: ignore[attr-defined]
    ada, bob = await account("ada"), await account("bob")
    channels: Channels = house.channels  # type: ignore[attr-defined]
    channel = await channels.create(ada.id, ChannelSettings(name="Green house", fields={1: "T"}))
    made = RuleHouse(house.worker, house.access, channels, ada, bob, channel, rule_settings)  # type: ignore[attr-defined]
    await made.open()
    yield made
    await made.close()
