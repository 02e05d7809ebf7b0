"""The Connections page and a device's page in a real browser, with a real device connected."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect
from server import Server

TABLE_BEGINS_PX = 1200


def test_a_row_counts_links_and_disconnects(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    device_id = f"pump-{secrets.token_hex(4)}"
    with server.mqtt_client(server.create_account_device(device_id)) as client:
        server.publish_acknowledged(client, "plant/temp", b"21.5")
        sign_in()
        page.goto("/connections")
        row = page.get_by_role("row", name=device_id)
        counted = row.locator("[data-messages=messages_in]")
        expect(counted).to_have_text("1 message")
        expect(page.locator("[data-live-text]")).to_have_text("Live")  # from here on the script counts
        expect(counted).to_have_text("1 message")
        server.publish_acknowledged(client, "plant/temp", b"21.6", 2)
        expect(counted).to_have_text("2 messages")

        row.get_by_role("link", name=device_id).last.click()
        expect(page.get_by_role("heading", name=device_id)).to_be_visible()
        page.goto("/connections")
        row.get_by_role("button", name=f"Disconnect {device_id}, client ID {device_id}").click()
        question = page.get_by_role("dialog")
        expect(question).to_contain_text(f"Disconnect “{device_id}”, client ID {device_id}?")
        question.get_by_role("button", name="Disconnect").click()
        expect(page.get_by_text(f"client ID {device_id}, was disconnected.")).to_be_visible()
        assert client.recv(16) == b""


@pytest.mark.parametrize("width_px", [390, 800, TABLE_BEGINS_PX - 1, TABLE_BEGINS_PX, 1280])
def test_nothing_is_cut_off(page: Page, server: Server, sign_in: Callable[[], None], width_px: int) -> None:
    with server.mqtt_client(server.create_device(name="A name that takes its room")):
        sign_in()
        page.set_viewport_size({"width": width_px, "height": 900})
        page.goto("/connections")
        table = page.locator("[data-connections]")
        expect(table.get_by_role("button", name="Disconnect A name").first).to_be_visible()
        assert table.locator("thead").is_visible() == (width_px >= TABLE_BEGINS_PX)
        assert table.evaluate("table => table.parentElement.scrollWidth <= table.parentElement.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px


def test_a_block_is_told_in_the_reader_s_time(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    who = server.create_account_device(f"pump-{secrets.token_hex(4)}")
    wrong = render_packet(Connect(who.client_id, username=who.username, password=b"wrong"))
    for _ in range(11):
        with server.mqtt_socket() as client:
            client.sendall(wrong)
            assert client.recv(4)[:2] == b"\x20\x02"
    sign_in()
    page.goto(server.device_path(who.client_id))
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("after 10 failed sign-ins from 127.0.0.1; 1 attempt refused since")
    expect(notice.locator("time")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.get_by_label("New credential").fill("chosen by me")
    page.get_by_role("button", name="Set New Credential").click()
    page.get_by_role("dialog").get_by_role("button", name="Set New Credential").click()
    expect(page.get_by_text("The old password no longer works.")).to_be_visible()
    with server.mqtt_client(who._replace(password="chosen by me")):
        page.goto(server.device_path(who.client_id))
        expect(page.get_by_role("alert")).to_have_count(0)
