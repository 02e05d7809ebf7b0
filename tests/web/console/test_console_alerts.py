"""Alerts in the console, and the address that they go to."""

from __future__ import annotations

import pytest
from console_site import Browser, Site

from headwater.registry.entities import Account


async def test_an_address_is_entered_and_removed(site: Site, ada: Browser, ada_account: Account) -> None:
    def email() -> str:
        account = site.services.access.account(ada_account.id)
        assert account is not None
        return account.email

    page = await ada.follow(await ada.post("/profile/email", {"email": " ada@example.com "}))
    assert 'value="ada@example.com"' in page.text
    assert email() == "ada@example.com"
    response = await ada.post("/profile/email", {"email": "<b>nobody</b>"})
    assert response.status_code == 400
    assert "anna@example.com" in response.text
    assert 'value="&lt;b&gt;nobody&lt;/b&gt;"' in response.text
    assert email() == "ada@example.com"
    await ada.follow(await ada.post("/profile/email", {"email": ""}))
    assert email() == ""


async def test_a_test_alert_says_what_is_missing(site: Site, ada: Browser, ada_account: Account) -> None:
    page = (await ada.get("/profile/alerts")).text
    assert "There were none so far" in page
    assert ada_account.alerts_api_key in page
    for status in (409, 409, 429):
        response = await ada.post("/profile/alerts/test")
        assert response.status_code == status
    page = (await ada.get("/profile/alerts")).text
    assert page.count("mail.host") == 3
    assert page.count("Test alert") == 2


@pytest.mark.usefixtures("ada_account")
async def test_nobody_sees_the_alerts_of_others(site: Site, ada: Browser) -> None:
    await ada.post("/profile/alerts/test")
    await site.account("bob")
    bob = site.browser()
    await bob.sign_in("bob")
    assert "There were none so far" in (await bob.get("/profile/alerts")).text
