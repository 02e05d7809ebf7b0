"""Account devices in the console: a generated or chosen credential shown once, and its end; nothing for strangers."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest
from console_site import PASSWORD, Browser
from starlette.routing import Route

from headwater.errors import NotAuthenticated
from headwater.registry.entities import Account, AccountDevice
from headwater.registry.passwords import Passwords
from headwater.services import Services
from headwater.services.account_devices import AccountDevices
from headwater.services.mqtt_sign_in import SignInFailed
from headwater.settings import WebSettings
from headwater.web.app import build_app
from headwater.web.console import Console, ConsoleOptions
from headwater.web.console.account_devices import AccountDevicePages

CHOSEN = ' it\'s <b>"$HOME" & `x`; ünï '


@dataclass
class Desk:
    """A browser in which `ada` is signed in, and what is behind the pages."""

    browser: Browser
    stranger: Browser
    services: Services
    devices: AccountDevices
    passwords: Passwords
    account: Account
    paths: list[tuple[str, str]]

    async def kept(self, id_: int) -> str:
        """The hash of a device's credential as it is stored."""
        snapshot = await self.services.registry.read(lambda registry: registry.snapshot())
        return next(kept for device, kept in snapshot.account_devices if device.id == id_)

    def signs_in(self, device_id: str, credential: str) -> bool:
        try:
            self.services.access.authenticate_mqtt(device_id, "ada", credential.encode())
        except NotAuthenticated:
            return False
        return True


@pytest.fixture
async def desk(services: Services, options: ConsoleOptions) -> AsyncIterator[Desk]:
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    devices = AccountDevices(
        services.registry, services.access, services.connect_limits, passwords, max_devices_per_account=5
    )
    services = replace(services, account_devices=devices)
    console = Console(services, options)
    app = build_app(services, [], options, WebSettings(), ca_certificate=None)
    account = await services.accounts.add("ada", PASSWORD)
    browsers = []
    for _ in range(2):
        browser = Browser("http://h")
        browser.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h")
        browsers.append(browser)
    assert (await browsers[0].sign_in("ada")).status_code == 303
    own = [route for route in AccountDevicePages(console, devices).routes() if isinstance(route, Route)]
    paths = [(next(iter((route.methods or set()) - {"HEAD"})), route.path) for route in own]
    yield Desk(browsers[0], browsers[1], services, devices, passwords, account, paths)
    for browser in browsers:
        await browser.client.aclose()
    passwords.close()


def _credentials(page: str) -> list[str]:
    """Client id, user name and password on the page that shows them."""
    found = re.findall(r"<dt>[^<]+</dt><dd>\s*<span class=\"secret\"><code>([^<]+)</code>", page)
    return [html.unescape(text) for text in found]


async def test_a_new_device_with_a_generated_credential(desk: Desk) -> None:
    assert "Add an account device" in (await desk.browser.get("/devices")).text
    assert (await desk.browser.get("/devices/account/new")).status_code == 200
    page = await desk.browser.post("/devices/account/new", {"device_id": "pump-1", "name": "The <pump>"})
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    client_id, username, password = _credentials(page.text)
    assert (client_id, username) == ("pump-1", "ada")
    assert desk.signs_in("pump-1", password)
    (device,) = await desk.devices.owned(desk.account.id)
    assert (device.device_id, device.name) == ("pump-1", "The <pump>")
    for text in ["The &lt;pump&gt;", "mosquitto_pub", "paho.mqtt", f'data-replace-url="/devices/account/{device.id}"']:
        assert text in page.text
    for path in (f"/devices/account/{device.id}", "/devices"):
        later = (await desk.browser.get(path)).text
        assert "pump-1" in later
        assert "The &lt;pump&gt;" in later
        assert password not in later


async def test_a_new_device_with_a_chosen_credential(desk: Desk) -> None:
    page = await desk.browser.post("/devices/account/new", {"device_id": "fan", "credential": CHOSEN})
    assert _credentials(page.text) == ["fan", "ada", CHOSEN]
    (device,) = await desk.devices.owned(desk.account.id)
    assert device.name == "fan"
    kept = await desk.kept(device.id)
    assert kept.startswith("$argon2id$")
    assert await desk.passwords.verify(CHOSEN, kept)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"device_id": ""}, "A device id has"),
        ({"device_id": "a/b"}, "A device id has"),
        ({"device_id": "x" * 33}, "A device id has"),
        ({"device_id": "taken"}, "There is a device taken already"),
        ({"device_id": "ok", "name": "x" * 256}, "At most 255"),
        ({"device_id": "ok", "name": "a\x07"}, "control characters"),
        ({"device_id": "ok", "credential": "hush!"}, "A credential has 6 to 255"),
        ({"device_id": "ok", "credential": "x" * 256}, "A credential has 6 to 255"),
        ({"device_id": "ok", "credential": "hush\x00hush"}, "control characters"),
    ],
)
async def test_what_cannot_be_is_said_and_no_credential_comes_back(desk: Desk, form: dict[str, str], says: str) -> None:
    device, _ = await desk.devices.create(desk.account.id, "taken")
    page = await desk.browser.post("/devices/account/new", {"credential": "long enough"} | form)
    assert page.status_code == 400
    assert says in page.text
    assert form.get("credential", "long enough") not in page.text
    assert await desk.devices.owned(desk.account.id) == [device]


async def test_the_limit_of_devices(desk: Desk) -> None:
    for number in range(5):
        await desk.devices.create(desk.account.id, f"d{number}")
    page = await desk.browser.post("/devices/account/new", {"device_id": "one-more"})
    assert page.status_code == 400
    assert "at most 5" in page.text


