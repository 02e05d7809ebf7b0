"""Channels in the console: made, changed, shown, cleared, deleted."""

from __future__ import annotations

import asyncio

import pytest
from console_site import Browser, Site

from headwater.registry.entities import Account

FORM = {"name": "Green <house>", "description": "d", "field1": "Temperature", "field3": "Light", "access": "public"}


async def test_from_nothing_to_a_channel(site: Site, ada: Browser, ada_account: Account) -> None:
    assert "Make your first channel" in (await ada.get("/channels")).text
    assert (await ada.get("/channels/new")).status_code == 200
    page = await ada.follow(await ada.post("/channels/new", FORM | {"tags": "a, b,,a", "latitude": "51.5"}))
    channel = (await site.services.channels.owned(ada_account.id))[0]
    assert f"Channel ID: <b>{channel.id}</b>" in page.text
    assert "Green &lt;house&gt;" in page.text
    assert "Channel created." in page.text
    assert 'data-field="1"' in page.text
    assert 'data-field="2"' not in page.text
    assert "Send the first entry" in page.text
    settings = channel.settings
    assert (settings.name, settings.fields) == ("Green <house>", {1: "Temperature", 3: "Light"})
    assert (settings.is_public, settings.tags, settings.latitude) == (True, ("a", "b"), "51.5")
    assert "Channel created." not in (await ada.get(f"/channels/{channel.id}")).text


async def test_a_form_with_errors_keeps_its_input(site: Site, ada: Browser, ada_account: Account) -> None:
    form = FORM | {"name": "", "latitude": "north", "url": "javascript:alert(1)", "description": "Kept <text>"}
    response = await ada.post("/channels/new", form)
    assert response.status_code == 400
    for text in ["Give the channel a name.", "Latitude must be", "web address", "Kept &lt;text&gt;", 'value="north"']:
        assert text in response.text
    assert response.text.count('aria-invalid="true"') == 3
    assert await site.services.channels.owned(ada_account.id) == []


async def test_the_limit_of_channels_is_told(site: Site, ada: Browser, ada_account: Account) -> None:
    for _ in range(40):
        await site.channel(ada_account)
    response = await ada.post("/channels/new", FORM)
    assert response.status_code == 409
    assert "at most 40 channels" in response.text


async def test_my_channels_shows_the_last_entry_and_pages(site: Site, ada: Browser, ada_account: Account) -> None:
    channels = [await site.channel(ada_account, f"Station {n}") for n in range(30)]
    for value in ("1", "2", "3"):
        await site.write(channels[0], field1=value)
    first = (await ada.get("/channels")).text
    assert "Entry <b>3</b>" in first
    assert "<polyline" in first
    assert "Page 1 of 2" in first
    assert "Station 29" not in first
    assert "Station 29" in (await ada.get("/channels?page=2")).text
    assert "Station 29" in (await ada.get("/channels?page=99")).text
    for page in ("0", "-1", "x", "9" * 5000):
        assert "Page 1 of 2" in (await ada.get("/channels", params={"page": page})).text
    found = (await ada.get("/channels?q=station 29")).text
    assert "Station 29" in found
    assert "Station 28" not in found
    assert "No channel matches" in (await ada.get("/channels?q=<b>")).text


async def test_how_long_entries_are_kept(site: Site, ada: Browser, ada_account: Account) -> None:
    page = await ada.follow(await ada.post("/channels/new", FORM | {"keep": "days", "days": "30"}))
    (channel,) = await site.services.channels.owned(ada_account.id)
    assert channel.settings.retention_s == 30 * 86_400
    assert "<dt>Kept for</dt><dd>30 days</dd>" in page.text
    path = f"/channels/{channel.id}/settings"
    assert 'value="30"' in (await ada.get(path)).text
    response = await ada.post(path, FORM | {"keep": "days", "days": "soon"})
    assert response.status_code == 400
    assert "Enter a number of days" in response.text
    await ada.post(path, FORM | {"keep": "forever", "days": "30"})
    (channel,) = await site.services.channels.owned(ada_account.id)
    assert channel.settings.retention_s is None
    assert "Kept for" not in (await ada.get(f"/channels/{channel.id}")).text


async def test_settings(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account, metadata="{}")
    path = f"/channels/{channel.id}/settings"
    assert "Weather" in (await ada.get(path)).text
    page = await ada.follow(await ada.post(path, {"name": "New", "field2": "Wind", "access": "public"}))
    assert "Settings saved." in page.text
    settings = (await site.services.channels.get_owned(ada_account.id, channel.id)).settings
    assert (settings.name, settings.fields, settings.is_public, settings.metadata) == ("New", {2: "Wind"}, True, "{}")
    response = await ada.post(path, {"name": "x" * 256})
    assert response.status_code == 400
    assert "at most 255" in response.text


async def test_only_harmless_links_are_shown(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account, url="https://a.example/x", github_url="//evil.example")
    page = (await ada.get(f"/channels/{channel.id}")).text
    assert 'href="https://a.example/x"' in page
    assert 'href="//evil.example"' not in page


