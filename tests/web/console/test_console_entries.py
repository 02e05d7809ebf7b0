"""The table of entries in the console: paged, changed and deleted by the channel's owner alone."""

from __future__ import annotations

import re

from console_site import Browser, Site

from headwater.model.entry import EntryUpdate
from headwater.registry.entities import Account, Channel, ChannelSettings

NOW_NS = 1_767_323_045_000_000_000


async def filled(site: Site, account: Account, *updates: EntryUpdate) -> Channel:
    channel = await site.services.channels.create(account.id, ChannelSettings("Porch", fields={1: "Temp", 2: "Hum"}))
    for number, update in enumerate(updates):
        dated = update._replace(created_at_ns=NOW_NS + number * 1_000_000_000)
        await site.services.entries.write_dated(channel, dated, NOW_NS).wait()
    return channel


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<th scope="row">(\d+)</th>', page)]


async def test_newest_first_and_paged_both_ways(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await filled(site, ada_account, *(EntryUpdate({1: str(n)}) for n in range(120)))
    path = f"/channels/{channel.id}/entries"
    page = (await ada.get(path)).text
    assert numbers(page) == list(range(120, 70, -1))
    assert "Newer" not in page
    for expected in (range(70, 20, -1), range(20, 0, -1)):
        older = re.search(r'href="(/channels/\d+/entries\?before=\d+)">Older', page)
        assert older
        page = (await ada.get(older[1])).text
        assert numbers(page) == list(expected)
    assert "Older" not in page
    newer = re.search(r'href="(/channels/\d+/entries\?from=\d+)">Newer', page)
    assert newer
    assert numbers((await ada.get(newer[1])).text) == list(range(70, 20, -1))
    for nonsense in ("?before=x", "?from=99999999999999999999", "?before=-1"):
        assert numbers((await ada.get(path + nonsense)).text) == list(range(120, 70, -1))


async def test_an_entry_is_changed(site: Site, ada: Browser, ada_account: Account) -> None:
    update = EntryUpdate({1: "21.50", 3: "two\nlines"}, status="<b>fine</b>", elevation="")
    channel = await filled(site, ada_account, update)
    path = f"/channels/{channel.id}/entries/1"
    listed = (await ada.get(f"/channels/{channel.id}/entries")).text
    assert "&lt;b&gt;fine&lt;/b&gt;" in listed
    page = (await ada.get(path)).text
    assert 'value="21.50"' in page
    assert ">two\nlines</textarea>" in page
    form = {
        "field1": "broken",
        "field2": "",
        "field3": "two\r\nlines",
        "latitude": "48.1",
        "elevation": "",
        "status": "",
    }
    page = (await ada.follow(await ada.post(path, form))).text
    assert "Entry 1 was changed." in page
    (entry,) = await site.services.entries.newest(channel, 10)
    assert entry.fields == {1: "broken", 3: "two\nlines"}
    assert (entry.latitude, entry.elevation, entry.status) == ("48.1", "", None)
    assert "Nothing was changed." in (await ada.follow(await ada.post(path, {}))).text


async def test_a_value_that_is_too_long(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await filled(site, ada_account, EntryUpdate({1: "x" * 300}))
    path = f"/channels/{channel.id}/entries/1"
    await ada.get(path)
    response = await ada.post(path, {"field1": "x" * 300, "status": "y" * 256})
    assert response.status_code == 400
    assert 'id="status-error"' in response.text
    assert 'id="field1-error"' not in response.text, "it is stored so already"
    assert "y" * 256 in response.text
    (entry,) = await site.services.entries.newest(channel, 10)
    assert entry.status is None


async def test_an_entry_is_deleted_and_its_page_comes_back(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await filled(site, ada_account, *(EntryUpdate({1: str(n)}) for n in range(60)))
    page = (await ada.get(f"/channels/{channel.id}/entries?before={NOW_NS + 10_000_000_000}")).text
    assert numbers(page) == list(range(10, 0, -1))
    action = re.search(rf'action="(/channels/{channel.id}/entries/5/delete[^"]*)" data-confirm="Delete entry 5\?', page)
    assert action
    page = (await ada.follow(await ada.post(action[1]))).text
    assert "Entry 5 was deleted." in page
    assert numbers(page) == [10, 9, 8, 7, 6, 4, 3, 2, 1]
    assert (await ada.post(action[1])).status_code == 404
    assert (await ada.get(f"/channels/{channel.id}/entries/5")).status_code == 404


async def test_an_empty_channel_says_so(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await filled(site, ada_account)
    assert "No entries yet" in (await ada.get(f"/channels/{channel.id}/entries")).text
    assert "No entries there" in (await ada.get(f"/channels/{channel.id}/entries?before=5")).text


async def test_another_accounts_entries_are_not_there(site: Site, ada: Browser) -> None:
    channel = await filled(site, await site.account("bob"), EntryUpdate({1: "1"}))
    await ada.get("/profile")
    for suffix in ("", "/1"):
        here = await ada.get(f"/channels/{channel.id}/entries{suffix}")
        there = await ada.get(f"/channels/999999999/entries{suffix}")
        assert (here.status_code, there.status_code) == (404, 404)
    for suffix in ("/1", "/1/delete"):
        assert (await ada.post(f"/channels/{channel.id}/entries{suffix}", {"field1": "2"})).status_code == 404
    (entry,) = await site.services.entries.newest(channel, 10)
    assert entry.fields == {1: "1"}
