"""The Connections page: who sees which connections, finding one among many, the counters, and the end of one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from console_site import PASSWORD, Browser, Site
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from fake_presence import TOTALS, FakeBroker
from headwater.registry.entities import Account, AccountDevice
from headwater.services.presence import AccountTotals
from headwater.web.console.connection_list import Order, View, parse_view, size_of


@pytest.fixture
def broker(site: Site) -> FakeBroker:
    broker = FakeBroker()
    site.services.presence.attach(broker)
    return broker


@pytest.fixture
async def admin(site: Site) -> Browser:
    await site.services.accounts.add("root", PASSWORD, is_admin=True)
    browser = site.browser()
    assert (await browser.sign_in("root")).status_code == 303
    return browser


def shown(page: str) -> list[int]:
    """The numbers of the connections on a page."""
    return [int(number) for number in re.findall(r'<tr data-connection="(\d+)">', page)]


def parts(page: str) -> set[str]:
    """What the page shows in place of a list, or that it shows one."""
    found = re.findall(r'data-shown-when="(listed|unmatched|nothing)"( hidden)?', page)
    return {name for name, hidden in found if not hidden}


async def test_nothing_is_connected(ada: Browser, broker: FakeBroker) -> None:
    page = (await ada.get("/connections")).text
    assert parts(page) == {"nothing"}
    assert "Nothing is connected" in page
    assert "mosquitto_sub -h 127.0.0.1" in page
    assert "Refused connections" not in page


async def test_before_the_broker_has_started(ada: Browser) -> None:
    assert "Nothing is connected" in (await ada.get("/connections")).text
    data = (await ada.get("/connections/data?numbers=1")).json()
    assert (data["clients"], data["counters"]["connections"]) == ({}, 0)


async def test_what_a_row_says(site: Site, ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "Sensor <1>", [])
    broker.connect(
        account_id=ada_account.id,
        device_id=device.id,
        client_id="<b>evil</b>",
        address="192.0.2.7:4711",
        transport="secure websocket",
        protocol="5.0",
        keep_alive_s=45,
        is_persistent=True,
        subscriptions=3,
        queued=4,
        in_flight=2,
        messages_in=12_345,
        bytes_in=67_890,
        dropped={"max_queued_messages": 17},
    )
    page = (await ada.get("/connections")).text
    for text in (
        f'<a href="/devices/{device.id}">Sensor &lt;1&gt;</a>',
        f'<a href="/devices/{device.id}"><code>&lt;b&gt;evil&lt;/b&gt;</code></a>',
        "192.0.2.7:4711",
        "MQTT 5.0, WebSocket over TLS",
        "keep alive 45&nbsp;s",
        "Session kept",
        "12\u202f345 messages",
        "67.9\u00a0kB",
        "17 dropped: max_queued_messages",
    ):
        assert text in page
    assert "<b>evil" not in page


async def test_without_a_device_the_account_is_named(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    broker.connect(account_id=ada_account.id)
    broker.connect(account_id=ada_account.id, device_id=999)  # removed a moment ago
    page = (await ada.get("/connections")).text
    assert page.count('<a href="/profile">ada</a>') == 2


async def test_an_account_device_is_named(site: Site, ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    device = AccountDevice(7, ada_account.id, "attic", "Attic fan", True, datetime(2026, 1, 1, tzinfo=UTC))
    site.services.access.put_account_device(device, "a hash")
    broker.connect(account_id=ada_account.id, account_device_id=7, client_id="attic")
    page = (await ada.get("/connections?q=fan")).text
    assert "Attic fan" in page
    assert "Disconnect “Attic fan”, client ID attic? Nothing" in page
    assert 'aria-label="Disconnect Attic fan, client ID attic"' in page
    assert '<a href="/devices/account/7"><code>attic</code></a>' in page


async def test_an_account_sees_only_its_own(site: Site, ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    bob = await site.account("bob")
    device, _ = await site.services.devices.create(bob.id, "Bob's boiler", [])
    mine = broker.connect(account_id=ada_account.id)
    theirs = broker.connect(account_id=bob.id, device_id=device.id, client_id="bobs-client", address="203.0.113.9:1")
    nobodys = broker.connect(client_id="nobodys-client")
    for path in ("/connections", "/connections?q=bob", f"/connections?account={bob.id}", "/connections?account=none"):
        page = (await ada.get(path)).text
        assert set(shown(page)) <= {mine.number}
        assert not any(text in page for text in ("bobs-client", "boiler", "203.0.113.9", "nobodys", "bad credentials"))
    numbers = f"{mine.number},{theirs.number},{nobodys.number}"
    data = (await ada.get(f"/connections/data?numbers={numbers}")).json()
    assert list(data["clients"]) == [str(mine.number)]


async def test_the_summary_is_of_what_one_may_see(
    ada: Browser, admin: Browser, ada_account: Account, broker: FakeBroker
) -> None:
    broker.by_account = [AccountTotals(ada_account.id, 1, 2, 3, 4, 5, 6), AccountTotals(None, 9, 9, 9, 9, 9, 9)]
    own = (await ada.get("/connections/data")).json()["counters"]
    assert own == {
        "connections": 1,
        "messages_in": 2,
        "messages_out": 3,
        "bytes_in": 4,
        "bytes_out": 5,
        "dropped": 6,
    }
    everybodys = (await admin.get("/connections/data")).json()["counters"]
    assert (everybodys["connections"], everybodys["messages_in"], everybodys["dropped"]) == (3, 1000, 12)


async def test_an_administrator_sees_everybody(
    site: Site, ada: Browser, admin: Browser, ada_account: Account, broker: FakeBroker
) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "Boiler", [])
    broker.connect(account_id=ada_account.id, device_id=device.id)
    broker.connect()
    page = (await admin.get("/connections")).text
    assert shown(page) == [2, 1]
    assert "No account" in page
    assert "Boiler" in page
    assert "of ada" in page
    assert f'href="/devices/{device.id}"' not in page  # not the administrator's to see
    assert re.search(r"<dt>bad credentials</dt><dd>4</dd>", page)
    assert re.search(r"<dt>max queued messages</dt><dd>7</dd>", page)
    never = {"banned": 0, "server busy": 0}
    broker.told = replace(TOTALS, refused=never | {"bad credentials": 4}, dropped={"message_expiry": 0})
    page = (await admin.get("/connections")).text
    assert re.search(r"<dt>bad credentials</dt><dd>4</dd>", page)
    assert "banned" not in page, "what has not happened is not listed"
    assert "No message was dropped since the server started." in page


async def test_filter_by_account(
    site: Site, admin: Browser, ada: Browser, ada_account: Account, broker: FakeBroker
) -> None:
    for account_id in (ada_account.id, ada_account.id, None):
        broker.connect(account_id=account_id)
    page = (await admin.get(f"/connections?account={ada_account.id}")).text
    assert sorted(shown(page)) == [1, 2]
    assert f'<option value="{ada_account.id}" selected>ada (2)</option>' in page
    page = (await admin.get("/connections?account=none")).text
    assert shown(page) == [3]
    assert '<option value="none" selected>No account (1)</option>' in page
    assert parts((await admin.get("/connections?account=999")).text) == {"unmatched"}


async def test_an_administrator_always_has_the_filter(
    ada: Browser, admin: Browser, ada_account: Account, broker: FakeBroker
) -> None:
    broker.connect(account_id=ada_account.id, messages_in=1)
    page = (await admin.get("/connections")).text
    assert '<select id="account"' in page
    assert ">1 message<" in page
    assert ">0 messages<" in page
    page = (await ada.get("/connections")).text
    assert '<select id="account"' not in page
    assert "data-filters" not in page


async def test_a_client_id_without_a_device_leads_nowhere(
    ada: Browser, ada_account: Account, broker: FakeBroker
) -> None:
    broker.connect(account_id=ada_account.id, client_id="my-laptop")
    assert re.search(r"<small><code>my-laptop</code></small>", (await ada.get("/connections")).text)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [("BOILER", [1]), ("c3", [3]), ("198.51", [2]), ("ada", [1, 2, 3]), ("%20", [1, 2, 3]), ("nothing", [])],
)
async def test_search(
    site: Site, ada: Browser, ada_account: Account, broker: FakeBroker, query: str, numbers: list[int]
) -> None:
    device, _ = await site.services.devices.create(ada_account.id, "Boiler", [])
    broker.connect(account_id=ada_account.id, device_id=device.id)
    broker.connect(account_id=ada_account.id, address="198.51.100.1:9")
    broker.connect(account_id=ada_account.id)
    page = (await ada.get(f"/connections?q={query}&sort=oldest")).text
    assert shown(page) == numbers
    assert parts(page) == ({"listed"} if numbers else {"unmatched"})


async def test_sorting(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    broker.connect(account_id=ada_account.id, messages_in=5)
    broker.connect(account_id=ada_account.id, messages_out=9)
    broker.connect(account_id=ada_account.id, dropped={"a": 1, "b": 1})
    for sort, numbers in {
        "": [3, 2, 1],
        "newest": [3, 2, 1],
        "oldest": [1, 2, 3],
        "messages": [2, 1, 3],
        "dropped": [3, 1, 2],
        "nonsense": [3, 2, 1],
    }.items():
        assert shown((await ada.get(f"/connections?sort={sort}")).text) == numbers, sort


async def test_ten_thousand(admin: Browser, broker: FakeBroker) -> None:
    first = broker.connect()
    for number in range(2, 10_001):
        broker.connected[number] = replace(first, number=number, client_id=f"c{number}", connected_at_ns=number)
    response = await admin.get("/connections")
    assert len(shown(response.text)) == 50
    assert "Page 1 of 200, 10\u202f000 connections" in response.text
    assert len(response.content) < 200_000
    page = (await admin.get("/connections?page=200&sort=oldest")).text
    assert len(shown(page)) == 50
    assert 'href="/connections?sort=oldest&amp;page=199"' in page
    assert "Page 200 of 200" in (await admin.get("/connections?page=99999999")).text
    assert shown((await admin.get("/connections?q=c9999")).text) == [9999]


async def test_the_counters_of_a_page(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    client = broker.connect(account_id=ada_account.id, messages_in=1, dropped={"max_queued_messages": 2})
    first = (await ada.get(f"/connections/data?numbers={client.number},77")).json()
    assert list(first["clients"]) == [str(client.number)]
    broker.connected[client.number] = replace(client, messages_in=11, bytes_in=100)
    second = (await ada.get(f"/connections/data?numbers={client.number}")).json()
    row = second["clients"][str(client.number)]
    assert (row["messages_in"], row["bytes_in"], row["dropped"]) == (11, 100, {"max_queued_messages": 2})
    assert row["active_at_s"] == client.active_at_ns / 1e9
    assert second["at_s"] > first["at_s"]


async def test_the_page_gets_the_rows_that_it_lacks(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    def come(**values: Any) -> int:
        told = broker.told
        broker.told = replace(told, connections_total=told.connections_total + 1)
        return broker.connect(account_id=ada_account.id, **values).number

    old = come()
    page = (await ada.get("/connections?sort=oldest")).text
    found = re.search(r'data-state="(\w+)" data-server="(\w+)"', page)
    assert found is not None
    query = {"numbers": str(old), "sort": "oldest", "state": found[1]}
    data = (await ada.get("/connections/data", params=query)).json()
    assert (data["list"], data["state"], data["server"]) == (None, found[1], found[2])

    new = come(client_id="<i>new</i>")
    bobs = come(client_id="not-hers")
    broker.connected[bobs] = replace(broker.connected[bobs], account_id=None)
    data = (await ada.get("/connections/data", params=query)).json()
    assert (data["list"]["numbers"], data["list"]["total"]) == ([old, new], 2)
    assert shown(data["list"]["rows"]) == [new]
    assert "<code>&lt;i&gt;new&lt;/i&gt;</code>" in data["list"]["rows"]
    assert f'action="/connections/{new}/disconnect?sort=oldest"' in data["list"]["rows"]
    assert f'name="csrf" value="{ada.token}"' in data["list"]["rows"]
    assert "not-hers" not in data["list"]["rows"]
    assert "nav" not in data["list"]["pager"]

    query |= {"state": data["state"], "q": "no such"}
    assert (await ada.get("/connections/data", params=query)).json()["list"] is None
    broker.told = replace(broker.told, connections=broker.told.connections - 1)  # somebody has gone
    data = (await ada.get("/connections/data", params=query)).json()
    assert (data["list"]["numbers"], data["list"]["total"]) == ([], 2)


async def test_the_state_of_a_list_does_not_tell_of_others(ada: Browser, broker: FakeBroker) -> None:
    text = (await ada.get("/connections/data")).text
    assert str(TOTALS.connections_total) not in re.sub(r'"(state|server)":"[0-9a-f]{16}"|"at_s":[\d.]+', "", text)


async def test_the_pager_is_told(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    for _ in range(51):
        broker.connect(account_id=ada_account.id)
    told = (await ada.get("/connections/data", params={"sort": "messages"})).json()["list"]
    assert len(told["numbers"]) == 50
    assert "Page 1 of 2, 51 connections" in told["pager"]
    assert 'href="/connections?sort=messages&amp;page=2"' in told["pager"]


@pytest.mark.parametrize("numbers", ["x", "1,,2", "-1", "1,", "9" * 19, "²", ",".join(["1"] * 51), "1" * 5000])
async def test_senseless_numbers(ada: Browser, broker: FakeBroker, numbers: str) -> None:
    assert (await ada.get("/connections/data", params={"numbers": numbers})).status_code == 400


async def test_disconnecting(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    client = broker.connect(account_id=ada_account.id)
    await ada.get("/connections")
    response = await ada.post(f"/connections/{client.number}/disconnect?q=c&page=2&next=//evil.example")
    assert response.headers["location"] == "/connections?q=c&page=2"
    assert broker.ended == [client.number]
    assert "“ada”, client ID c1, was disconnected." in (await ada.follow(response)).text


async def test_an_administrator_disconnects_anybody(admin: Browser, broker: FakeBroker) -> None:
    client = broker.connect()
    assert (await admin.post(f"/connections/{client.number}/disconnect")).status_code == 303
    assert broker.ended == [client.number]


async def test_anothers_connection_is_as_unknown_as_one_that_is_gone(
    site: Site, ada: Browser, broker: FakeBroker
) -> None:
    bob = await site.account("bob")
    texts = set()
    for client in (broker.connect(account_id=bob.id), broker.connect()):
        response = await ada.post(f"/connections/{client.number}/disconnect")
        assert response.status_code == 404
        texts.add(response.text)
    response = await ada.post("/connections/99/disconnect")
    assert response.status_code == 404
    assert texts == {response.text.replace("/99/", "/1/")}
    assert broker.ended == []


async def test_a_connection_that_ends_meanwhile(
    ada: Browser, ada_account: Account, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = broker.connect(account_id=ada_account.id)
    monkeypatch.setattr(broker, "disconnect", lambda number: False)
    response = await ada.post(f"/connections/{client.number}/disconnect")
    assert response.status_code == 404
    assert "ended already" in response.text


async def test_disconnecting_takes_the_pages_token(ada: Browser, ada_account: Account, broker: FakeBroker) -> None:
    client = broker.connect(account_id=ada_account.id)
    ada.token = "0" * 64
    assert (await ada.post(f"/connections/{client.number}/disconnect")).status_code == 403
    assert broker.ended == []


@given(
    st.builds(
        View,
        text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.strip),
        account=st.sampled_from(["", "none", "7"]),
        order=st.sampled_from(Order),
        page=st.integers(1, 999),
    )
)
def test_an_address_leads_to_the_view_it_was_made_for(view: View) -> None:
    assert parse_view(QueryParams(view.address().removeprefix("?"))) == view


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (10**7, "10.0 MB"), (10**16, "10000 TB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size_of(count) == text.replace(" ", "\u00a0")
