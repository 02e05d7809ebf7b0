"""A TalkBack in a real browser, and a device that asks it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import Server


def test_a_queue_from_the_first_command_to_its_end(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    sign_in()
    page.get_by_role("link", name="Apps").click()
    page.get_by_role("link", name="TalkBack").click()
    page.get_by_role("link", name="New TalkBack").first.click()
    page.get_by_label("Name", exact=True).fill("Garage")
    page.get_by_role("button", name="Save TalkBack").click()
    expect(page.get_by_role("heading", name="Garage")).to_be_visible()
    talkback_id = page.url.rsplit("/", 1)[1]
    key = page.locator("section:has(#key) .secret code").inner_text()

    queue = page.get_by_role("list", name="Waiting commands")
    for text in ("OPEN", "CLOSE"):
        page.get_by_label("New command").fill(text)
        page.get_by_role("button", name="Add Command").click()
    expect(queue.locator("li")).to_have_count(2)
    queue.locator("summary").nth(1).click()
    queue.locator("li").nth(1).get_by_label("Command").fill("BLINK")
    queue.locator("li").nth(1).get_by_label("Position").fill("1")
    queue.get_by_role("button", name="Save").click()
    expect(queue.locator("summary code").first).to_have_text("BLINK")

    answer = server.call("GET", f"/talkbacks/{talkback_id}/commands/execute", api_key=key)
    assert answer.body == b"BLINK"
    page.reload()
    expect(queue.locator("summary code")).to_have_text(["OPEN"])
    expect(page.locator("section:has(#executed) li code")).to_have_text("BLINK")

    page.get_by_role("button", name="Generate New API Key").click()
    page.locator("[data-confirm-yes]").click()
    expect(page.get_by_text("There is a new API key.")).to_be_visible()
    assert server.call("GET", f"/talkbacks/{talkback_id}/commands/execute", api_key=key).status == 401
    page.set_viewport_size({"width": 360, "height": 780})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="Delete TalkBack").click()
    page.locator("[data-confirm-yes]").click()
    expect(page.get_by_text("“Garage” was deleted")).to_be_visible()
