"""Public channels, as somebody without an account, somebody with one, and the owner see them."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from console_site import Browser, Site
from test_console_live import live

from headwater.registry.entities import Account, Channel
from headwater.web.console import ConsoleOptions

SECRETS_ON_NO_PUBLIC_PAGE = ("api_keys", "/settings", "/sharing", "Send the first entry")


@pytest.fixture
async def public(site: Site) -> Channel:
    """A public channel of Bob's."""
    return await site.channel(
        await site.account("bob"),
        "Roof",
        description="Above the sea",
        tags=("weather", "Roof top"),
        url="https://example.org/roof",
        latitude="51.5",
        longitude="-0.12",
        elevation="30",
        is_public=True,
    )


def assert_shows(response: httpx.Response, channel: Channel) -> None:
    assert response.status_code == 200
    page = response.text
    for text in ("Roof", "Above the sea", "Roof top", "https://example.org/roof", "51.5, -0.12, 30 m", "bob"):
        assert text in page
    assert f'data-data-url="/channels/{channel.id}/data"' in page
    assert channel.write_key not in page
    assert not any(key in page for key in channel.read_keys)
    assert not any(text in page for text in SECRETS_ON_NO_PUBLIC_PAGE)


async def test_a_visitor_sees_a_public_channel_and_no_key(site: Site, public: Channel) -> None:
    visitor = site.browser()
    for path in (f"/channels/{public.id}", f"/channels/{public.id}/public"):
        response = await visitor.get(path)
        assert_shows(response, public)
        assert f"/sign-in?next=/channels/{public.id}" in response.text


async def test_somebody_else_sees_it_inside_their_own_frame(ada: Browser, public: Channel) -> None:
    response = await ada.get(f"/channels/{public.id}")
    assert_shows(response, public)
    assert "Sign out" in response.text
    assert "Private View" not in response.text


async def test_its_owner_sees_what_others_see(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account, is_public=True)
    page = (await ada.get(f"/channels/{channel.id}/public")).text
    assert "Private View" in page
    assert "Nobody but you" not in page
    assert channel.write_key not in page
    hidden = await site.channel(ada_account)
    assert "Nobody but you" in (await ada.get(f"/channels/{hidden.id}/public")).text


async def test_a_private_channel_is_as_unknown_as_none(site: Site, ada: Browser, public: Channel) -> None:
    bob = site.services.access.account_named("bob")
    assert bob is not None
    private = await site.channel(bob, "Hidden")
    nobody = site.browser()
    for rest in ("", "/public"):
        assert (await ada.get(f"/channels/{private.id}{rest}")).status_code == 404
        for channel_id in (private.id, 10_000):
            answer = await nobody.get(f"/channels/{channel_id}{rest}")
            assert answer.status_code == 303
            assert answer.headers["location"] == f"/sign-in?next=/channels/{channel_id}{rest}"
    for rest in ("/data", "/live"):
        assert (await nobody.get(f"/channels/{private.id}{rest}")).status_code == 401


async def test_a_visitors_charts_are_live_until_the_channel_is_private(site: Site, public: Channel) -> None:
    visitor = site.browser()
    await site.write(public, field1="1")
    data = (await visitor.get(f"/channels/{public.id}/data")).json()
    assert data["fields"]["1"]["numbers"] == [1.0]
    async with live(visitor, public.id) as stream:
        await site.write(public, field1="2", field7="no name, no chart")
        name, entry, _ = await stream.next()
        assert (name, list(entry["fields"]), entry["fields"]["1"]["text"]) == ("entry", ["1"], "2")
        settings = replace(public.settings, is_public=False)
        await site.services.channels.update(public.account_id, public.id, settings)
        assert (await stream.next())[0] == "end"
    assert (await visitor.get(f"/channels/{public.id}/data")).status_code == 401


@pytest.fixture
def options() -> ConsoleOptions:
    return ConsoleOptions(secret=b"k" * 32, heartbeat_s=0.2, live_queue_entries=8, live_streams_per_address=1)


async def test_an_address_has_only_so_many_streams(site: Site, public: Channel, ada: Browser) -> None:
    visitor = site.browser()
    async with live(visitor, public.id):
        answer = await visitor.get(f"/channels/{public.id}/live")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        async with live(ada, public.id):
            pass  # who has an account is counted by it


async def test_the_list_of_public_channels(site: Site, public: Channel) -> None:
    bob = site.services.access.account(public.account_id)
    assert bob is not None
    hidden = await site.channel(bob, "Hidden", tags=("weather",))
    visitor = site.browser()
    page = (await visitor.get("/channels/public")).text
    assert f'href="/channels/{public.id}"' in page
    assert f'href="/channels/{hidden.id}"' not in page
    assert "Hidden" not in page
    assert f'href="/channels/{public.id}"' in (await visitor.get("/channels/public?tag=ROOF+top")).text
    nothing = (await visitor.get("/channels/public?tag=roof&page=9")).text
    assert "No public channel has the tag" in nothing
    assert "<script>" not in (await visitor.get("/channels/public?tag=<script>")).text


async def test_the_list_has_pages(site: Site, public: Channel) -> None:
    bob = site.services.access.account(public.account_id)
    assert bob is not None
    for number in range(12):
        await site.channel(bob, f"More {number}", tags=("more",), is_public=True)
    visitor = site.browser()
    assert "Page 1 of 2" in (await visitor.get("/channels/public")).text
    assert "Roof" in (await visitor.get("/channels/public?page=2")).text
    assert "Page 1 of" not in (await visitor.get("/channels/public?tag=more")).text


async def test_without_public_channels_the_list_says_so(site: Site, ada: Browser) -> None:
    assert "No channel is public yet" in (await ada.get("/channels/public")).text
