"""The engine with a driven clock: which entries, silences and times have a rule run, and how often."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_house import PUBLISH, START_NS, RuleHouse, S

from headwater.errors import Cancelled
from headwater.model.entry import Entry
from headwater.registry.rule_entities import RuleState
from headwater.services.rules.definitions import (
    Draft,
    Every,
    Numeric,
    Once,
    Publish,
    Rule,
    Silence,
    Status,
    Timed,
    Watch,
    Weekly,
)
from headwater.services.rules.engine import Engine
from headwater.services.rules.journal import RunJournal
from headwater.services.rules.timers import Timers
from headwater.settings import RuleSettings

HOT = Numeric(1, ">", 30.0)
MINUTE, HOUR = 60, 3600


async def test_a_rule_runs_when_its_condition_becomes_met(rules_house: RuleHouse) -> None:
    rule = await rules_house.watch(HOT)
    await rules_house.send("20", "31", "32", "nan", None, "33", "29", "34")
    assert rules_house.outside.payloads == ["31", "34"]
    second, first = await rules_house.history(rule)
    assert (first.reason, first.entry_id, first.outcome) == ("field1 is “31” (> 30)", 2, "done")
    assert (second.entry_id, [result.what for result in second.results]) == (8, ["MQTT alarms"])


async def test_a_rule_may_run_each_time(rules_house: RuleHouse) -> None:
    await rules_house.watch(HOT, is_first_only=False)
    await rules_house.send("31", "20", "32", "33")
    assert rules_house.outside.payloads == ["31", "32", "33"]


async def test_a_bulk_write_has_a_rule_run_once(rules_house: RuleHouse) -> None:
    await rules_house.watch(HOT, Publish("first", "%%field1%%"))
    await rules_house.watch(HOT, Publish("each", "%%field1%%"), is_first_only=False)
    await rules_house.send_bulk("20", "31", "10", "32", "11")
    assert [message[1:3] for message in rules_house.outside.messages] == [("first", b"31"), ("each", b"31")]
    await rules_house.send_bulk("33")  # those times are taken: nothing new is stored
    assert len(rules_house.outside.messages) == 2
    await rules_house.send("33")
    assert len(rules_house.outside.messages) == 4


async def test_a_state_survives_a_restart(rules_house: RuleHouse) -> None:
    rule = await rules_house.watch(HOT)
    await rules_house.send("31")
    await rules_house.restart()
    await rules_house.send("32")
    assert rules_house.outside.payloads == ["31"]
    await rules_house.send("20")
    await rules_house.restart()
    await rules_house.send("33")
    assert rules_house.outside.payloads == ["31", "33"]
    report = await rules_house.rules.report(rule)
    assert (report.state.runs, report.state.failures, report.state.is_met) == (2, 0, True)


async def test_a_pause_leaves_runs_out_but_no_alarm(rules_house: RuleHouse) -> None:
    rule = await rules_house.watch(HOT, pause_s=60)
    await rules_house.send("31", "20", "32")
    assert rules_house.outside.payloads == ["31"]
    report = await rules_house.rules.report(rule)
    assert (report.left_out, report.left_out_why) == (1, "the pause between two runs was not over")
    await rules_house.passes(61)
    await rules_house.send("33")  # still hot: the alarm that was left out
    assert rules_house.outside.payloads == ["31", "33"]


@pytest.mark.parametrize("rule_settings", [RuleSettings(runs_per_minute=5)])
async def test_a_loop_ends(rules_house: RuleHouse) -> None:
    """A rule that publishes to the channel that it watches."""
    house = rules_house
    rule = await house.watch(HOT, is_first_only=False)
    for n in range(20):
        await house.send(str(31 + n))
    assert len(house.outside.messages) == 5
    assert (await house.rules.report(rule)).left_out_why == "it ran 5 times within a minute"
    await house.passes(MINUTE)
    await house.send("99")
    assert len(house.outside.messages) == 6


async def test_the_newest_entry_is_looked_at_now_and_then(rules_house: RuleHouse) -> None:
    await rules_house.watch(HOT, every_min=10, is_first_only=False)
    await rules_house.send("31", "20")
    await rules_house.passes(10 * MINUTE)
    assert rules_house.outside.payloads == []
    await rules_house.send("32")
    assert rules_house.outside.payloads == []
    await rules_house.passes(10 * MINUTE)
    await rules_house.passes(10 * MINUTE)
    assert rules_house.outside.payloads == ["32", "32"]


async def test_silence_is_noticed_once_until_something_comes(rules_house: RuleHouse) -> None:
    rule = await rules_house.watch(Silence(10), Publish("silence", "quiet"))
    await rules_house.send("1")
    await rules_house.passes(9 * MINUTE)
    await rules_house.send(None, status="alive")
    await rules_house.passes(9 * MINUTE)
    assert rules_house.outside.payloads == []
    await rules_house.passes(MINUTE)
    assert rules_house.outside.payloads == ["quiet"]
    await rules_house.passes(HOUR)
    assert rules_house.outside.payloads == ["quiet"]
    await rules_house.send_bulk("5")
    await rules_house.passes(10 * MINUTE)
    assert rules_house.outside.payloads == ["quiet"] * 2
    assert (await rules_house.history(rule))[0].reason == "no data for 10 min"


async def test_silence_of_a_field_and_each_time(rules_house: RuleHouse) -> None:
    await rules_house.watch(Silence(10, 1), Publish("silence", "quiet"), is_first_only=False)
    await rules_house.send("1")
    for _ in range(5):
        await rules_house.passes(5 * MINUTE)
        await rules_house.send(None, status="alive")
    assert rules_house.outside.payloads == ["quiet"] * 2


async def test_after_a_restart_devices_have_time_to_come_back(rules_house: RuleHouse) -> None:
    await rules_house.watch(Silence(10))
    await rules_house.send("1")
    await rules_house.restart(down_s=HOUR)
    await rules_house.passes(119)
    await rules_house.send("2")
    await rules_house.passes(9 * MINUTE)
    assert rules_house.outside.payloads == []
    await rules_house.restart(down_s=HOUR)
    await rules_house.passes(121)
    assert len(rules_house.outside.messages) == 1
    await rules_house.restart(down_s=HOUR)  # it was said already
    await rules_house.passes(HOUR)
    assert len(rules_house.outside.messages) == 1


async def test_a_channel_that_never_had_an_entry_is_silent_too(rules_house: RuleHouse) -> None:
    rules_house.now_ns = START_NS + 10**18  # long after the channel and the rule were made
    await rules_house.restart()
    await rules_house.watch(Silence(1))
    await rules_house.passes(MINUTE)
    assert len(rules_house.outside.messages) == 1


async def test_schedules_are_kept(rules_house: RuleHouse) -> None:
    await rules_house.time(Timed(Every(10, START_NS)), Publish("every", ""))
    await rules_house.time(Timed(Weekly((0, 1), 12, 30, "UTC")), Publish("weekly", ""))
    await rules_house.time(Timed(Once("2026-03-02T12:25", "UTC")), Publish("once", ""))
    for _ in range(7):
        await rules_house.passes(5 * MINUTE)
    topics = [message[1] for message in rules_house.outside.messages]
    assert topics == ["every", "every", "once", "every", "weekly"] or sorted(topics) == sorted(
        ["every"] * 3 + ["once", "weekly"]
    )
    await rules_house.passes(3 * HOUR)  # asleep meanwhile: what was due is not made up for
    assert len(rules_house.outside.messages) == 6


async def test_a_time_that_passed_while_no_server_ran_is_told(rules_house: RuleHouse) -> None:
    rule = await rules_house.time(Timed(Once("2026-03-02T12:25", "UTC")))
    await rules_house.restart(down_s=HOUR)
    await rules_house.restart(down_s=HOUR)
    await rules_house.passes(HOUR)
    assert rules_house.outside.messages == []
    (run,) = await rules_house.history(rule)
    assert (run.outcome, run.results[0].detail) == ("not done", "its time passed while the server was not running")


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_a_fuzzy_time_comes_once_also_across_a_restart(rules_house: RuleHouse, chance: float) -> None:
    rules_house.chance = chance
    rule = await rules_house.time(Timed(Weekly((0, 1, 2), 12, 30, "UTC"), 10))
    for minute in range(60):
        if minute == 31:
            await rules_house.restart()
        await rules_house.passes(MINUTE)
    (run,) = await rules_house.history(rule)
    minute = (run.at_ns - START_NS) // S / 60
    assert minute == pytest.approx({0.0: 20, 0.5: 30, 1.0: 40}[chance], abs=1)


async def test_a_rule_that_is_changed_or_enabled_begins_anew(rules_house: RuleHouse) -> None:
    house, rules = rules_house, rules_house.rules
    rule = await house.watch(HOT)
    await house.send("31")
    await rules.set_enabled(house.ada.id, rule.id, False)
    await house.send("20", "32")
    assert house.outside.payloads == ["31"]
    await rules.set_enabled(house.ada.id, rule.id, True)
    await house.send("33")
    assert house.outside.payloads == ["31", "33"]
    await rules.update(house.ada.id, rule.id, Draft("Renamed", rule.trigger, house.channel.id, (PUBLISH,)))
    await house.send("34")
    assert house.outside.payloads == ["31", "33"]  # another name is no other condition
    await rules.update(house.ada.id, rule.id, Draft("x", Watch(Status("==", "a")), house.channel.id, (PUBLISH,)))
    await house.send("35", status="a")
    assert house.outside.payloads == ["31", "33", "35"]
    await rules.delete(house.ada.id, rule.id)
    await house.send("20", "36", status="a")
    assert len(house.outside.messages) == 3


async def test_only_channels_with_rules_are_watched(rules_house: RuleHouse) -> None:
    house = rules_house
    assert house.ingest._observers == {}
    one, two = await house.watch(HOT), await house.watch(Silence(5))
    timed = await house.time(Timed(Every(5, 0)))
    assert list(house.ingest._observers) == [house.channel.id]
    for rule in (one, two, timed):
        await house.rules.delete(house.ada.id, rule.id)
    assert house.ingest._observers == {}
    assert house.entries._bulk_watchers == {}


async def test_a_rule_of_a_channel_that_is_gone_says_so_and_can_watch_another(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT)
    await house.channels.delete(house.ada.id, house.channel.id)
    house.rules.drop_bucket(house.channel.id)
    for _ in range(2):
        (left,) = await house.rules.owned(house.ada.id)
        assert (left.id, left.bucket_id) == (rule.id, None)
        assert "is gone" in (await house.rules.report(left)).problem
        await house.restart()
    house.channel = await house.channels.create(house.ada.id, house.channel.settings)
    await house.rules.update(house.ada.id, rule.id, Draft("Hot", rule.trigger, house.channel.id, (PUBLISH,)))
    await house.send("31")
    assert house.outside.payloads == ["31"]


async def test_rules_of_a_removed_account_end(rules_house: RuleHouse) -> None:
    house = rules_house
    await house.time(Timed(Every(5, START_NS)))
    await house.worker.write(
        lambda registry: registry.remove_account(house.ada.id), lambda _: house.access.drop_account(house.ada.id)
    )
    await house.passes(10 * MINUTE)
    assert house.outside.messages == []
    await house.rules.load()
    assert await house.rules.owned(house.ada.id) == []


async def test_an_entry_that_cannot_be_read_is_no_silence(
    rules_house: RuleHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = rules_house

    async def fail(*_: object) -> list[Entry]:
        raise Cancelled("it took too long")

    await house.send("1")
    with monkeypatch.context() as broken:
        broken.setattr(house.entries, "newest", fail)
        rule = await house.watch(Silence(10))
        await house.passes(61)
        assert (await house.rules.report(rule)).left_out_why == "the newest entry could not be read"
    await house.passes(61)
    await house.passes(8 * MINUTE)
    assert len(house.outside.messages) == 1


async def test_silence_within_the_pause_is_told_after_it(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(Silence(1), pause_s=HOUR)
    await house.send("1")
    await house.passes(61)
    await house.send("2")
    for _ in range(50):
        await house.passes(MINUTE)
    assert len(house.outside.messages) == 1
    assert (await house.rules.report(rule)).left_out == 1
    for _ in range(12):
        await house.passes(MINUTE)
    assert len(house.outside.messages) == 2


numbers = st.sampled_from(["20", "31", "nan", "40", "on", "30"])


@given(st.lists(st.lists(numbers, min_size=1, max_size=4), max_size=12), st.booleans())
def test_runs_are_those_that_a_plain_reading_gives(calls: list[list[str]], is_first_only: bool) -> None:
    """Any entries in any bulks: the same as going through them by hand."""

    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: SimpleNamespace(id=1, account_id=1)

    started: list[int] = []
    journal = RunJournal(Nothing(), keep=1)  # type: ignore[arg-type]
    journal.load(1, RuleState())
    engine = Engine(
        Nothing(),  # type: ignore[arg-type]
        Nothing(),  # type: ignore[arg-type]
        Timers(lambda: 0),
        journal,
        lambda _, cause: started.append(cause.entry.entry_id) or True,  # type: ignore[union-attr, func-returns-value]
        lambda *_: None,
        runs_per_minute=1000,
        now_ns=lambda: 0,
        draw=lambda least, most: least,
    )
    watch = Watch(HOT, is_first_only=is_first_only)
    engine.follow(Rule(1, 1, "react", "r", True, 1, watch, b"", datetime(2026, 1, 1, tzinfo=UTC)))
    expected, was_met, entry_id = [], False, 0
    for call in calls:
        entries, has_run = [], False
        for text in call:
            entry_id += 1
            entries.append(Entry(entry_id, 0, {1: text}))
            if text in ("20", "31", "40", "30"):
                met = float(text) > 30
                if met and not has_run and not (is_first_only and was_met):
                    expected.append(entry_id)
                    has_run = True
                was_met = met
        engine._stored(1, entries)
    assert started == expected
