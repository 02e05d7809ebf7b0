"""More than eight fields, units and display names: the settings form in a real browser, and the charts that follow."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import ChannelKeys, Server


def test_a_ninth_field_with_a_unit(
    page: Page, server: Server, channel: ChannelKeys, sign_in: Callable[[], None]
) -> None:
    sign_in()
    page.goto(f"/channels/{channel.id}/settings")
    expect(page.get_by_label("Field 9", exact=True)).to_be_hidden()
    page.get_by_text("More than eight fields").click()
    page.get_by_label("Field 9", exact=True).fill("rain")
    page.get_by_label("Unit of field 9", exact=True).fill("mm/h")
    page.get_by_label("Unit of field 1", exact=True).fill("°C")
    page.get_by_text("Names in updates, display names").click()
    page.get_by_label("Field 1: display name").fill("Air")
    page.get_by_label("Fields by name too").check()
    page.get_by_role("button", name="Save Channel").click()
    expect(page.get_by_text("Settings saved.")).to_be_visible()
    expect(page.get_by_label("Field 9", exact=True)).to_have_value("rain")  # its part of the form is open now
    page.get_by_label("Field 9: display name").fill("Rainfall")
    page.get_by_role("button", name="Save Channel").click()
    expect(page.get_by_label("Field 9: display name")).to_have_value("Rainfall")

    page.goto(f"/channels/{channel.id}")
    expect(page.locator("article[data-field]")).to_have_count(3)
    chart = page.get_by_role("article", name="Rainfall")
    reading = chart.locator("[data-last-value]")
    unit = "element => getComputedStyle(element, '::after').content"
    server.call("POST", "/update", f"api_key={channel.write_key}&rain=1.25&Temp=21.50")
    expect(reading).to_have_text("1.25")
    assert "mm/h" in reading.evaluate(unit)
    expect(page.get_by_role("article", name="Air").locator("[data-last-value]")).to_have_text("21.50")
    server.call("POST", "/update", f"api_key={channel.write_key}&rain=1.75")
    expect(reading).to_have_text("1.75")
    expect(chart.locator("canvas").first).to_be_visible()
    chart.locator(".u-over").hover()
    expect(chart.locator("[data-cursor]")).to_contain_text("mm/h")
    server.call("POST", "/update", f"api_key={channel.write_key}&rain=broken")
    expect(reading).to_have_text("broken")
    assert reading.evaluate(unit) == "none"


def test_the_form_on_a_phone(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    wide = server.create_channel("wide", field12="wind", unit12="m/s", label12="Wind", fields_by_name="true")
    page.set_viewport_size({"width": 360, "height": 800})
    sign_in()
    for path in (f"/channels/{wide.id}/settings", f"/channels/{wide.id}", "/channels/new"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.goto(f"/channels/{wide.id}/settings")
    expect(page.get_by_label("Unit of field 12", exact=True)).to_be_visible()
