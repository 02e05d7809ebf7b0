"""Channels that others may see, in real browsers: a visitor's, and that of somebody it is shared with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from server import Server, headwater

PASSWORD = "a long enough password"


@pytest.fixture
def visitor(browser: Browser, server: Server) -> Iterator[Page]:
    """Another browser, in which nobody is signed in."""
    context = browser.new_context(base_url=server.url)
    yield context.new_page()
    context.close()


def test_a_visitor_watches_a_public_channel(visitor: Page, server: Server) -> None:
    tag = f"t{secrets.token_hex(4)}"
    channel = server.create_channel("Harbour", public_flag="true", tags=tag, latitude="57.7", longitude="11.9")
    server.call("GET", "/update", api_key=channel.write_key, field1="1")
    visitor.goto("/channels/public")
    visitor.get_by_label("Find channels by tag").fill(tag)
    visitor.keyboard.press("Enter")
    visitor.get_by_role("link", name="Harbour").click()
    expect(visitor.get_by_role("heading", name="Harbour")).to_be_visible()
    expect(visitor.get_by_text("57.7, 11.9")).to_be_visible()
    expect(visitor.locator("[data-live-text]")).to_have_text("Live")
    reading = visitor.locator("#chart-1 [data-last-value]")
    expect(reading).to_have_text("1")
    server.call("GET", "/update", api_key=channel.write_key, field1="2.5")
    expect(reading).to_have_text("2.5")
    assert channel.write_key not in visitor.content()
    visitor.get_by_role("link", name="Sign in").click()
    assert visitor.url.endswith(f"/sign-in?next=/channels/{channel.id}")


def test_a_channel_is_shared_and_taken_back(
    page: Page, visitor: Page, server: Server, sign_in: Callable[[], None]
) -> None:
    name = f"reader{secrets.token_hex(4)}"
    headwater("account", "add", name, "--password-stdin", "--data", server.data, stdin=PASSWORD)
    channel = server.create_channel(f"Cellar of {name}")
    sign_in()
    page.goto(f"/channels/{channel.id}")
    page.get_by_role("link", name="Sharing").click()
    names = page.get_by_label("Names of accounts on this server")
    expect(names).to_be_hidden()
    page.get_by_label("Share channel view only with the following users").check()
    names.fill(name)
    page.get_by_role("button", name="Save Sharing").click()
    expect(page.get_by_text("shared with the people you named")).to_be_visible()

    visitor.goto("/sign-in")
    visitor.get_by_label("Name").fill(name)
    visitor.get_by_label("Password").fill(PASSWORD)
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.get_by_role("heading", name="Shared with me")).to_be_visible()
    visitor.get_by_role("link", name=f"Cellar of {name}").click()
    state = visitor.locator("[data-live-text]")
    expect(state).to_have_text("Live")
    server.call("GET", "/update", api_key=channel.write_key, field1="7")
    expect(visitor.locator("#chart-1 [data-last-value]")).to_have_text("7")
    expect(visitor.get_by_role("link", name="API Keys")).to_have_count(0)

    page.get_by_label("Keep channel view private").check()
    page.get_by_role("button", name="Save Sharing").click()
    expect(page.get_by_text("The channel is private")).to_be_visible()
    expect(state).to_have_text("Ended")
    visitor.reload()
    expect(visitor.get_by_role("heading", name="There is nothing here")).to_be_visible()