@pytest.mark.parametrize("action", ["clear", "delete"])
async def test_danger_needs_the_typed_id(site: Site, ada: Browser, ada_account: Account, action: str) -> None:
    channel = await site.channel(ada_account)
    await site.write(channel, field1="1")
    for typed in ("", "0", f"{channel.id}1"):
        response = await ada.post(f"/channels/{channel.id}/{action}", {"confirmation": typed})
        assert response.status_code == 400
        assert "nothing was changed" in response.text
    assert site.services.entries.last_entry_id(channel.id) == 1


async def test_clear(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    await site.write(channel, field1="1")
    page = await ada.follow(await ada.post(f"/channels/{channel.id}/clear", {"confirmation": f" {channel.id} "}))
    assert "All entries were deleted." in page.text
    assert await site.services.entries.newest(channel, 10) == []


async def test_delete(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    await site.write(channel, field1="1")
    page = await ada.follow(await ada.post(f"/channels/{channel.id}/delete", {"confirmation": str(channel.id)}))
    assert f"Channel {channel.id} was deleted." in page.text
    assert (await ada.get(f"/channels/{channel.id}")).status_code == 404
    assert await site.services.entries.newest(channel, 10) == []


async def test_keys(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    path = f"/channels/{channel.id}/api_keys"
    page = (await ada.get(path)).text
    assert channel.write_key in page
    assert channel.read_keys[0] in page
    assert f"/update?api_key={channel.write_key}&amp;field1=" in page
    assert f"channels/{channel.id}/publish/{channel.write_key}" in page

    page = (await ada.follow(await ada.post(f"{path}/write"))).text
    assert channel.write_key not in page
    page = (await ada.follow(await ada.post(f"{path}/read", {"note": "for <Bob>"}))).text
    assert "for &lt;Bob&gt;" in page
    key = (await site.services.channels.get_owned(ada_account.id, channel.id)).api_keys[2]
    page = (await ada.follow(await ada.post(f"{path}/{key.id}/note", {"note": "for Eve"}))).text
    assert "for Eve" in page
    page = (await ada.follow(await ada.post(f"{path}/{key.id}/delete"))).text
    assert key.key not in page
    response = await ada.post(f"{path}/read", {"note": "x" * 256})
    assert response.status_code == 400
    assert "at most 255" in response.text
    assert (await ada.post(f"{path}/{channel.api_keys[0].id}/delete")).status_code == 404


async def test_refused_messages_are_told_to_the_owner(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    site.services.refusals.note("field too long", channel_id=channel.id)
    assert "field too long" in (await ada.get(f"/channels/{channel.id}")).text


async def test_a_channel_without_fields_says_what_to_do(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account, name="", fields={})
    page = (await ada.get(f"/channels/{channel.id}")).text
    assert "This channel has no fields yet" in page
    assert f"<h1>Channel {channel.id}</h1>" in page


async def test_the_columns_of_the_charts(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    for value in ("20.5", "nan", "21"):
        await site.write(channel, field1=value)
    await site.write(channel, field2="on")
    data = (await ada.get(f"/channels/{channel.id}/data")).json()
    assert (data["channel_id"], data["last_entry_id"], data["entry_ids"]) == (channel.id, 4, [1, 2, 3, 4])
    assert len(data["at_s"]) == 4
    assert data["fields"]["1"]["numbers"] == [20.5, None, 21.0]
    assert data["fields"]["1"]["last"]["text"] == "21"
    assert data["fields"]["2"]["numbers"] == [None]
    assert data["fields"]["2"]["last"]["text"] == "on"
    data = (await ada.get(f"/channels/{channel.id}/data?results=2")).json()
    assert data["fields"]["1"]["numbers"] == [21.0]


@pytest.mark.parametrize("results", ["0", "8001", "-1", "many", "9" * 5000, "٣", ""])
async def test_a_senseless_number_of_results(site: Site, ada: Browser, ada_account: Account, results: str) -> None:
    channel = await site.channel(ada_account)
    response = await ada.get(f"/channels/{channel.id}/data", params={"results": results})
    assert response.status_code == 400
    assert "results" in response.json()["error"].lower()


async def test_oversized_and_odd_forms(site: Site, ada: Browser) -> None:
    response = await ada.post("/channels/new", FORM | {"description": "x" * 600_000})
    assert response.status_code == 413
    assert "larger than 512 KiB" in response.text
    response = await ada.post("/channels/new", FORM | {"name": ["a", "b"]})
    assert response.status_code == 400
    for headers in [{"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data; boundary=x"}, {}]:
        response = await ada.client.post("/channels/new", content=b"name=a", headers=headers)
        assert response.status_code == 400
    response = await ada.client.post(
        "/channels/new", content=b"name=%ff", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert response.status_code == 400


async def test_many_at_once(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    responses = await asyncio.gather(*(ada.client.get(f"/channels/{channel.id}/data") for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
