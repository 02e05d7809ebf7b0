"""The list of ThingHTTPs in a real browser."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import Server


def test_a_long_address_leaves_the_key_in_one_line(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    sign_in()
    page.goto("/apps/thinghttp/new")
    page.get_by_label("Name", exact=True).fill("Weather in the valley")
    page.get_by_label("URL", exact=True).fill("https://example.org/" + "p" * 300)
    page.get_by_role("button", name="Save ThingHTTP").click()
    expect(page.get_by_text("ThingHTTP saved.")).to_be_visible()
    page.goto("/apps/thinghttp")
    key = page.locator("td[data-label=Key] code")
    assert key.evaluate("code => code.getBoundingClientRect().height") < 32
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
