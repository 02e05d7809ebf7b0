"""One's own account: time zone, keys, tokens, password."""

from __future__ import annotations

import re

import pytest
from console_site import PASSWORD, Browser, Site

from headwater.registry.entities import Account

NEW_PASSWORD = "a new password"


def _account(site: Site) -> Account:
    account = site.services.access.account_named("ada")
    assert account is not None
    return account


async def test_time_zone(site: Site, ada: Browser) -> None:
    assert 'data-time-zone=""' in (await ada.get("/profile")).text
    page = await ada.follow(await ada.post("/profile/time_zone", {"time_zone": "Europe/Berlin"}))
    assert 'data-time-zone="Europe/Berlin"' in page.text
    assert _account(site).time_zone == "Europe/Berlin"
    for zone in ("Nowhere/City", "", "../etc/passwd"):
        assert (await ada.post("/profile/time_zone", {"time_zone": zone})).status_code == 400
    await ada.follow(await ada.post("/profile/time_zone", {"time_zone": "UTC"}))
    assert 'data-time-zone=""' in (await ada.get("/profile")).text


async def test_new_keys(site: Site, ada: Browser) -> None:
    before = _account(site)
    await ada.follow(await ada.post("/profile/user_api_key"))
    page = await ada.follow(await ada.post("/profile/mqtt_api_key"))
    after = _account(site)
    assert after.user_api_key != before.user_api_key
    assert after.mqtt_api_key != before.mqtt_api_key
    assert after.user_api_key in page.text
    assert before.user_api_key not in page.text


async def test_a_token_is_shown_once(site: Site, ada: Browser, ada_account: Account) -> None:
    page = await ada.post("/profile/tokens", {"name": "for <me>"})
    assert page.status_code == 200
    assert "for &lt;me&gt;" in page.text
    match = re.search(r"shown <b>only now</b>.*?<code>([^<]+)</code>", page.text, re.DOTALL)
    assert match is not None
    owner = site.services.access.account_of_key(match[1])
    assert owner is not None
    assert owner.id == ada_account.id
    assert match[1] not in (await ada.get("/profile")).text
    token = (await site.services.accounts.tokens(ada_account.id))[0]
    await ada.follow(await ada.post(f"/profile/tokens/{token.id}/delete"))
    assert site.services.access.account_of_key(match[1]) is None


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\x00b"])
async def test_a_token_needs_a_fitting_name(site: Site, ada: Browser, ada_account: Account, name: str) -> None:
    assert (await ada.post("/profile/tokens", {"name": name})).status_code == 400
    assert await site.services.accounts.tokens(ada_account.id) == []


def _form(current: str = PASSWORD, new: str = NEW_PASSWORD, again: str | None = None) -> dict[str, str]:
    return {"current_password": current, "new_password": new, "new_password_again": new if again is None else again}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (_form(current="wrong one"), "not your current password"),
        (_form(current=""), "sign in with now"),
        (_form(new="s8ort"), "At least 8 characters"),
        (_form(new="x" * 1025), "At most 1024 characters"),
        (_form(again="another one"), "two new passwords differ"),
    ],
)
async def test_passwords_that_are_not_taken(site: Site, ada: Browser, form: dict[str, str], message: str) -> None:
    response = await ada.post("/profile/password", form)
    assert response.status_code == 400
    assert message in response.text
    assert form["new_password"] not in response.text
    assert (await site.browser().sign_in("ada")).status_code == 303


async def test_a_new_password_ends_every_other_session(site: Site, ada: Browser) -> None:
    other = site.browser()
    await other.sign_in("ada")
    page = await ada.follow(await ada.post("/profile/password", _form()))
    assert "Password changed." in page.text
    assert (await other.get("/channels")).status_code == 303
    assert (await other.sign_in("ada")).status_code == 401
    assert (await other.sign_in("ada", NEW_PASSWORD)).status_code == 303


async def test_guessing_the_current_password_is_limited(ada: Browser) -> None:
    statuses = [(await ada.post("/profile/password", _form(current="a guess"))).status_code for _ in range(11)]
    assert statuses == [400] * 10 + [429]
