"""Sharing a channel with accounts by name: what they see, what they never see, and what they lose."""

from __future__ import annotations

import pytest
from console_site import Browser, Site
from test_console_live import live

from headwater.registry.entities import Account, Channel


@pytest.fixture
async def channel(site: Site, ada_account: Account) -> Channel:
    return await site.channel(ada_account, "Cellar")


@pytest.fixture
async def bob(site: Site) -> Browser:
    await site.account("bob")
    browser = site.browser()
    await browser.sign_in("bob")
    return browser


async def share(ada: Browser, channel: Channel, access: str, names: str = "") -> str:
    path = f"/channels/{channel.id}/sharing"
    await ada.get(path)
    return (await ada.follow(await ada.post(path, {"access": access, "names": names}))).text


async def test_a_reader_sees_the_channel_and_never_its_keys(
    site: Site, ada: Browser, bob: Browser, channel: Channel
) -> None:
    page = await share(ada, channel, "shared", "bob")
    assert 'value="shared" checked' in page
    await site.write(channel, field1="7")
    assert "Shared with me" in (await bob.get("/channels")).text
    view = await bob.get(f"/channels/{channel.id}")
    assert view.status_code == 200
    assert "Cellar" in view.text
    assert channel.write_key not in view.text
    assert (await bob.get(f"/channels/{channel.id}/data")).json()["fields"]["1"]["numbers"] == [7.0]
    for rest in ("settings", "sharing", "api_keys", "down-sampling"):
        assert (await bob.get(f"/channels/{channel.id}/{rest}")).status_code == 404
    assert (await bob.post(f"/channels/{channel.id}/clear", {"confirmation": str(channel.id)})).status_code == 404
    assert (await site.browser().get(f"/channels/{channel.id}")).status_code == 303


@pytest.mark.parametrize("access", ["private", "public"])
async def test_what_is_no_longer_shared_is_gone_at_once(
    site: Site, ada: Browser, bob: Browser, channel: Channel, access: str
) -> None:
    await share(ada, channel, "shared", "bob")
    async with live(bob, channel.id) as stream:
        await share(ada, channel, "private")
        assert (await stream.next())[0] == "end"
    assert (await bob.get(f"/channels/{channel.id}")).status_code == 404
    assert "Shared with me" not in (await bob.get("/channels")).text
    await share(ada, channel, access)
    assert site.services.access.shared_with(channel.id) == frozenset()
    assert (await bob.get(f"/channels/{channel.id}")).status_code == (200 if access == "public" else 404)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"access": "shared", "names": ""}, "name at least one account"),
        ({"access": "shared", "names": "bob, nobody"}, "there is no account"),
        ({"access": "shared", "names": "ada"}, "the channel is yours"),
        ({"access": "everybody"}, "choose who may read"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    site: Site, ada: Browser, bob: Browser, channel: Channel, form: dict[str, str], reason: str
) -> None:
    await ada.get(f"/channels/{channel.id}/sharing")
    answer = await ada.post(f"/channels/{channel.id}/sharing", form)
    assert answer.status_code == 400
    assert reason in answer.text.lower()
    assert site.services.access.shared_with(channel.id) == frozenset()
    assert site.services.access.channel(channel.id) == channel


async def test_a_share_ends_with_its_account_and_with_its_channel(
    site: Site, ada: Browser, bob: Browser, channel: Channel
) -> None:
    await site.account("eve")
    page = await share(ada, channel, "shared", "bob, eve")
    assert "bob\neve" in page
    await site.services.accounts.remove("bob")
    assert "bob" not in (await ada.get(f"/channels/{channel.id}/sharing")).text
    eve = site.services.access.account_named("eve")
    assert eve is not None
    assert site.services.access.channels_shared_with(eve.id) == [channel]
    await site.services.channels.delete(channel.account_id, channel.id)
    assert site.services.access.channels_shared_with(eve.id) == []
    snapshot = await site.services.registry.read(lambda registry: registry.snapshot())
    assert snapshot.shares == ()


async def test_shares_outlive_the_process(site: Site, ada: Browser, bob: Browser, channel: Channel) -> None:
    await share(ada, channel, "shared", "bob")
    snapshot = await site.services.registry.read(lambda registry: registry.snapshot())
    before = site.services.access.shared_with(channel.id)
    site.services.access.load(snapshot)
    assert site.services.access.shared_with(channel.id) == before != frozenset()
