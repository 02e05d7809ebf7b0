"""The services around a registry in a file of its own, as the composition root puts them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headwater.registry.entities import Account, Channel
from headwater.registry.opening import open_registry
from headwater.registry.passwords import Passwords
from headwater.registry.registry import Registry
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access, AccessChange
from headwater.services.account_devices import AccountDevices
from headwater.services.accounts import Accounts
from headwater.services.channels import Channels
from headwater.services.connect_limits import ConnectLimits
from headwater.services.devices import Devices


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class House:
    """Everything about accounts, channels and devices, over one file."""

    url: str
    worker: RegistryWorker
    access: Access
    passwords: Passwords
    accounts: Accounts
    channels: Channels
    devices: Devices
    account_devices: AccountDevices
    limits: ConnectLimits
    clock: Clock
    deleted: list[Channel] = field(default_factory=list)
    changes: list[AccessChange] = field(default_factory=list)

    async def account(self, name: str = "ada") -> Account:
        return await self.accounts.add(name, f"{name}'s password")

    def content(self) -> dict[str, Any]:
        """All that `Access` knows, indexes included: a stale key left behind would show."""
        return vars(self.access._known)

    async def content_after_restart(self) -> dict[str, Any]:
        """What `Access` would know after a restart of the server now."""
        registry = open_registry(self.url)
        access = Access()
        access.load(registry.snapshot())
        registry.close()
        return vars(access._known)

    async def close(self) -> None:
        await self.worker.close()
        self.passwords.close()


async def open_house(url: str) -> House:
    worker = RegistryWorker(open_registry(url))
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    access = Access(passwords=passwords)
    access.load(await worker.read(Registry.snapshot))
    clock = Clock()
    deleted: list[Channel] = []

    async def on_deleted(channel: Channel) -> None:
        assert access.channel(channel.id) is None
        deleted.append(channel)

    limits = ConnectLimits(clock, max_failures_per_minute=3)
    house = House(
        url,
        worker,
        access,
        passwords,
        Accounts(worker, access, passwords, on_channel_deleted=on_deleted, clock=clock),
        Channels(worker, access, on_deleted=on_deleted, max_channels_per_account=20),
        Devices(worker, access, limits, max_devices_per_account=20, max_grants_per_device=20),
        AccountDevices(worker, access, limits, passwords, max_devices_per_account=20),
        limits,
        clock,
        deleted,
    )
    access.on_change(house.changes.append)
    return house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    opened = await open_house(f"sqlite:///{tmp_path}/registry.db")
    yield opened
    assert opened.content() == await opened.content_after_restart()
    await opened.close()