async def test_renaming(desk: Desk) -> None:
    device, _ = await desk.devices.create(desk.account.id, "pump")
    path = f"/devices/account/{device.id}"
    page = await desk.browser.follow(await desk.browser.post(path, {"name": "New"}))
    assert "Device saved." in page.text
    assert (await desk.devices.get_owned(desk.account.id, device.id)).name == "New"
    for name in ("", "x" * 256, "a\x07"):
        assert (await desk.browser.post(path, {"name": name})).status_code == 400


async def test_what_is_too_long_is_said_and_not_cut(desk: Desk) -> None:
    page = (await desk.browser.get("/devices/account/new")).text
    for field in ("device_id", "credential"):
        found = re.search(rf'<input [^>]*name="{field}"[^>]*>', page)
        assert found is not None
        assert "maxlength" not in found[0]
    answer = await desk.browser.post("/devices/account/new", {"device_id": "x" * 65, "credential": "y" * 2_000})
    assert answer.status_code == 400
    assert answer.text.count('class="field-error"') == 2


async def test_disabling_and_enabling(desk: Desk) -> None:
    device, credential = await desk.devices.create(desk.account.id, "pump")
    path = f"/devices/account/{device.id}"
    asked = f'action="{path}/disable" data-confirm="Disable this device? '
    assert asked in (await desk.browser.get(path)).text
    assert "Device disabled" in (await desk.browser.follow(await desk.browser.post(f"{path}/disable"))).text
    assert not desk.signs_in("pump", credential)
    assert "Device enabled" in (await desk.browser.follow(await desk.browser.post(f"{path}/enable"))).text
    assert desk.signs_in("pump", credential)


async def test_a_new_credential(desk: Desk) -> None:
    device, old = await desk.devices.create(desk.account.id, "pump")
    path = f"/devices/account/{device.id}/credential"
    page = await desk.browser.post(path, {"credential": ""})
    new = _credentials(page.text)[2]
    assert "The old credential no longer works" in page.text
    assert desk.signs_in("pump", new)
    assert not desk.signs_in("pump", old)
    assert _credentials((await desk.browser.post(path, {"credential": CHOSEN})).text)[2] == CHOSEN
    assert await desk.passwords.verify(CHOSEN, await desk.kept(device.id))
    page = await desk.browser.post(path, {"credential": "hush!"})
    assert page.status_code == 400
    assert "hush!" not in page.text
    assert await desk.passwords.verify(CHOSEN, await desk.kept(device.id))


async def test_deleting(desk: Desk) -> None:
    device, _ = await desk.devices.create(desk.account.id, "pump", "Pump")
    page = await desk.browser.follow(await desk.browser.post(f"/devices/account/{device.id}/delete"))
    assert "“Pump” was deleted" in page.text
    assert await desk.devices.owned(desk.account.id) == []


async def test_what_was_refused_is_told_to_the_owner(desk: Desk) -> None:
    device, _ = await desk.devices.create(desk.account.id, "pump")
    failure = SignInFailed("wrong password", account_device_id=device.id)
    desk.services.refusals.note_failed_sign_in(failure, "192.0.2.1")
    page = (await desk.browser.get(f"/devices/account/{device.id}")).text
    assert "sign-in refused: wrong password (from 192.0.2.1)" in page
    assert "1 refused" in (await desk.browser.get("/devices")).text


async def _bobs(desk: Desk) -> AccountDevice:
    bob = await desk.services.accounts.add("bob", PASSWORD)
    device, _ = await desk.devices.create(bob.id, "secret-pump", credential="bob's own")
    return device


@pytest.mark.parametrize("number", [None, 0, 99, 2**63, 10**30])
async def test_another_s_device_is_as_unknown_as_none(desk: Desk, number: int | None) -> None:
    theirs = await _bobs(desk)
    before = await desk.kept(theirs.id)
    tried = 0
    for method, pattern in desk.paths:
        if "{" not in pattern:
            continue
        tried += 1
        path = pattern.replace("{account_device_id:int}", str(theirs.id if number is None else number))
        form = {"name": "Stolen", "credential": "my own now"}
        response = await (desk.browser.get(path) if method == "GET" else desk.browser.post(path, form))
        assert response.status_code == 404, (method, path)
        assert "secret-pump" not in response.text
    assert tried == 6
    assert desk.services.access.account_device(theirs.id) == theirs
    assert await desk.kept(theirs.id) == before
    assert "secret-pump" not in (await desk.browser.get("/devices")).text


async def test_who_is_signed_out_gets_nothing(desk: Desk) -> None:
    theirs = await _bobs(desk)
    for method, pattern in desk.paths:
        path = pattern.replace("{account_device_id:int}", str(theirs.id))
        response = await (desk.stranger.get(path) if method == "GET" else desk.stranger.post(path))
        assert response.status_code == 303
        assert response.headers["location"].startswith("/sign-in")


async def test_a_form_of_another_site_does_nothing(desk: Desk) -> None:
    device, credential = await desk.devices.create(desk.account.id, "pump")
    for method, pattern in desk.paths:
        if method != "POST":
            continue
        path = pattern.replace("{account_device_id:int}", str(device.id))
        for form, headers in [({"csrf": "0" * 64}, {}), ({}, {"sec-fetch-site": "cross-site"})]:
            response = await desk.browser.post(path, {"device_id": "x", "name": "n"} | form, headers=headers)
            assert response.status_code == 403, path
    assert await desk.devices.owned(desk.account.id) == [device]
    assert desk.signs_in("pump", credential)
