"""Data Import / Export: what leaves a channel, what comes back, and what the page says about it."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import httpx
import pytest
from console_site import Browser, Site

from headwater.dialects.thingspeak.files import ThingSpeakFiles
from headwater.dialects.thingspeak.parse import WriteLimits
from headwater.registry.entities import Account, Channel
from headwater.services.whole_channel import pages_of

SITE_CSV = (
    "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n"
    "2023-05-01T00:00:00+00:00,1,21.50,,,,,\n"
    "2023-05-01T00:00:15+00:00,2,nan,4,51.5,-0.12,30,fine\n"
)


@pytest.fixture
async def channel(site: Site, ada_account: Account) -> Channel:
    return await site.channel(ada_account, "<Attic> & more")


async def upload(browser: Browser, channel: Channel, content: str | bytes, zone: str = "Etc/UTC") -> httpx.Response:
    await browser.get(f"/channels/{channel.id}/import_export")
    path, form = f"/channels/{channel.id}/import", {"csrf": browser.token, "time_zone": zone}
    return await browser.client.post(path, data=form, files={"file": ("data.csv", content, "text/csv")})


async def export(browser: Browser, channel: Channel, form: str) -> str:
    response = await browser.get(f"/channels/{channel.id}/export?form={form}")
    assert response.status_code == 200
    assert response.headers["content-disposition"] == f'attachment; filename="channel-{channel.id}.{form}"'
    return response.text


async def test_a_file_of_the_sites_goes_in_and_comes_out_the_same(ada: Browser, channel: Channel) -> None:
    page = (await upload(ada, channel, SITE_CSV)).text
    assert "2 entries were imported." in page
    assert await export(ada, channel, "csv") == SITE_CSV
    again = (await upload(ada, channel, SITE_CSV)).text
    assert "Nothing was imported." in again
    assert "2 were there already" in again
    assert await export(ada, channel, "csv") == SITE_CSV


async def test_json_and_xml_are_whole_documents(site: Site, ada: Browser, channel: Channel) -> None:
    for number in range(3):
        await site.write(channel, field1=f"<{number}>")
    response = await ada.get(f"/channels/{channel.id}/export?form=json")
    told: dict[str, Any] = response.json()
    assert told["channel"]["name"] == "<Attic> & more"
    assert [(feed["entry_id"], feed["field1"]) for feed in told["feeds"]] == [(1, "<0>"), (2, "<1>"), (3, "<2>")]
    root = ET.fromstring(await export(ada, channel, "xml"))
    assert [feed.findtext("field1") for feed in root.iter("feed")] == ["<0>", "<1>", "<2>"]


async def test_pages_are_joined_without_a_seam(site: Site, channel: Channel) -> None:
    for number in range(7):
        await site.write(channel, field1=str(number))
    services = site.services
    pages = [page async for page in pages_of(services.entries, channel, 3)]
    assert [[entry.entry_id for entry in page] for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
    files = ThingSpeakFiles(services, WriteLimits(), per_page=3)

    async def whole(form: str) -> str:
        return b"".join([piece async for piece in files.write(channel, form)]).decode()

    expected = [str(number) for number in range(7)]
    assert [row["field1"] for row in csv.DictReader(io.StringIO(await whole("csv")))] == expected
    assert [feed["field1"] for feed in json.loads(await whole("json"))["feeds"]] == expected
    assert [feed.findtext("field1") for feed in ET.fromstring(await whole("xml")).iter("feed")] == expected


@pytest.mark.parametrize("form", ["csv", "json", "xml"])
async def test_an_empty_channel_is_a_file_too(ada: Browser, channel: Channel, form: str) -> None:
    text = await export(ada, channel, form)
    if form == "csv":
        assert text == "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n"
    elif form == "json":
        assert '"feeds":[]' in text
    else:
        assert ET.fromstring(text).find("feeds") is not None


async def test_lines_that_are_no_entries_are_told(site: Site, ada: Browser, channel: Channel) -> None:
    page = (await upload(ada, channel, "created_at,field1\nsoon,1\n2023-05-01 00:00:00,2\n")).text
    assert "1 entry was imported." in page
    assert "1 line could not be taken" in page
    assert "Line 2: &#39;soon&#39; is no time" in page
    assert site.services.entries.last_entry_id(channel.id) == 1


async def test_the_time_zone_is_that_of_the_form(site: Site, ada: Browser, channel: Channel) -> None:
    await upload(ada, channel, "created_at,field1\n2023-05-01 02:00:00,2\n", zone="Europe/Berlin")
    assert "2023-05-01T00:00:00+00:00" in await export(ada, channel, "csv")


@pytest.mark.parametrize(
    ("content", "zone", "reason"),
    [
        (b"", "Etc/UTC", "Choose a CSV file"),
        (b"\xff\xfe", "Etc/UTC", "not UTF-8"),
        (b"name,age\n", "Etc/UTC", "must name the columns"),
        (SITE_CSV.encode(), "Mars/Base", "Pick a time zone"),
    ],
)
async def test_what_is_no_such_file(ada: Browser, channel: Channel, content: bytes, zone: str, reason: str) -> None:
    response = await upload(ada, channel, content, zone)
    assert response.status_code == 400
    assert reason in response.text
    assert 'aria-invalid="true"' in response.text


async def test_a_form_without_the_token_of_the_page_imports_nothing(site: Site, ada: Browser, channel: Channel) -> None:
    files = {"file": ("data.csv", SITE_CSV, "text/csv")}
    response = await ada.client.post(f"/channels/{channel.id}/import", data={"csrf": "0" * 64}, files=files)
    assert response.status_code == 403
    assert site.services.entries.last_entry_id(channel.id) == 0


async def test_a_form_of_a_file_that_is_not_known(ada: Browser, channel: Channel) -> None:
    assert (await ada.get(f"/channels/{channel.id}/export?form=exe")).status_code == 404


async def test_the_page_has_commands_to_copy(ada: Browser, channel: Channel) -> None:
    page = (await ada.get(f"/channels/{channel.id}/import_export")).text
    assert f"headwater export {channel.id} data.csv" in page
    assert f"headwater import data.csv {channel.id}" in page
