"""TalkBacks and their commands in the registry."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import Conflict, NotFound
from headwater.registry import talkbacks
from headwater.registry.entities import ChannelSettings
from headwater.registry.keys import generate_api_key
from headwater.registry.opening import open_registry
from headwater.registry.registry import Registry
from headwater.registry.talkback_tables import TalkBack

MOST = 8000


def add_account(registry: Registry, name: str) -> int:
    keys = {name: generate_api_key() for name in ("user_api_key", "mqtt_api_key", "alerts_api_key")}
    account, _ = registry.add_account(name, password_hash="x", is_admin=False, time_zone="UTC", **keys)
    return account.id


def add_channel(registry: Registry, account_id: int) -> int:
    keys = {"write_key": generate_api_key(), "read_key": generate_api_key()}
    return registry.add_channel(account_id, ChannelSettings(), most=10, **keys).id


def add_talkback(registry: Registry, account_id: int, log_channel_id: int | None = None, most: int = 10) -> TalkBack:
    return registry.add_talkback(
        account_id, name="door", api_key=generate_api_key(), log_channel_id=log_channel_id, most=most
    )


def add(registry: Registry, talkback: TalkBack, text: str, position: int | None = None) -> int:
    return registry.add_command(talkback.id, text, position=position, most=MOST).id


def waiting(registry: Registry, talkback: TalkBack) -> list[str]:
    commands = registry.commands(talkback.id).waiting
    assert [command.position for command in commands] == list(range(1, len(commands) + 1))
    return [command.command_string for command in commands]


def test_a_talkback_comes_back_as_it_was_and_its_id_never(registry_url: str) -> None:
    registry = open_registry(registry_url)
    account_id = add_account(registry, "ada")
    channel_id = add_channel(registry, account_id)
    first = add_talkback(registry, account_id, channel_id)
    changed = registry.update_talkback(account_id, first.id, name="gate", log_channel_id=channel_id)
    assert (changed.name, changed.log_channel_id, changed.api_key) == ("gate", channel_id, first.api_key)
    registry.close()
    registry = open_registry(registry_url)
    assert registry.snapshot().talkbacks == (changed,)
    assert registry.remove_talkback(account_id, first.id) == changed
    assert add_talkback(registry, account_id).id > first.id
    registry.close()


def test_the_channel_for_logging_may_go_and_must_be_ones_own(registry: Registry) -> None:
    account_id, other_id = add_account(registry, "ada"), add_account(registry, "bob")
    channel_id = add_channel(registry, account_id)
    with pytest.raises(NotFound):
        add_talkback(registry, other_id, channel_id)
    talkback = add_talkback(registry, account_id, channel_id)
    registry.remove_channel(account_id, channel_id)
    (kept,) = registry.snapshot().talkbacks
    assert (kept.id, kept.log_channel_id) == (talkback.id, None)


def test_another_accounts_talkback_is_none(registry: Registry) -> None:
    talkback = add_talkback(registry, add_account(registry, "ada"))
    other_id = add_account(registry, "bob")
    for call in (
        lambda: registry.update_talkback(other_id, talkback.id, name="x", log_channel_id=None),
        lambda: registry.set_talkback_key(other_id, talkback.id, "K" * 16),
        lambda: registry.remove_talkback(other_id, talkback.id),
    ):
        with pytest.raises(NotFound):
            call()


def test_everything_goes_with_the_account(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    talkback = add_talkback(registry, account_id)
    command_id = add(registry, talkback, "ON")
    registry.remove_account(account_id)
    assert registry.snapshot().talkbacks == ()
    with pytest.raises(NotFound):
        registry.command(talkback.id, command_id)


def test_limits(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    talkback = add_talkback(registry, account_id, most=1)
    with pytest.raises(Conflict, match="at most 1 TalkBacks"):
        add_talkback(registry, account_id, most=1)
    registry.add_command(talkback.id, "ON", position=None, most=1)
    with pytest.raises(Conflict, match="at most 1 waiting"):
        registry.add_command(talkback.id, "OFF", position=None, most=1)
    registry.execute_command(talkback.id, keep=10)
    registry.add_command(talkback.id, "OFF", position=None, most=1)  # what was executed does not count


def test_commands_keep_their_order_as_they_come_go_and_move(registry: Registry) -> None:
    talkback = add_talkback(registry, add_account(registry, "ada"))
    ids = {text: add(registry, talkback, text) for text in "abc"}
    add(registry, talkback, "first", 1)
    add(registry, talkback, "third", 3)
    add(registry, talkback, "last", 99)
    assert waiting(registry, talkback) == ["first", "a", "third", "b", "c", "last"]
    moved = registry.change_command(talkback.id, ids["c"], text="C", position=2)
    assert (moved.command_string, moved.position) == ("C", 2)
    assert registry.change_command(talkback.id, ids["a"], text=None, position=99).position == 6
    removed = registry.remove_command(talkback.id, ids["b"])
    assert (removed.command_string, removed.position) == ("b", 4)
    assert waiting(registry, talkback) == ["first", "C", "third", "last", "a"]
    with pytest.raises(NotFound):
        registry.command(talkback.id, ids["b"])
    assert add(registry, talkback, "new") > max(ids.values())
    registry.clear_commands(talkback.id)
    assert waiting(registry, talkback) == []


def test_an_executed_command_has_a_time_and_no_position(registry_url: str) -> None:
    times = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(1000))
    registry = open_registry(registry_url, now=lambda: next(times))
    talkback = add_talkback(registry, add_account(registry, "ada"))
    ids = [add(registry, talkback, str(n)) for n in range(4)]
    executed = [registry.execute_command(talkback.id, keep=2) for _ in range(3)]
    assert [command and command.command_string for command in executed] == ["0", "1", "2"]
    shown = registry.command(talkback.id, ids[2])
    assert shown == executed[2] == registry.last_command(talkback.id)
    assert shown.position is None
    assert shown.executed_at is not None
    assert [command.id for command in registry.commands(talkback.id).executed] == [ids[2], ids[1]]
    with pytest.raises(NotFound):
        registry.command(talkback.id, ids[0])  # only so many are kept
    with pytest.raises(Conflict, match="executed already"):
        registry.change_command(talkback.id, ids[2], text="x", position=None)
    assert registry.remove_command(talkback.id, ids[2]).executed_at is not None
    registry.execute_command(talkback.id, keep=2)
    assert registry.execute_command(talkback.id, keep=2) is None
    registry.close()


def test_two_that_execute_at_once_get_different_commands(registry_url: str) -> None:
    """Two processes, in effect: each has a connection of its own."""
    registries = [open_registry(registry_url) for _ in range(2)]
    talkback = add_talkback(registries[0], add_account(registries[0], "ada"))
    for number in range(60):
        add(registries[0], talkback, str(number))
    got: list[list[str]] = [[], []]

    def empty(which: int) -> None:
        while (command := registries[which].execute_command(talkback.id, keep=100)) is not None:
            got[which].append(command.command_string)

    threads = [threading.Thread(target=empty, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, got[0] + got[1])) == list(range(60))
    for registry in registries:
        registry.close()


def test_places_are_made_anew_when_there_is_no_room_between_two(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talkbacks, "GAP", 4)
    talkback = add_talkback(registry, add_account(registry, "ada"))
    expected: list[str] = []
    for number in range(30):
        position = min(2, number + 1)
        add(registry, talkback, str(number), position)
        expected.insert(position - 1, str(number))
    assert waiting(registry, talkback) == expected


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.none() | st.integers(1, 12)),
        st.tuples(st.just("move"), st.tuples(st.integers(0, 11), st.integers(1, 12))),
        st.tuples(st.just("remove"), st.integers(0, 11)),
        st.tuples(st.just("execute"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_it_behaves_as_a_list(steps: list[tuple[str, object]]) -> None:
    registry = open_registry("sqlite://")
    talkback = add_talkback(registry, add_account(registry, "ada"))
    model: list[int] = []
    for step, argument in steps:
        match step, argument:
            case "add", int() | None:
                command = registry.add_command(talkback.id, "x", position=argument, most=MOST)
                model.insert(len(model) if argument is None else argument - 1, command.id)
            case "move", (int(which), int(position)) if which < len(model):
                command_id = model.pop(which)
                model.insert(position - 1, command_id)
                registry.change_command(talkback.id, command_id, text=None, position=position)
            case "remove", int(which) if which < len(model):
                registry.remove_command(talkback.id, model.pop(which))
            case "execute", _:
                executed = registry.execute_command(talkback.id, keep=3)
                assert (executed.id if executed else None) == (model.pop(0) if model else None)
        waiting_now = registry.commands(talkback.id).waiting
        assert [command.id for command in waiting_now] == model
        assert [registry.command(talkback.id, command_id).position for command_id in model] == list(
            range(1, len(model) + 1)
        )
    registry.close()
