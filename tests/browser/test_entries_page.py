"""The entries of a channel in a real browser: one is changed, one deleted after a question, on phones too."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from server import ChannelKeys, Server


@pytest.mark.parametrize("width", [1280, 360])
def test_an_entry_is_changed_and_one_deleted(
    page: Page, sign_in: Callable[[], None], server: Server, channel: ChannelKeys, width: int
) -> None:
    updates = [{"created_at": str(1_767_323_045 + n), "field1": str(n), "field2": "x" * 200} for n in range(60)]
    body = json.dumps({"write_api_key": channel.write_key, "updates": updates})
    assert server.call("POST", f"/channels/{channel.id}/bulk_update.json", body).status == 202
    sign_in()
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"/channels/{channel.id}")
    page.get_by_role("link", name="Entries", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is beside the screen"
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Edit entry 7").click()
    page.get_by_label("Temp").fill("21.5")
    page.get_by_label("Hum").fill("")
    page.get_by_role("button", name="Save Entry").click()
    expect(page.get_by_text("Entry 7 was changed.")).to_be_visible()
    expect(page.get_by_text("21.5")).to_be_visible()

    page.get_by_role("button", name="Delete entry 6").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete entry 6").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Entry 6 was deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="Edit entry 6")).to_have_count(0)
    feeds = {feed["entry_id"]: feed for feed in server.feeds(channel)}
    assert (feeds[7]["field1"], feeds[7]["field2"]) == ("21.5", None)
    assert feeds.keys() == {*range(1, 61)} - {6}
