"""TalkBacks as the use cases see them: ownership, keys, limits, the queue, and the log of executed commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, cast

import pytest

from headwater.errors import BadRequest, Conflict, NotFound, Overloaded
from headwater.model.entry import EntryUpdate
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services.talkbacks import EXECUTED_KEPT, MAX_COMMAND_LENGTH, Talkbacks
from services.conftest import House


class Logged(NamedTuple):
    channel_id: int
    status: str | None


class FakeEntries:
    """Notes what is appended; refuses it when told so."""

    def __init__(self) -> None:
        self.logged: list[Logged] = []
        self.is_full = False

    def append(self, channel: Channel, update: EntryUpdate, now_ns: int) -> None:
        if self.is_full:
            raise Overloaded("too much waits for the disk")
        assert now_ns > 0
        self.logged.append(Logged(channel.id, update.status))


@pytest.fixture
def entries() -> FakeEntries:
    return FakeEntries()


@pytest.fixture
async def talkbacks(house: House, entries: FakeEntries) -> AsyncIterator[Talkbacks]:
    made = Talkbacks(
        house.worker, house.access, cast(Any, entries), now_ns=lambda: 1, max_talkbacks_per_account=3, max_commands=3
    )
    yield made
    snapshot = await house.worker.read(lambda registry: registry.snapshot())
    assert {talkback.id: talkback for talkback in snapshot.talkbacks} == made._known
    assert sorted(made._ids.values()) == sorted(made._known)


async def test_a_key_opens_its_talkback_until_it_is_replaced(house: House, talkbacks: Talkbacks) -> None:
    ada, bob = await house.account("ada"), await house.account("bob")
    made = await talkbacks.create(ada.id, "door")
    assert talkbacks.of_key(made.api_key) == made
    rotated = await talkbacks.rotate_key(ada.id, made.id)
    assert (talkbacks.of_key(made.api_key), talkbacks.of_key(rotated.api_key)) == (None, rotated)
    with pytest.raises(NotFound):
        await talkbacks.rotate_key(bob.id, made.id)
    await talkbacks.delete(ada.id, made.id)
    assert talkbacks.of_key(rotated.api_key) is None


async def test_anothers_talkback_is_as_one_that_is_none(house: House, talkbacks: Talkbacks) -> None:
    ada, bob = await house.account("ada"), await house.account("bob")
    made = await talkbacks.create(ada.id, "door")
    command = await talkbacks.add_command(ada.id, made.id, "ON")
    attempts: list[Callable[[int], Awaitable[object]]] = [
        lambda id_: talkbacks.update(bob.id, id_, name="x", log_channel_id=None),
        lambda id_: talkbacks.delete(bob.id, id_),
        lambda id_: talkbacks.add_command(bob.id, id_, "x"),
        lambda id_: talkbacks.change_command(bob.id, id_, command.id, "x"),
        lambda id_: talkbacks.remove_command(bob.id, id_, command.id),
        lambda id_: talkbacks.clear(bob.id, id_),
    ]
    for id_ in (made.id, 10**6):
        for attempt in attempts:
            with pytest.raises(NotFound, match=f"there is no TalkBack {id_}"):
                await attempt(id_)
    assert talkbacks.owned(bob.id) == []
    own = await talkbacks.create(bob.id, "own")
    with pytest.raises(NotFound, match="no command"):
        await talkbacks.remove_command(bob.id, own.id, command.id)


async def test_limits_and_texts(house: House, talkbacks: Talkbacks) -> None:
    ada = await house.account()
    made = await talkbacks.create(ada.id, "door")
    with pytest.raises(BadRequest, match="name"):
        await talkbacks.create(ada.id, " ")
    for wrong in ("", "  ", "x" * (MAX_COMMAND_LENGTH + 1), "a\0b"):
        with pytest.raises(BadRequest, match="command_string"):
            await talkbacks.add_command(ada.id, made.id, wrong)
    for position in (0, -1, 2**31):
        with pytest.raises(BadRequest, match="position"):
            await talkbacks.add_command(ada.id, made.id, "x", position)
    for text in ("x" * MAX_COMMAND_LENGTH, "two\nlines", "ü"):
        await talkbacks.add_command(ada.id, made.id, text)
    with pytest.raises(Conflict, match="at most 3 waiting commands"):
        await talkbacks.add_command(ada.id, made.id, "x")
    for _ in range(2):
        await talkbacks.create(ada.id, "door")
    with pytest.raises(Conflict, match="at most 3 TalkBacks"):
        await talkbacks.create(ada.id, "door")


async def test_all_that_ask_at_once_get_different_commands(house: House, talkbacks: Talkbacks) -> None:
    ada = await house.account()
    made = await talkbacks.create(ada.id, "door")
    for text in "abc":
        await talkbacks.add_command(ada.id, made.id, text)
    got = await asyncio.gather(*(talkbacks.execute(made) for _ in range(10)))
    assert sorted(command.command_string for command in got if command is not None) == ["a", "b", "c"]
    assert await talkbacks.execute(made) is None


async def test_a_queue_that_was_empty_gives_what_comes_later(house: House, talkbacks: Talkbacks) -> None:
    ada = await house.account()
    made = await talkbacks.create(ada.id, "door")
    for text in ("ON", "OFF"):
        assert await talkbacks.execute(made) is None
        asked, added = await asyncio.gather(talkbacks.execute(made), talkbacks.add_command(ada.id, made.id, text))
        executed = asked or await talkbacks.execute(made)
        assert executed is not None
        assert (executed.id, executed.command_string) == (added.id, text)
    assert (await talkbacks.command(made, executed.id)).executed_at is not None
    assert await talkbacks.last_command(made) == executed


async def test_only_the_last_executed_commands_are_kept(house: House, talkbacks: Talkbacks) -> None:
    ada = await house.account()
    made = await talkbacks.create(ada.id, "door")
    for number in range(EXECUTED_KEPT + 2):
        await talkbacks.add_command(ada.id, made.id, str(number))
        await talkbacks.execute(made)
    executed = (await talkbacks.commands(made)).executed
    assert [command.command_string for command in executed] == [str(n) for n in range(EXECUTED_KEPT + 1, 1, -1)]


async def test_executed_commands_are_logged_to_the_channel(
    house: House, talkbacks: Talkbacks, entries: FakeEntries
) -> None:
    ada = await house.account()
    channel = await house.channels.create(ada.id, ChannelSettings())
    made = await talkbacks.create(ada.id, "door", channel.id)
    for text in "abc":
        await talkbacks.add_command(ada.id, made.id, text)
    await talkbacks.execute(made)
    assert entries.logged == [Logged(channel.id, "a")]
    entries.is_full = True
    assert (await talkbacks.execute(made)) is not None  # the device gets its command all the same
    entries.is_full = False
    await house.channels.delete(ada.id, channel.id)
    assert talkbacks.get_owned(ada.id, made.id).log_channel_id is None
    await talkbacks.execute(made)
    assert len(entries.logged) == 1


async def test_the_log_channel_must_be_ones_own(house: House, talkbacks: Talkbacks) -> None:
    ada, bob = await house.account("ada"), await house.account("bob")
    channel = await house.channels.create(bob.id, ChannelSettings())
    with pytest.raises(NotFound):
        await talkbacks.create(ada.id, "door", channel.id)
    made = await talkbacks.create(ada.id, "door")
    with pytest.raises(NotFound):
        await talkbacks.update(ada.id, made.id, name="door", log_channel_id=channel.id)


async def test_they_go_with_the_account_and_come_back_on_a_reload(house: House, talkbacks: Talkbacks) -> None:
    ada, _ = await house.account("ada"), await house.account("bob")
    made = await talkbacks.create(ada.id, "door")
    assert await talkbacks.execute(made) is None
    snapshot = await house.worker.read(lambda registry: registry.snapshot())
    talkbacks.load(snapshot.talkbacks)
    assert talkbacks.of_key(made.api_key) == made
    await house.accounts.remove("ada")
    assert talkbacks.of_key(made.api_key) is None
    with pytest.raises(NotFound):
        talkbacks.get_owned(ada.id, made.id)
    assert await talkbacks.execute(made) is None
