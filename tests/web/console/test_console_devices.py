"""MQTT devices in the console: credentials shown once, rights, and their end."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest
from console_site import PASSWORD, Browser, Site

from headwater.errors import NotAuthenticated
from headwater.model.principal import Grant
from headwater.registry.entities import Account, ChannelSettings
from headwater.services import Services
from headwater.services.connect_limits import claimed_client
from headwater.settings import WebSettings
from headwater.web.app import build_app
from headwater.web.console import ConsoleOptions


def _credentials(page: str) -> tuple[str, str]:
    """Client id and password on the page that shows them."""
    found = re.findall(r"<dt>[^<]+</dt><dd>\s*<span class=\"secret\"><code>([^<]+)</code>", page)
    assert len(found) == 3
    assert found[0] == found[1]
    return found[0], found[2]


async def test_a_new_device(site: Site, ada: Browser, ada_account: Account) -> None:
    assert "Add your first device" in (await ada.get("/devices")).text
    first, second = await site.channel(ada_account, "One"), await site.channel(ada_account, "Two")
    assert "Allow Publish to One" in (await ada.get("/devices/new")).text
    form = {"name": "Sensor <1>", "publish": [str(first.id)], "subscribe": [str(first.id), str(second.id)]}
    page = await ada.post("/devices/new", form)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "Sensor &lt;1&gt;" in page.text
    client_id, password = _credentials(page.text)
    principal = site.services.access.authenticate_mqtt(client_id, client_id, password.encode())
    device = site.services.access.device(principal.device_id or 0)
    assert device is not None
    assert device.grants == (Grant(first.id, True, True), Grant(second.id, False, True))
    for text in [f"channels/{first.id}/publish", "paho.mqtt", "/ca.crt", f'data-replace-url="/devices/{device.id}"']:
        assert text in page.text
    for path in (f"/devices/{device.id}", "/devices"):
        later = (await ada.get(path)).text
        assert client_id in later
        assert password not in later


@pytest.mark.parametrize(
    ("publish", "subscribe", "says", "says_not"),
    [
        (True, True, "add a second device", "a device of its own"),
        (True, False, "add a device of its own", "mosquitto_sub"),
        (False, True, "mosquitto_sub", "add a second device"),
    ],
)
async def test_credentials_say_that_they_are_for_one_connection(
    site: Site, ada: Browser, ada_account: Account, publish: bool, subscribe: bool, says: str, says_not: str
) -> None:
    channel = await site.channel(ada_account, fields={3: "Wind"})
    device, _ = await site.services.devices.create(ada_account.id, "d", [Grant(channel.id, publish, subscribe)])
    text = (await ada.post(f"/devices/{device.id}/password")).text
    assert "one connection at a time" in text
    assert says in text
    assert says_not not in text
    assert "field3=21.5" in text
    assert "field1" not in text
    assert (f"channels/{channel.id}/publish/{channel.write_key}" in text) == subscribe


async def test_with_an_operators_certificate_no_page_offers_a_ca(services: Services, options: ConsoleOptions) -> None:
    app = build_app(services, [], replace(options, has_own_ca=False), WebSettings(), ca_certificate=None)
    account = await services.accounts.add("ada", PASSWORD)
    channel = await services.channels.create(account.id, ChannelSettings(name="c", fields={1: "x"}))
    device, _ = await services.devices.create(account.id, "d", [Grant(channel.id, True, True)])
    browser = Browser("http://h")
    browser.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h")
    async with browser.client:
        assert (await browser.sign_in("ada")).status_code == 303
        pages = [await browser.get(path) for path in ("/profile", f"/devices/{device.id}")]
        pages.append(await browser.post(f"/devices/{device.id}/password"))
        await browser.post("/sign-out")
        pages.append(await browser.get("/sign-in"))
    assert [page.status_code for page in pages] == [200] * 4
    assert not any("ca.crt" in page.text for page in pages)


async def test_a_device_without_a_name(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    response = await ada.post("/devices/new", {"name": " ", "publish": str(channel.id)})
    assert response.status_code == 400
    assert "Give the device a name" in response.text
    assert re.search(rf'name="publish" value="{channel.id}"[^>]* checked', response.text)
    assert await site.services.devices.owned(ada_account.id) == []


@pytest.mark.parametrize("value", ["x", "-1", str(2**63), "9" * 5000])
async def test_senseless_channels(ada: Browser, value: str) -> None:
    assert (await ada.post("/devices/new", {"name": "d", "publish": value})).status_code == 400


async def test_more_channels_than_a_device_may_use(site: Site, ada: Browser) -> None:
    response = await ada.post("/devices/new", {"name": "d", "publish": [str(n) for n in range(1, 42)]})
    assert response.status_code == 400
    assert "at most 40 channels" in response.text


async def test_editing(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    device, _ = await site.services.devices.create(ada_account.id, "Old", [Grant(channel.id, True, False)])
    path = f"/devices/{device.id}"
    page = await ada.follow(await ada.post(path, {"name": "New", "subscribe": str(channel.id)}))
    assert "Device saved." in page.text
    changed = site.services.access.device(device.id)
    assert changed is not None
    assert (changed.name, changed.grants) == ("New", (Grant(channel.id, False, True),))
    response = await ada.post(path, {"name": ""})
    assert response.status_code == 400
    assert (await ada.post(path, {"name": "x" * 256})).status_code == 400


async def test_disabling_and_enabling(site: Site, ada: Browser, ada_account: Account) -> None:
    device, password = await site.services.devices.create(ada_account.id, "d", [])
    page = await ada.follow(await ada.post(f"/devices/{device.id}/disable"))
    assert "Device disabled" in page.text
    with pytest.raises(NotAuthenticated):
        site.services.access.authenticate_mqtt(device.client_id, device.username, password.encode())
    await ada.follow(await ada.post(f"/devices/{device.id}/enable"))
    assert site.services.access.authenticate_mqtt(device.client_id, device.username, password.encode())


async def test_a_new_password(site: Site, ada: Browser, ada_account: Account) -> None:
    device, old = await site.services.devices.create(ada_account.id, "d", [])
    client_id, new = _credentials((await ada.post(f"/devices/{device.id}/password")).text)
    assert (client_id, new != old) == (device.client_id, True)
    assert site.services.access.authenticate_mqtt(client_id, client_id, new.encode())
    with pytest.raises(NotAuthenticated):
        site.services.access.authenticate_mqtt(client_id, client_id, old.encode())


async def test_deleting(site: Site, ada: Browser, ada_account: Account) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "Pump", [])
    page = await ada.follow(await ada.post(f"/devices/{device.id}/delete"))
    assert "“Pump” was deleted" in page.text
    assert site.services.access.device(device.id) is None


async def test_refused_messages_are_told_to_the_owner(site: Site, ada: Browser, ada_account: Account) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "d", [])
    site.services.refusals.note("not allowed to publish", device_id=device.id)
    assert "not allowed to publish" in (await ada.get(f"/devices/{device.id}")).text
    assert "1 refused" in (await ada.get("/devices")).text


async def test_the_last_few_reasons_are_told(site: Site, ada: Browser, ada_account: Account) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "d", [])
    page = (await ada.get(f"/devices/{device.id}")).text
    assert "refusal" not in page
    for reason in ("oldest", "old", "<new>", "old"):
        site.services.refusals.note(f"reason {reason}", device_id=device.id)
    page = (await ada.get(f"/devices/{device.id}")).text
    assert "4 refusals for this device" in page
    assert re.findall(r"<li>reason (\S+) <small>(\d times, last )?", page) == [
        ("old", "2 times, last "),
        ("&lt;new&gt;", ""),
        ("oldest", ""),
    ]


@pytest.mark.parametrize("kind", ["MQTT device", "account device"])
async def test_a_block_is_told_and_a_new_secret_lifts_it(
    site: Site, ada: Browser, ada_account: Account, kind: str
) -> None:
    services, limits = site.services, site.services.connect_limits
    if kind == "MQTT device":
        device, _ = await services.devices.create(ada_account.id, "d", [])
        path, renewal, claim = f"/devices/{device.id}", "password", claimed_client(device.username, device.client_id)
    else:
        account_device, _ = await services.account_devices.create(ada_account.id, "pump")
        path, renewal, claim = f"/devices/account/{account_device.id}", "credential", claimed_client("ada", "pump")
    for _ in range(3):
        assert "blocked until" not in (await ada.get(path)).text
        assert limits.check("192.0.2.7", claim) is None
        limits.failed("192.0.2.7", claim)
    page = " ".join((await ada.get(path)).text.split())
    until = r"blocked until <time [^>]+>\d\d:\d\d:\d\d UTC</time></b> \(for \d+ min more\)"
    assert re.search(until + r", after 3 failed sign-ins from 192.0.2.7\.", page)
    assert limits.check("192.0.2.7", claim)
    assert "from 192.0.2.7; 1 attempt refused since." in " ".join((await ada.get(path)).text.split())
    assert (await ada.post(f"{path}/{renewal}")).status_code == 200
    assert limits.check("192.0.2.7", claim) is None
    assert "blocked until" not in (await ada.get(path)).text


async def test_of_many_blocks_a_few_are_told(site: Site, ada: Browser, ada_account: Account) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "d", [])
    limits, claim = site.services.connect_limits, claimed_client(device.username, device.client_id)
    for host, more in ((3, ""), (4, "And 1 more such block for"), (200, "And 197 more such blocks for")):
        for number in range(3 * host):
            if limits.check(f"192.0.2.{number // 3}", claim) is None:
                limits.failed(f"192.0.2.{number // 3}", claim)
        page = " ".join((await ada.get(f"/devices/{device.id}")).text.split())
        assert page.count("blocked until") == 3
        assert f"failed sign-ins from 192.0.2.{host - 1}. A new password lifts all blocks at once." in page
        assert re.findall(r"And \d+ more such blocks? for", page) == [more][: bool(more)]


@pytest.mark.parametrize(
    ("path", "hints"),
    [
        ("/devices/new", ["by which the broker knows the device", "any characters", "the password only there"]),
        (
            "/devices/account/new",
            ["by which the broker knows it", "1 to 32 letters without accents", "6 characters or more", "shown once"],
        ),
    ],
)
async def test_the_forms_say_what_is_asked_for(ada: Browser, path: str, hints: list[str]) -> None:
    page = (await ada.get(path)).text
    assert [hint for hint in hints if hint not in page] == []
