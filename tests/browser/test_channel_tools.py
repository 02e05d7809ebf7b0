"""What an owner does with a channel in a real browser: how charts look, a file in and out, and texts to copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from server import ChannelKeys, Server

CSV = (
    "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n"
    "2023-05-01T00:00:00+00:00,1,21.50,,,,,\n"
    "2023-05-01T00:00:15+00:00,2,22,4,,,,fine\n"
)


@pytest.fixture(autouse=True)
def signed_in(sign_in: Callable[[], None]) -> None:
    sign_in()


def test_a_chart_keeps_its_options(page: Page, server: Server, channel: ChannelKeys) -> None:
    for number in (20, 22, 24):
        server.call("GET", "/update", api_key=channel.write_key, field1=str(number))
    page.goto(f"/channels/{channel.id}")
    chart = page.locator("#chart-1")
    expect(chart.locator("canvas")).to_be_visible()
    before = chart.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    beside = page.locator("#chart-2")
    height = beside.bounding_box()["height"]  # type: ignore[index]
    chart.get_by_text("Chart Options").click()
    assert beside.bounding_box()["height"] == height  # type: ignore[index]
    chart.get_by_label("Title").fill("Greenhouse")
    chart.get_by_label("Type").select_option("Column")
    chart.get_by_label("Decimals").fill("2")
    chart.get_by_label("Colour").fill("#b2316a")
    chart.get_by_role("button", name="Save Chart").click()
    expect(page.get_by_text("Chart saved.")).to_be_visible()
    page.goto(f"/channels/{channel.id}")
    expect(chart.get_by_role("heading", name="Greenhouse")).to_be_visible()
    expect(chart.locator("[data-last-value]")).to_have_text("24.00")
    expect(chart.locator("canvas")).to_be_visible()
    assert chart.evaluate("article => getComputedStyle(article).getPropertyValue('--series')") == "#b2316a"
    assert chart.locator("canvas").evaluate("canvas => canvas.toDataURL()") != before
    server.call("GET", "/update", api_key=channel.write_key, field1="25")
    expect(chart.locator("[data-last-value]")).to_have_text("25.00")


def test_all_tabs_are_in_sight(page: Page, channel: ChannelKeys) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"/channels/{channel.id}")
    tabs = page.get_by_role("navigation", name="Channel", exact=True)
    assert tabs.evaluate("row => row.scrollWidth - row.clientWidth") == 0


def test_a_chart_of_averages_follows_what_comes(page: Page, server: Server, channel: ChannelKeys) -> None:
    for number in (10, 20):
        server.call("GET", "/update", api_key=channel.write_key, field1=str(number), field2=str(number))
    page.goto(f"/channels/{channel.id}")
    chart = page.locator("#chart-1")
    chart.get_by_text("Chart Options").click()
    chart.get_by_label("Combine").select_option("Sum of")
    chart.get_by_label("In steps of").select_option("1 day")
    with page.expect_response(lambda response: response.url.endswith("/data?results=100")) as loaded:
        chart.get_by_role("button", name="Save Chart").click()
    fields = loaded.value.json()["fields"]
    assert sum(fields["1"]["numbers"]) == 30
    assert fields["2"]["numbers"] == [10, 20]
    expect(page.locator("[data-live-text]")).to_have_text("Live")
    with page.expect_response(lambda response: response.url.endswith("/data?results=100")) as again:
        server.call("GET", "/update", api_key=channel.write_key, field1="5")
    assert sum(again.value.json()["fields"]["1"]["numbers"]) == 35
    expect(chart.locator("[data-last-value]")).to_have_text("5")


def test_a_file_goes_in_and_comes_out(page: Page, channel: ChannelKeys, tmp_path: Path) -> None:
    (tmp_path / "feeds.csv").write_text(CSV + "tomorrow,3,1,,,,,\n")
    page.goto(f"/channels/{channel.id}")
    page.get_by_role("link", name="Data Import / Export").click()
    page.get_by_label("CSV file").set_input_files(tmp_path / "feeds.csv")
    page.get_by_role("button", name="Import", exact=True).click()
    told = page.get_by_role("status").filter(has_text="imported")
    expect(told).to_contain_text("2 entries were imported.")
    expect(told).to_contain_text("Line 4: 'tomorrow' is no time")
    page.wait_for_url("**/import_export")  # reloading must not send the file again
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == f"channel-{channel.id}.csv"
    assert Path(download.value.path()).read_text() == CSV


def test_texts_are_copied_whole(page: Page, server: Server, channel: ChannelKeys) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    page.goto(f"/channels/{channel.id}/api_keys")
    page.get_by_role("button", name="Copy: Write a Channel Feed").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"GET {server.url}/update?api_key={channel.write_key}&field1=21.5"
    page.get_by_role("button", name="Copy: Subscribe", exact=True).click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('channels/'))")
    assert f"channels/{channel.id}/subscribe/fields/+" in page.evaluate("navigator.clipboard.readText()")
