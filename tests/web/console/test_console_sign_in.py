"""Signing in and out, against a running console."""

from __future__ import annotations

import asyncio
import re

import pytest
from console_site import PASSWORD, Browser, Site

from headwater.registry.entities import Account


async def test_the_front_door(site: Site) -> None:
    browser = site.browser()
    assert (await browser.get("/")).headers["location"] == "/sign-in"
    page = await browser.get("/sign-in")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"


async def test_pages_ask_to_sign_in_and_lead_back(site: Site) -> None:
    await site.account("ada")
    browser = site.browser()
    response = await browser.get("/devices/new")
    assert response.headers["location"] == "/sign-in?next=/devices/new"
    await browser.follow(response)
    response = await browser.post("/sign-in", {"name": "ada", "password": PASSWORD, "next": "/devices/new"})
    assert response.headers["location"] == "/devices/new"
    assert (await browser.follow(response)).status_code == 200
    assert (await browser.get("/")).headers["location"] == "/channels"
    assert (await browser.get("/sign-in")).headers["location"] == "/channels"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_the_way_back_never_leads_elsewhere(site: Site, target: str) -> None:
    await site.account("ada")
    browser = site.browser()
    await browser.get("/sign-in", params={"next": target})
    response = await browser.post("/sign-in", {"name": "ada", "password": PASSWORD, "next": target})
    assert response.headers["location"] == "/channels"


async def test_a_wrong_password_keeps_the_name(site: Site) -> None:
    await site.account("ada")
    browser = site.browser()
    response = await browser.sign_in("ada", "wrong password")
    assert response.status_code == 401
    assert 'value="ada"' in response.text
    assert "wrong password" not in response.text
    assert (await browser.sign_in("nobody", "wrong password")).status_code == 401
    assert (await browser.get("/channels")).status_code == 303


async def test_names_are_escaped(site: Site) -> None:
    response = await site.browser().sign_in('"><script>', "wrong password")
    assert "<script>" not in response.text.replace('<script src="/static', "").replace('<script type="module" src', "")


async def test_too_many_failures_say_how_long_to_wait(site: Site) -> None:
    await site.account("ada")
    browser = site.browser()
    statuses = [(await browser.sign_in("ada", "wrong password")).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    response = await browser.sign_in("ada")
    assert response.status_code == 429
    assert 0 < int(response.headers["retry-after"]) <= 300
    assert "5 minutes" in response.text


async def test_the_cookie_is_out_of_reach_of_scripts(site: Site) -> None:
    await site.account("ada")
    response = await site.browser().sign_in("ada")
    cookie = next(c for c in response.headers.get_list("set-cookie") if c.startswith("headwater_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
async def test_forms_of_other_sites_are_refused(site: Site, ada: Browser, headers: dict[str, str]) -> None:
    response = await ada.post("/channels/new", {"name": "Forged"}, headers=headers)
    assert response.status_code == 403
    stranger = site.browser()
    await stranger.get("/sign-in")
    response = await stranger.post("/sign-in", {"name": "ada", "password": PASSWORD}, headers=headers)
    assert response.status_code == 403
    assert (await ada.get("/channels")).text.count("Forged") == 0


async def test_a_form_needs_the_token_of_its_own_session(site: Site, ada: Browser) -> None:
    stranger = site.browser()
    await stranger.get("/sign-in")
    for token in ["", "0" * 64, stranger.token]:
        assert (await ada.post("/channels/new", {"name": "Forged", "csrf": token})).status_code == 403
        response = await stranger.post("/sign-in", {"name": "ada", "password": PASSWORD, "csrf": ada.token})
        assert response.status_code == 403


async def test_signing_out_ends_the_session_also_in_a_copied_cookie(site: Site, ada: Browser) -> None:
    copied = dict(ada.client.cookies)
    assert (await ada.get("/channels")).status_code == 200
    response = await ada.post("/sign-out")
    assert "You are signed out." in (await ada.follow(response)).text
    thief = site.browser()
    thief.client.cookies.update(copied)
    assert (await thief.get("/channels")).status_code == 303


async def test_a_session_runs_out(site: Site, ada: Browser) -> None:
    site.clock.shift_s = 14 * 24 * 3600 + 1
    assert (await ada.get("/channels")).headers["location"] == "/sign-in?next=/channels"
    assert (await ada.post("/channels/new", {"name": "Late"})).headers["location"] == "/sign-in"


async def test_an_empty_form_is_asked_again(site: Site) -> None:
    response = await site.browser().sign_in("", "")
    assert response.status_code == 400
    assert "Enter your name" in response.text


async def test_every_page_has_the_security_headers_and_no_inline_script(
    site: Site, ada: Browser, ada_account: Account
) -> None:
    channel = await site.channel(ada_account)
    device, _ = await site.services.devices.create(ada_account.id, "d", [])
    paths = [
        "/channels",
        "/channels/new",
        "/channels/public",
        "/devices",
        "/devices/new",
        f"/devices/{device.id}",
        "/profile",
        "/nothing",
    ]
    paths += [f"/channels/{channel.id}{rest}" for rest in ("", "/settings", "/api_keys", "/data", "/nothing")]
    paths += [f"/channels/{channel.id}{rest}" for rest in ("/public", "/sharing", "/import_export")]
    paths += ["/static/headwater.css", "/static/js/main.js", "/static/icons.svg", "/favicon.ico"]
    for path in paths:
        response = await ada.get(path)
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        if response.headers["content-type"].startswith("text/html"):
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", response.text), path


async def test_sign_ins_at_once_do_not_disturb_each_other(site: Site) -> None:
    names = [f"user{n}" for n in range(6)]
    for name in names:
        await site.account(name)
    browsers = [site.browser() for _ in names]
    await asyncio.gather(*(browser.sign_in(name) for browser, name in zip(browsers, names, strict=True)))
    for browser, name in zip(browsers, names, strict=True):
        assert f'class="who-name">{name}<' in (await browser.get("/channels")).text


async def test_static_files(site: Site) -> None:
    browser = site.browser()
    script = await browser.get("/static/js/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"
    again = await browser.get("/static/js/main.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304
    chart = await browser.get("/static/vendor/uplot-1.6.32/uPlot.iife.min.js")
    assert "immutable" in chart.headers["cache-control"]
    for path in ("/static/../console/pages.py", "/static/%2e%2e/console/pages.py", "/static/none.css", "/static/"):
        assert (await browser.get(path)).status_code == 404


async def test_a_cookie_that_has_signed_out_is_nobody_on_unknown_pages(site: Site, ada: Browser) -> None:
    cookies = dict(ada.client.cookies)
    assert "My Profile" in (await ada.get("/nowhere")).text
    await ada.post("/sign-out")
    later = site.browser()
    later.client.cookies.update(cookies)
    page = await later.get("/nowhere")
    assert page.status_code == 404
    assert "My Profile" not in page.text
