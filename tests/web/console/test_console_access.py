"""Nobody sees another's things: every route of the console, asked by a stranger and by somebody signed out."""

from __future__ import annotations

import pytest
from console_site import Browser, Site
from starlette.routing import Route

from fake_presence import FakeBroker
from headwater.model.principal import Grant
from headwater.registry.entities import Account
from headwater.services import Services
from headwater.services.request_template import RequestTemplate
from headwater.services.rules.definitions import Draft, Publish, Silence, Watch
from headwater.store.aggregates import Function
from headwater.web import console
from headwater.web.console import ConsoleOptions

PUBLIC = {"/", "/sign-in", "/favicon.ico", "/channels/public"}


def _routes(services: Services, options: ConsoleOptions) -> list[tuple[str, str]]:
    """Method and path of every route."""
    return [
        (next(iter((route.methods or set()) - {"HEAD"})), route.path)
        for route in console.routes(console.Console(services, options))
        if isinstance(route, Route)
    ]


async def _filled(site: Site, account: Account) -> dict[str, int]:
    """Ids of things that an account owns, by their names in paths."""
    channel = await site.channel(account)
    device, _ = await site.services.devices.create(account.id, "d", [Grant(channel.id, True, True)])
    account_device, _ = await site.services.account_devices.create(account.id, "thermometer")
    token, _ = await site.services.accounts.add_token(account.id, "t")
    rule = await site.services.rollups.add(account.id, channel.id, window_s=60, functions=(Function.MEAN,), keep_s=None)
    thing_http = await site.services.thing_https.create(account.id, "t", RequestTemplate("http://lamp.example/"))
    talkback = await site.services.talkbacks.create(account.id, "door")
    command = await site.services.talkbacks.add_command(account.id, talkback.id, "ON")
    draft = Draft("r", Watch(Silence(5)), channel.id, (Publish("a", "b"),))
    react = await site.services.rules.create(account.id, "react", draft)
    broker = FakeBroker()
    site.services.presence.attach(broker)
    return {
        "channel_id": channel.id,
        "key_id": channel.api_keys[1].id,
        "device_id": device.id,
        "account_device_id": account_device.id,
        "token_id": token.id,
        "rollup_id": rule.id,
        "entry_id": (await site.write(channel, field1="1")).entry_id,
        "thing_http_id": thing_http.id,
        "talkback_id": talkback.id,
        "command_id": command.id,
        "rule_id": react.id,
        "position": 0,
        "field_number": 1,
        "number": broker.connect(account_id=account.id, device_id=device.id).number,
    }


def _path(pattern: str, ids: dict[str, int | str]) -> str:
    for name, number in ids.items():
        pattern = pattern.replace(f"{{{name}:int}}", str(number))
    assert "{" not in pattern
    return pattern


async def test_a_stranger_finds_nothing(site: Site, ada: Browser, options: ConsoleOptions) -> None:
    bob = await site.account("bob")
    ids = await _filled(site, bob)
    requests = await site.services.thing_https.owned(bob.id)
    before = (site.services.access.channel(ids["channel_id"]), site.services.access.device(ids["device_id"]))
    tried = 0
    for method, pattern in _routes(site.services, options):
        if "{" not in pattern:
            continue
        tried += 1
        form = {
            "name": "Stolen",
            "url": "http://stolen.example/",
            "method": "GET",
            "http_version": "1.1",
            "confirmation": str(ids["channel_id"]),
            "note": "Stolen",
            "window": "60",
            "keep": "0",
            "aggregate": "mean",
            "command_string": "Stolen",
        }
        path = _path(pattern, ids)
        response = await (ada.get(path) if method == "GET" else ada.post(path, form))
        assert response.status_code == 404, (method, path)
    assert tried >= 15
    assert before == (site.services.access.channel(ids["channel_id"]), site.services.access.device(ids["device_id"]))
    assert len(await site.services.accounts.tokens(bob.id)) == 1
    assert await site.services.thing_https.owned(bob.id) == requests
    assert len(site.services.rollups.of(ids["channel_id"])) == 1
    (talkback,) = site.services.talkbacks.owned(bob.id)
    assert [command.command_string for command in (await site.services.talkbacks.commands(talkback)).waiting] == ["ON"]
    (react,) = await site.services.rules.owned(bob.id)
    assert (react.name, react.is_enabled) == ("r", True)
    assert await site.services.rules.history(bob.id, react.id) == []


async def test_a_stranger_cannot_authorise_anothers_channel(site: Site, ada: Browser, ada_account: Account) -> None:
    ids = await _filled(site, await site.account("bob"))
    response = await ada.post("/devices/new", {"name": "Spy", "subscribe": str(ids["channel_id"])})
    assert response.status_code == 400
    device, _ = await site.services.devices.create(ada_account.id, "d", [])
    response = await ada.post(f"/devices/{device.id}", {"name": "Spy", "subscribe": str(ids["channel_id"])})
    assert response.status_code == 400
    assert site.services.access.device(device.id) == device


async def test_who_is_signed_out_gets_nothing(site: Site, options: ConsoleOptions) -> None:
    ids = await _filled(site, await site.account("bob"))
    stranger = site.browser()
    for method, pattern in _routes(site.services, options):
        if pattern in PUBLIC:
            continue
        path = _path(pattern, ids)
        response = await (stranger.get(path) if method == "GET" else stranger.post(path))
        if path.endswith(("/data", "/live")):
            assert response.status_code == 401
        else:
            assert response.status_code == 303
            assert response.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("number", ["0", str(2**63), "9" * 30, "9" * 5000])
async def test_ids_that_cannot_be_are_unknown(site: Site, ada: Browser, options: ConsoleOptions, number: str) -> None:
    names = "channel_id key_id device_id account_device_id token_id rollup_id entry_id number"
    ids = dict.fromkeys(
        [*names.split(), *["thing_http_id", "talkback_id", "command_id", "rule_id", "position", "field_number"]],
        number,
    )
    for method, pattern in _routes(site.services, options):
        if "{" in pattern:
            path = _path(pattern, ids)
            response = await (
                ada.get(path) if method == "GET" else ada.post(path, {"name": "n", "confirmation": number})
            )
            assert response.status_code == 404, (method, path[:80])


async def test_wrong_methods_get_the_friendly_page(site: Site, ada: Browser) -> None:
    for method, path in [
        ("PUT", "/channels/new"),
        ("DELETE", "/channels/1"),
        ("GET", "/sign-out"),
        ("POST", "/channels"),
    ]:
        response = await ada.client.request(method, path)
        assert response.status_code == 405
        assert "Allow" in response.headers
        assert "That is not allowed" in response.text


async def test_the_console_stays_away_from_the_dialects_paths(services: Services, options: ConsoleOptions) -> None:
    patterns = [path for _, path in _routes(services, options)]
    for pattern in patterns:
        last = pattern.rsplit("/", 1)[1]
        assert "." not in last or pattern == "/favicon.ico"
        assert not {"feeds", "fields", "field", "feed", "status", "charts"} & set(pattern.split("/"))
