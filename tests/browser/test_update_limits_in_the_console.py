"""Setting a limit on updates in a real browser, and what the channel's page makes of it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import ChannelKeys, Server


def update(server: Server, channel: ChannelKeys, **fields: str) -> bytes:
    return server.call("POST", "/update", urllib.parse.urlencode({"api_key": channel.write_key, **fields})).body


def test_merging_moves_the_charts_of_an_open_page(
    page: Page, server: Server, channel: ChannelKeys, sign_in: Callable[[], None]
) -> None:
    sign_in()
    page.goto(f"/channels/{channel.id}/settings")
    form = page.get_by_role("form", name="Update limit")
    seconds = form.get_by_label("Seconds between updates")
    expect(form.get_by_label("As in my profile")).to_be_checked()
    expect(seconds).to_be_hidden()
    form.get_by_label("Merge").check()
    seconds.fill("3600")
    form.get_by_role("button").click()
    expect(page.get_by_text("Update limit saved.")).to_be_visible()
    expect(page.get_by_label("Merge")).to_be_checked()

    page.goto(f"/channels/{channel.id}")
    expect(page.get_by_text("Live")).to_be_visible()
    values = page.locator("[data-last-value]")
    assert update(server, channel, field1="20.5") == b"1"
    expect(values.nth(0)).to_have_text("20.5")
    assert update(server, channel, field1="30", field2="40") == b"1"
    expect(values.nth(0)).to_have_text("30")
    expect(values.nth(1)).to_have_text("40")
    assert update(server, channel, field2="on") == b"1"
    expect(values.nth(1)).to_have_text("on")
    expect(page.locator("[data-entry-count]")).to_have_text("1")
    page.reload()
    expect(values.nth(0)).to_have_text("30")
    expect(values.nth(1)).to_have_text("on")
    expect(page.get_by_text("Merge, one update every 3,600 s. 2 updates merged")).to_be_visible()


def test_a_limit_for_every_channel(page: Page, sign_in: Callable[[], None]) -> None:
    sign_in()
    page.goto("/profile")
    form = page.get_by_role("form", name="Update limit")
    expect(form.get_by_label("No limit")).to_be_checked()
    form.get_by_label("Queue").check()
    form.get_by_label("Seconds between updates").fill("15")
    form.get_by_role("button").click()
    expect(page.get_by_text("Update limit saved.")).to_be_visible()
    expect(form.get_by_label("Queue")).to_be_checked()
    form.get_by_label("No limit").check()
    form.get_by_role("button").click()
    expect(form.get_by_label("No limit")).to_be_checked()
