from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.principal import Grant
from headwater.registry.entities import ChannelSettings
from headwater.services.access import AccessChange
from headwater.services.channels import MAX_RETENTION_S, MIN_RETENTION_S, Channels, check_settings

KEY = r"[0-9A-Z]{16}"
LINE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
NUMBER = st.floats(-90, 90).map(repr)
GOOD_SETTINGS = st.builds(
    ChannelSettings,
    name=LINE,
    description=LINE,
    fields=st.dictionaries(st.integers(1, 8), LINE),
    latitude=NUMBER | st.just(""),
    longitude=NUMBER | st.just(""),
    elevation=st.just("") | NUMBER,
    is_public=st.booleans(),
    url=st.just("") | st.just("https://example.org/x?y=1"),
    github_url=st.just("") | st.just("github.com/a/b"),
    metadata=LINE.map(lambda text: f"{text}\n{text}"),
    tags=st.lists(LINE.map(lambda text: text.replace(",", ";")), max_size=5).map(tuple),
    retention_s=st.none() | st.integers(MIN_RETENTION_S, MAX_RETENTION_S),
)


@given(GOOD_SETTINGS)
def test_checked_settings_stay_as_they_are(given_settings):
    checked = check_settings(given_settings)
    assert check_settings(checked) == checked


def test_units_and_labels_are_those_of_named_fields():
    checked = check_settings(
        ChannelSettings(fields={1: "t", 2: " ", 9: "r"}, units={1: " °C ", 2: "%", 9: ""}, labels={9: " Rain ", 3: "x"})
    )
    assert (checked.fields, checked.units, checked.labels) == ({1: "t", 9: "r"}, {1: "°C"}, {9: "Rain"})
    assert [checked.field_title(number) for number in (1, 2, 9)] == ["t (°C)", "Field 2", "Rain"]


