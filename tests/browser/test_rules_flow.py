"""A React in a real browser: made, tried with the Test button, and run by an entry."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import Server, wait_until


def test_a_react_from_its_form_to_its_history(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    channel = server.create_channel("Glasshouse")
    sign_in()
    page.goto(f"/channels/{channel.id}")
    page.get_by_role("link", name="React").click()
    page.get_by_role("link", name="New React").first.click()
    page.get_by_label("Name", exact=True).fill("Glasshouse too hot")
    number, radius = page.get_by_label("the number", exact=True), page.get_by_label("a circle of")
    expect(number).to_be_visible()
    expect(radius).to_be_hidden()
    page.get_by_text("Geofence").click()
    expect(radius).to_be_visible()
    expect(number).to_be_hidden()
    page.get_by_text("Numeric").click()
    page.get_by_label("If field").first.select_option("Field 1: Temp")
    number.fill("30")
    page.get_by_role("button", name="Save React").click()

    expect(page.get_by_text("Now say what it does")).to_be_visible()
    page.get_by_text("MQTT message").click()
    page.get_by_label("Topic", exact=True).fill("alarms/glasshouse")
    page.get_by_role("textbox", name="Payload").fill("%%field1%%")
    page.get_by_role("button", name="Save Action").click()
    expect(page.get_by_text("Field 1 (Temp) is greater than 30")).to_be_visible()

    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("row", name="a test")).to_contain_text("MQTT alarms/glasshouse")
    update = server.call("GET", "/update", api_key=channel.write_key, field1="31.5")
    assert update.status == 200
    run = page.get_by_role("row", name="field1 is “31.5” (> 30)")
    wait_until(lambda: page.reload() and run.count(), what="the run in the history")
    page.get_by_role("button", name="Delete React").click()
    page.locator("[data-confirm-yes]").click()
    expect(page.get_by_text("Glasshouse too hot was deleted.")).to_be_visible()


def test_names_without_a_blank_stay_on_a_phone_s_screen(
    page: Page, server: Server, sign_in: Callable[[], None]
) -> None:
    channel = server.create_channel("W" * 255, tags="T" * 64)
    page.set_viewport_size({"width": 360, "height": 800})
    sign_in()
    page.goto(f"/apps/react/new?channel={channel.id}")
    page.get_by_label("Name", exact=True).fill("R" * 64)
    page.get_by_label("the number", exact=True).fill("30")
    page.get_by_role("button", name="Save React").click()
    expect(page.get_by_role("heading", name="New action")).to_be_visible()
    rule = page.url.removesuffix("/actions/new")
    for path in (page.url, rule, f"{rule}/edit", f"/apps/react?channel={channel.id}", f"/channels/{channel.id}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, path
