"""The first steps of a new user in a real browser, with a real device beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from server import ADMIN_NAME, ADMIN_PASSWORD, Server, require_program

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = require_program("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield opened
    context.close()
    assert problems == []


def sign_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Name").fill(ADMIN_NAME)
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="My Channels")).to_be_visible()


def publish(server: Server, credentials: dict[str, str], channel_id: str, message: str) -> None:
    command = [require_program("mosquitto_pub"), "-h", "localhost", "-p", str(server.mqtt_port), "-q", "1"]
    command += ["-i", credentials["Client ID"], "-u", credentials["Username"], "-P", credentials["Password"]]
    command += ["-t", f"channels/{channel_id}/publish", "-m", message]
    subprocess.run(command, check=True, timeout=20)


def test_from_sign_in_to_a_moving_chart(page: Page, server: Server) -> None:
    sign_in(page)

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
