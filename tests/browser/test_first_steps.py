"""The first steps of a new user in a real browser, with a real device beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from playwright.sync_api import Page, expect

from server import Server, require_program


def publish(server: Server, credentials: dict[str, str], channel_id: str, message: str) -> None:
    command = [require_program("mosquitto_pub"), "-h", "localhost", "-p", str(server.mqtt_port), "-q", "1"]
    command += ["-i", credentials["Client ID"], "-u", credentials["Username"], "-P", credentials["Password"]]
    command += ["-t", f"channels/{channel_id}/publish", "-m", message]
    subprocess.run(command, check=True, timeout=20)


def test_from_sign_in_to_a_moving_chart(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    sign_in()

    page.goto("/channels/new")
    page.get_by_label("Name", exact=True).fill("Greenhouse")
    page.get_by_label("Field 1", exact=True).fill("Temperature")
    page.get_by_label("Field 2", exact=True).fill("Humidity")
    page.get_by_role("button", name="Save Channel").click()
    expect(page.get_by_role("heading", name="Greenhouse")).to_be_visible()
    channel_id = page.url.rstrip("/").rsplit("/", 1)[1]
    expect(page.get_by_text(f"Channel ID: {channel_id}")).to_be_visible()

    page.goto("/devices")
    page.get_by_role("link", name="Add a new device").first.click()
    page.get_by_label("Name", exact=True).fill("Greenhouse sensor")
    row = page.get_by_role("row", name="Greenhouse")
    row.get_by_label("Allow Publish").check()
    page.get_by_role("button", name="Add Device").click()
    credentials = {
        name: page.locator(f"dt:has-text('{name}') + dd code").inner_text()
        for name in ("Client ID", "Username", "Password")
    }

    page.goto(f"/channels/{channel_id}")
    charts = page.locator("article[data-field]")
    expect(charts).to_have_count(2)
    first_value = charts.nth(0).locator("[data-last-value]")
    canvas = charts.nth(0).locator("canvas").first
    publish(server, credentials, channel_id, "field1=20.5&field2=40")
    expect(first_value).to_have_text("20.5")
    publish(server, credentials, channel_id, "field1=21.5&field2=41")
    expect(first_value).to_have_text("21.5")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    publish(server, credentials, channel_id, "field1=25&field2=42")
    expect(first_value).to_have_text("25")
    page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before])
    expect(page.locator("[data-entry-count]")).to_have_text("3")
