"""What the tests of the console share: a running site, and a browser without a screen."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from headwater.model.entry import Entry, EntryUpdate
from headwater.registry.entities import Account, Channel, ChannelSettings
from headwater.services import Services

PASSWORD = "correct horse"
WAIT_S = 10.0
_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift_s


class Browser:
    """An HTTP client that keeps cookies and fills in the token of the page it looked at last."""

    def __init__(self, base_url: str) -> None:
        self.client = httpx.AsyncClient(base_url=base_url, timeout=WAIT_S)
        self.token = ""

    async def get(self, path: str, **options: Any) -> httpx.Response:
        response = await self.client.get(path, **options)
        self._look_at(response)
        return response

    async def post(self, path: str, form: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        response = await self.client.post(path, data={"csrf": self.token} | (form or {}), **options)
        self._look_at(response)
        return response

    async def follow(self, response: httpx.Response) -> httpx.Response:
        assert response.status_code == 303, response.text
        return await self.get(response.headers["location"])

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        await self.get("/sign-in")
        response = await self.post("/sign-in", {"name": name, "password": password})
        if response.status_code == 303:
            await self.get("/profile")
        return response

    def _look_at(self, response: httpx.Response) -> None:
        if found := _TOKEN.search(response.text):
            self.token = found[1]


@dataclass
class Site:
    """A running console and the services behind it."""

    services: Services
    url: str
    clock: Clock
    browsers: list[Browser] = field(default_factory=list)

    def browser(self) -> Browser:
        browser = Browser(self.url)
        self.browsers.append(browser)
        return browser

    async def close(self) -> None:
        for browser in self.browsers:
            await browser.client.aclose()

    async def account(self, name: str) -> Account:
        return await self.services.accounts.add(name, PASSWORD)

    async def channel(self, account: Account, name: str = "Weather", **settings: Any) -> Channel:
        fields = settings.pop("fields", {1: "Temperature", 2: "Humidity"})
        return await self.services.channels.create(
            account.id, replace(ChannelSettings(), name=name, fields=fields, **settings)
        )

    async def write(self, channel: Channel, **fields: str) -> Entry:
        """An entry such as `field1="21.5"`, on disk when this returns."""
        numbered = {int(name.removeprefix("field")): text for name, text in fields.items()}
        entry, receipt = self.services.entries.write(channel, EntryUpdate(numbered), time.time_ns())
        await receipt.wait()
        return entry


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)