async def test_how_many_fields_there_may_be(house):
    account = await house.account()
    channels = Channels(house.worker, house.access, max_fields_per_channel=12)
    assert (await channels.create(account.id, ChannelSettings(fields={12: "x"}))).settings.numbers[-1] == 12
    with pytest.raises(BadRequest, match="field numbers go from 1 to 12"):
        await channels.create(account.id, ChannelSettings(fields={13: "x"}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(wanted=GOOD_SETTINGS)
async def test_settings_come_back_as_they_were_checked(house, wanted):
    account = house.access.account_named("ada") or await house.account()
    made = await house.channels.create(account.id, wanted)
    assert made.settings == check_settings(wanted)
    assert await house.channels.get_owned(account.id, made.id) == made
    assert (await house.channels.update(account.id, made.id, made.settings)).settings == made.settings
    await house.channels.delete(account.id, made.id)


@pytest.mark.parametrize("retention_s", [MIN_RETENTION_S - 1, MAX_RETENTION_S + 1, 0, -1])
def test_a_retention_that_cannot_be_is_refused(retention_s):
    with pytest.raises(BadRequest, match="retention_s must be 3600"):
        check_settings(ChannelSettings(retention_s=retention_s))


async def test_a_retention_is_known_for_every_bucket_that_has_one(house):
    account = await house.account()
    kept = await house.channels.create(account.id, ChannelSettings(retention_s=7200))
    other = await house.channels.create(account.id, ChannelSettings())
    assert house.access.retentions() == {kept.id: 7200}
    assert (house.access.retention_s(kept.id), house.access.retention_s(other.id)) == (7200, None)
    await house.channels.update(account.id, kept.id, ChannelSettings())
    assert house.access.retentions() == {}
    await house.channels.update(account.id, other.id, ChannelSettings(retention_s=3600))
    assert house.access.retentions() == {other.id: 3600}
    await house.channels.delete(account.id, other.id)
    assert house.access.retentions() == {}


async def test_changes_of_a_retention_go_through_who_is_asked(house):
    asked = []

    async def change(channel_id, retention_s, commit):
        asked.append((channel_id, retention_s))
        return await commit()

    account, stranger = await house.account(), await house.account("bob")
    channels = Channels(house.worker, house.access, change_retention=change)
    channel = await channels.create(account.id, ChannelSettings(retention_s=7200))
    for retention_s in (7200, 3600, None):
        await channels.update(account.id, channel.id, replace(channel.settings, retention_s=retention_s))
    with pytest.raises(NotFound):
        await channels.update(stranger.id, channel.id, replace(channel.settings, retention_s=3600))
    assert asked == [(channel.id, 3600), (channel.id, None)]
    assert house.access.retentions() == {}


async def test_a_new_channel_has_one_key_of_each_kind(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings(name="Weather", fields={1: "°C"}))
    assert [key.allows_write for key in channel.api_keys] == [True, False]
    assert re.fullmatch(KEY, channel.write_key)
    assert re.fullmatch(KEY, channel.read_keys[0])
    assert house.access.channel(channel.id) == channel
    assert house.access.channel_of_write_key(channel.write_key) == channel
    assert house.access.channel_of_write_key(channel.read_keys[0]) is None
    assert await house.channels.owned(account.id) == [channel]


async def test_an_update_replaces_all_settings_and_no_key(house):
    account = await house.account()
    first = await house.channels.create(account.id, ChannelSettings(name="a", fields={1: "x", 2: "y"}))
    second = await house.channels.update(account.id, first.id, ChannelSettings(name="b", fields={2: "z"}))
    assert second == replace(first, settings=ChannelSettings(name="b", fields={2: "z"}), updated_at=second.updated_at)
    assert second.updated_at > first.updated_at
    assert house.access.channel(first.id) == second


async def test_what_is_blank_or_twice_is_left_out(house):
    account = await house.account()
    channel = await house.channels.create(
        account.id,
        ChannelSettings(
            name=" a ", fields={2: " b ", 1: "a", 3: "", 4: "  "}, latitude=" 1.50 ", tags=(" x", "", "y", "x ")
        ),
    )
    assert channel.settings == ChannelSettings(name="a", fields={1: "a", 2: "b"}, latitude="1.50", tags=("x", "y"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "x" * 256}, "name may have at most 255 characters"),
        ({"name": "a\nb"}, "name must not contain control characters"),
        ({"name": "a\x00b"}, "name must not contain control characters"),
        ({"name": "\ud800"}, "name must not contain control characters"),
        ({"description": "x" * 8001}, "description may have at most 8000 characters"),
        ({"metadata": "x" * 8001}, "metadata may have at most 8000 characters"),
        ({"fields": {1: "x" * 256}}, "field1 may have at most 255 characters"),
        ({"fields": {1: "x"}, "units": {1: "x" * 33}}, "unit1 may have at most 32 characters"),
        ({"fields": {9: "x"}, "labels": {9: "a\nb"}}, "label9 must not contain control characters"),
        ({"fields": {0: "x"}}, "field numbers go from 1 to 256"),
        ({"fields": {257: ""}}, "field numbers go from 1 to 256"),
        ({"latitude": "90.01"}, "latitude must be a number from -90 to 90"),
        ({"latitude": "north"}, "latitude must be a number"),
        ({"latitude": "nan"}, "latitude must be a number"),
        ({"latitude": "1" * 33}, "latitude may have at most 32 characters"),
        ({"longitude": "-180.5"}, "longitude must be a number from -180 to 180"),
        ({"longitude": "1e999"}, "longitude must be a number"),
        ({"longitude": "\u0661"}, "longitude must be a number"),
        ({"elevation": "x" * 33}, "elevation may have at most 32 characters"),
        ({"url": "https://example.org/" + "x" * 1981}, "url may have at most 2000 characters"),
        ({"url": "javascript:alert(1)"}, "url must begin with http"),
        ({"github_url": " JavaScript:alert(1)"}, "github_url must begin with http"),
        ({"tags": tuple(str(number) for number in range(33))}, "tags: at most 32"),
        ({"tags": ("x" * 65,)}, "each tag may have at most 64 characters"),
        ({"tags": ("a,b",)}, "a tag must not contain a comma"),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_changes_nothing(house, wrong, told):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    changes = list(house.changes)
    with pytest.raises(BadRequest, match=told):
        await house.channels.create(account.id, ChannelSettings(**wrong))
    with pytest.raises(BadRequest, match=told):
        await house.channels.update(account.id, channel.id, ChannelSettings(**wrong))
    assert await house.channels.owned(account.id) == [channel]
    assert house.changes == changes


@pytest.mark.parametrize("text", ["", "0", "-90", "+90.0", "42.", ".5", "1e-05", "48.137154"])
def test_a_latitude_is_kept_as_it_was_written(text):
    assert check_settings(ChannelSettings(latitude=text)).latitude == text


async def test_the_number_of_channels_is_limited_for_each_account(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    channels = Channels(house.worker, house.access, max_channels_per_account=2)
    for account in (ada, bob):
        for _ in range(2):
            await channels.create(account.id, ChannelSettings())
        with pytest.raises(Conflict, match="at most 2 channels"):
            await channels.create(account.id, ChannelSettings())


async def test_a_new_write_key_ends_the_old_one(house):
    account = await house.account()
    old = await house.channels.create(account.id, ChannelSettings())
    new = await house.channels.rotate_write_key(account.id, old.id)
    assert new.write_key != old.write_key
    assert new.read_keys == old.read_keys
    assert house.access.channel_of_write_key(old.write_key) is None
    assert house.access.channel_of_write_key(new.write_key) == new
    assert not house.access.may_read(new, old.write_key)


async def test_read_keys_come_and_go(house):
    account = await house.account()
    first = await house.channels.create(account.id, ChannelSettings())
    second = await house.channels.add_read_key(account.id, first.id, "for the school")
    assert [key.note for key in second.api_keys] == ["", "", "for the school"]
    third = await house.channels.set_key_note(account.id, first.id, second.api_keys[2].id, "for Bob")
    assert third.api_keys[2] == replace(second.api_keys[2], note="for Bob")
    fourth = await house.channels.remove_read_key(account.id, first.id, first.api_keys[1].id)
    assert fourth.api_keys == (third.api_keys[0], third.api_keys[2])
    assert not house.access.may_read(fourth, first.read_keys[0])
    assert house.access.may_read(fourth, fourth.read_keys[0])


async def test_the_write_key_cannot_be_removed(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings())
    with pytest.raises(NotFound):
        await house.channels.remove_read_key(account.id, channel.id, channel.api_keys[0].id)
    with pytest.raises(NotFound):
        await house.channels.remove_read_key(account.id, channel.id, 99)
    with pytest.raises(NotFound):
        await house.channels.set_key_note(account.id, channel.id, 99, "")


async def test_a_key_of_another_channel_is_out_of_reach_through_one_s_own(house):
    ada, bob = await house.account("ada"), await house.account("bob")
    own = await house.channels.create(ada.id, ChannelSettings())
    foreign = await house.channels.create(bob.id, ChannelSettings())
    with pytest.raises(NotFound):
        await house.channels.remove_read_key(ada.id, own.id, foreign.api_keys[1].id)
    with pytest.raises(NotFound):
        await house.channels.set_key_note(ada.id, own.id, foreign.api_keys[1].id, "mine")
    assert house.access.channel(foreign.id) == foreign


async def test_notes_and_read_keys_are_limited(house):
    account = await house.account()
    channels = Channels(house.worker, house.access, max_read_keys_per_channel=2)
    channel = await channels.create(account.id, ChannelSettings())
    with pytest.raises(BadRequest, match="note may have at most 255"):
        await channels.add_read_key(account.id, channel.id, "x" * 256)
    with pytest.raises(BadRequest, match="note may have at most 255"):
        await channels.set_key_note(account.id, channel.id, channel.api_keys[0].id, "x" * 256)
    await channels.add_read_key(account.id, channel.id)
    with pytest.raises(Conflict, match="at most 2 read keys"):
        await channels.add_read_key(account.id, channel.id)


async def test_a_deleted_channel_is_gone_with_its_keys_and_grants(house):
    account = await house.account()
    channel = await house.channels.create(account.id, ChannelSettings(name="gone"))
    other = await house.channels.create(account.id, ChannelSettings(name="kept"))
    grants = [Grant(channel.id, True, True), Grant(other.id, True, False)]
    device, _ = await house.devices.create(account.id, "probe", grants)
    house.changes.clear()
    assert await house.channels.delete(account.id, channel.id) == channel
    assert house.deleted == [channel]
    assert house.access.channel(channel.id) is None
    assert house.access.channel_of_write_key(channel.write_key) is None
    assert house.changes == [AccessChange(frozenset({device.id}), frozenset({channel.id}))]
    assert (await house.devices.get_owned(account.id, device.id)).grants == (grants[1],)
    with pytest.raises(NotFound):
        await house.channels.delete(account.id, channel.id)
    assert house.deleted == [channel]


async def test_a_deletion_is_carried_through_although_its_caller_goes_away(house):
    account = await house.account()
    started, proceed, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def on_deleted(_: object) -> None:
        started.set()
        await proceed.wait()
        done.set()

    channels = Channels(house.worker, house.access, on_deleted=on_deleted)
    channel = await channels.create(account.id, ChannelSettings())
    deletion = asyncio.create_task(channels.delete(account.id, channel.id))
    await asyncio.wait_for(started.wait(), 30)
    deletion.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deletion
    proceed.set()
    await asyncio.wait_for(done.wait(), 30)


async def test_memory_follows_the_file_although_the_caller_goes_away(house):
    account = await house.account()
    started, proceed = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        started.set()
        assert proceed.wait(30)

    holding = asyncio.create_task(house.worker.read(hold))
    await asyncio.to_thread(started.wait, 30)
    creation = asyncio.create_task(house.channels.create(account.id, ChannelSettings()))
    await asyncio.sleep(0)  # lets the creation queue its call behind the one that holds the thread
    await asyncio.sleep(0)
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    proceed.set()
    await holding
    async with asyncio.timeout(30):
        while not await house.channels.owned(account.id):
            await asyncio.sleep(0.001)
