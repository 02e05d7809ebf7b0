"""The Connections page and a device's page in a real browser, with a real device connected."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect
from server import ADMIN_TOKEN, Credentials, Server

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


def test_connections_come_and_go(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    name = f"fan-{secrets.token_hex(4)}"
    first, second = server.create_account_device(f"{name}-1"), server.create_account_device(f"{name}-2")
    sign_in()
    page.clock.install()
    page.goto(f"/connections?q={name}")
    rows = page.locator("[data-connection]")
    expect(rows).to_have_count(0)
    expect(page.locator("[data-connections]")).to_be_hidden()
    with server.mqtt_client(first) as client:
        page.clock.run_for(3000)
        row = page.get_by_role("row", name=first.client_id)
        expect(row).to_be_visible()
        expect(page.locator("[data-shown-when=nothing]")).to_be_hidden()
        row.get_by_role("button").click()
        question = page.get_by_role("dialog")
        with server.mqtt_client(second) as newer:
            page.clock.run_for(3000)
            expect(rows).to_have_count(2)  # the newest first
            expect(rows.first).to_contain_text(second.client_id)
            server.publish_acknowledged(newer, "plant/temp", b"21.5")
            page.clock.run_for(3000)
            expect(rows.first.locator("[data-messages=messages_in]")).to_have_text("1 message")
            expect(question).to_be_visible()
        page.clock.run_for(3000)
        expect(rows.first).to_contain_text("Gone")
        page.clock.run_for(15_000)
        expect(rows).to_have_count(1)
        question.get_by_role("button", name="Disconnect").click()
        expect(page.get_by_text(f"client ID {first.client_id}, was disconnected.")).to_be_visible()
        assert client.recv(16) == b""
    expect(rows).to_have_count(0)


def test_more_than_a_page_is_told(page: Page, server: Server, sign_in: Callable[[], None]) -> None:
    crowd = f"crowd-{secrets.token_hex(4)}"
    sign_in()
    page.goto(f"/connections?q={crowd}&sort=oldest")
    with ExitStack() as clients:
        for number in range(49):
            clients.enter_context(server.mqtt_client(Credentials(f"{crowd}-{number}", "any", ADMIN_TOKEN)))
        rows = page.locator("[data-connection]")
        expect(rows).to_have_count(49)
        page.goto(f"/connections?q={crowd}")
        expect(rows).to_have_count(49)
        for number in range(49, 52):
            clients.enter_context(server.mqtt_client(Credentials(f"{crowd}-{number}", "any", ADMIN_TOKEN)))
        more = page.get_by_role("link", name="2 more: Show")
        expect(more).to_be_visible()
        expect(rows).to_have_count(50)
        expect(page.get_by_text("Page 1 of 2, 52 connections")).to_be_visible()
        more.click()
        expect(more).to_be_hidden()
        expect(rows.first).to_contain_text(f"{crowd}-51")


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
    expect(notice.locator("time")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d UTC$"))
    expect(notice).to_contain_text("(for 5 min more)")
    page.get_by_label("New credential").fill("chosen by me")
    page.get_by_role("button", name="Set New Credential").click()
    page.get_by_role("dialog").get_by_role("button", name="Set New Credential").click()
    expect(page.get_by_text("The old credential no longer works.")).to_be_visible()
    with server.mqtt_client(who._replace(password="chosen by me")):
        page.goto(server.device_path(who.client_id))
        expect(page.get_by_role("alert")).to_have_count(0)
