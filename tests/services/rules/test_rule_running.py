"""Runs of rules: what leaves, what is tried again, what is refused, and what the history says."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from rule_house import PUBLISH, RuleHouse, WorldOutside

from headwater.errors import BadRequest, Conflict, NotFound, StorageError, TooManyRequests
from headwater.model.entry import EntryUpdate
from headwater.services.outbound import Mail, OutboundFailed, OutboundRefused
from headwater.services.rules import journal, running
from headwater.services.rules.carriers import Carriers
from headwater.services.rules.definitions import (
    CallThingHttp,
    CallWebhook,
    Draft,
    Every,
    Numeric,
    Publish,
    QueueCommand,
    SendMail,
    Timed,
    Watch,
)
from headwater.settings import RuleSettings

HOT = Numeric(1, ">", 30.0)
JSON = (("Content-Type", "application/json"), ("X-From", "%%channel_name%%"))
WEBHOOK = CallWebhook("POST", "https://example.org/secret?v=%%status%%", JSON, '{"t":%%field1%%,"s":"%%status%%"}')


async def test_every_action_is_carried_out_with_values_in_place(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(
        HOT,
        WEBHOOK,
        Publish("alarms/%%", "field1=%%status%%", 1, True),
        SendMail(("ada@example.org",), "%%rule_name%%: %%status%%", "%%field1%% °C"),
        QueueCommand(house.ada.id, "COOL %%field1%%"),
    )
    await house.send("31.5", status='a"b&c\nd')
    (request,) = house.outside.requests
    assert (request.method, request.url) == ("POST", "https://example.org/secret?v=a%22b%26c%0Ad")
    assert (request.headers[1], request.body) == (("X-From", "Green house"), rb'{"t":31.5,"s":"a\"b&c\nd"}')
    assert house.outside.messages == [(house.ada.id, "alarms/%%", b"field1=a%22b%26c%0Ad", 1, True)]
    assert house.outside.mails == [Mail(("ada@example.org",), 'Hot: a"b&c d', "31.5 °C")]
    assert house.outside.commands == [(house.ada.id, house.ada.id, "COOL 31.5")]
    (run,) = await house.history(rule)
    assert run.outcome == "done"
    assert [(result.what, result.detail) for result in run.results] == [
        ("POST example.org", "HTTP 200"),
        ("MQTT alarms/%%", "published"),
        ("E-mail to ada@example.org", "sent"),
        (f"TalkBack {house.ada.id}", "queued"),
    ]


async def test_a_webhook_without_a_content_type_is_escaped_as_its_body_looks(rules_house: RuleHouse) -> None:
    house = rules_house
    await house.watch(HOT, CallWebhook("POST", "https://example.org/", (), '{"s":"%%status%%"}'))
    await house.send("31", status='a","admin":"b')
    assert [request.body for request in house.outside.requests] == [b'{"s":"a\\",\\"admin\\":\\"b"}']


async def test_odd_blanks_and_length_keep_no_mail_back(rules_house: RuleHouse) -> None:
    house = rules_house
    await house.watch(HOT, SendMail(("ada@example.org",), "Hot: %%status%%", "%%status%%" * 90))
    await house.send("31", status="21\u00a0°C\u2028" + "x" * 240)
    (mail,) = house.outside.mails
    assert mail.subject == ("Hot: 21 °C " + "x" * 240)[:200]
    assert len(mail.body) == 20_000


async def test_what_may_pass_is_tried_again_with_growing_pauses(rules_house: RuleHouse) -> None:
    house = rules_house
    house.outside.failures = [OutboundFailed("no connection"), 503, 429]
    rule = await house.watch(HOT, WEBHOOK)
    await house.send("31")
    (run,) = await house.history(rule)
    assert (run.outcome, run.results[0].tries, run.results[0].detail) == ("done", 4, "HTTP 200")
    assert house.slept == [2, 8, 32]
    house.outside.failures = [500] * 9
    house.chance = 0.0
    await house.send("20", "32")
    run = (await house.history(rule))[0]
    assert (run.outcome, run.results[0].tries, run.results[0].detail) == ("failed", 4, "answered with HTTP 500")
    assert house.slept[3:] == [1, 4, 16]
    assert (await house.rules.report(rule)).state.failures == 1
    await house.rules.test(house.ada.id, rule.id)
    assert house.rules.outcomes == {"done": 1, "failed": 1, "not done": 0}


async def test_nothing_is_tried_again_for_an_account_that_was_removed(rules_house: RuleHouse) -> None:
    house = rules_house
    house.outside.failures = [500] * 4

    async def removed_meanwhile(_: float) -> None:
        await house.worker.write(
            lambda registry: registry.remove_account(house.ada.id), lambda _: house.access.drop_account(house.ada.id)
        )

    house.rules.runner._sleep = removed_meanwhile
    await house.watch(HOT, WEBHOOK)
    await house.send("31")
    assert len(house.outside.requests) == 1


@pytest.mark.parametrize("failure", [404, OutboundRefused("answered with HTTP 404")])
async def test_what_will_not_pass_is_tried_once(rules_house: RuleHouse, failure: Exception | int) -> None:
    house = rules_house
    house.outside.failures = [failure]
    rule = await house.watch(HOT, WEBHOOK, PUBLISH)
    await house.send("31")
    (run,) = await house.history(rule)
    assert [(result.is_done, result.tries) for result in run.results] == [(False, 1), (True, 1)]
    assert (run.outcome, run.results[0].detail, house.slept) == ("failed", "answered with HTTP 404", [])


async def test_an_action_that_nobody_carries_fails_and_says_so(rules_house: RuleHouse) -> None:
    house = rules_house
    actions = (WEBHOOK, PUBLISH, SendMail((), "s", ""), CallThingHttp(house.ada.id), QueueCommand(house.ada.id, "x"))
    rule = await house.watch(HOT, *actions)
    house.rules.runner.carriers = Carriers()
    await house.send("31")
    (run,) = await house.history(rule)
    assert [result.detail for result in run.results] == [
        "this server cannot send HTTP requests",
        "this server cannot publish for rules",
        "no mail server is set up; the operator names one in the settings",
        "this server has no ThingHTTP",
        "this server has no TalkBack",
    ]
    assert house.slept == []


async def test_a_mail_goes_to_the_accounts_own_address_if_to_nobody(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT, SendMail((), "s", ""))
    await house.send("31")
    assert (await house.history(rule))[0].results[0].detail == "the account has no mail address; name one in the rule"
    outside = house.outside
    addresses = {house.ada.id: "ada@example.org"}
    house.rules.runner.carriers = Carriers(mailer=outside, address_of=addresses.get)  # type: ignore[arg-type]
    await house.send("20", "31")
    assert outside.mails == [Mail(("ada@example.org",), "s", "")]


async def test_a_fault_of_a_carrier_is_one_failed_action(rules_house: RuleHouse) -> None:
    house = rules_house
    house.outside.failures = [RuntimeError("a bug")]
    rule = await house.watch(HOT, WEBHOOK, PUBLISH)
    await house.send("31")
    (run,) = await house.history(rule)
    assert [result.is_done for result in run.results] == [False, True]
    assert run.results[0].detail == "failed unexpectedly; the server's log says more"


@pytest.mark.parametrize("rule_settings", [RuleSettings(at_once=8, max_waiting=20, runs_per_minute=100)])
async def test_slow_receivers_take_a_share_of_the_places_and_hold_nobody_up(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT, WEBHOOK, is_first_only=False)
    house.outside.gate = asyncio.Event()
    for value in range(31, 41):
        house.now_ns += 1
        _, receipt = house.entries.write(house.channel, _update(value), house.now_ns)
        await receipt.wait()  # entries are stored all the while
    for _ in range(20):
        await asyncio.sleep(0)
    assert (house.outside.at_once, house.rules.runner.under_way) == (2, 5)
    report = await house.rules.report(rule)
    assert (report.left_out, report.left_out_why) == (5, "too many runs were under way")
    house.outside.gate.set()
    await house.settle()
    assert len(house.outside.requests) == 5
    assert house.outside.most_at_once == 2


def _update(value: int) -> EntryUpdate:
    return EntryUpdate({1: str(value)})


async def test_what_is_not_done_at_the_end_is_noted_as_that(
    rules_house: RuleHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CLOSE_S", 0.05)
    house = rules_house
    rule = await house.watch(HOT, WEBHOOK, PUBLISH)
    house.outside.gate = asyncio.Event()
    house.now_ns += 1
    _, receipt = house.entries.write(house.channel, _update(31), house.now_ns)
    await receipt.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    await house.restart()
    (run,) = await house.history(rule)
    assert run.outcome == "not done"
    assert [result.detail for result in run.results] == ["published", "broken off, because the server stopped"]
    assert house.outside.requests == []


async def test_a_running_server_keeps_to_the_time(rules_house: RuleHouse) -> None:
    house = rules_house
    async with house.rules.running(house.outside.carriers):
        rule = await house.time(Timed(Every(1, house.now_ns)))
        house.now_ns += 60 * 10**9
        house.rules.timers.call_at(0, lambda: None)  # wakes it; a real clock needs no such thing
        async with asyncio.timeout(5):
            while not house.outside.messages:
                await asyncio.sleep(0.005)
    assert house.rules.engine.find(rule.id) is None
    (run,) = await house.history(rule)
    assert run.outcome == "done"


# -- by their owners ----------------------------------------------------------------------------------------------


async def test_a_test_carries_out_and_is_told_from_a_run(rules_house: RuleHouse) -> None:
    house, rules = rules_house, rules_house.rules
    rule = await house.watch(HOT, WEBHOOK)
    await house.send("20")
    house.outside.failures = [500]
    run = await rules.test(house.ada.id, rule.id)
    assert (run.is_test, run.outcome, run.results[0].tries, run.entry_id) == (True, "failed", 1, 1)
    assert house.outside.requests[0].body == b'{"t":20,"s":""}'
    assert await house.history(rule) == [run]
    assert (await rules.report(rule)).state.runs == (await rules.report(rule)).state.failures == 0
    await rules.set_enabled(house.ada.id, rule.id, False)
    for _ in range(9):
        assert (await rules.test(house.ada.id, rule.id)).outcome == "done"
    with pytest.raises(TooManyRequests):
        await rules.test(house.ada.id, rule.id)


@pytest.mark.parametrize("rule_settings", [RuleSettings(history_runs=3, per_account=2, actions_per_rule=1)])
async def test_limits_hold(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT, is_first_only=False)
    await house.send("31", "32", "33", "34", "35")
    assert [run.entry_id for run in await house.history(rule)] == [5, 4, 3]
    with pytest.raises(BadRequest, match="at most 1"):
        await house.watch(HOT, PUBLISH, PUBLISH)
    await house.watch(HOT)
    with pytest.raises(Conflict, match="at most 2 rules"):
        await house.watch(HOT)


async def test_another_accounts_rules_and_things_do_not_exist(rules_house: RuleHouse) -> None:
    house, rules = rules_house, rules_house.rules
    rule = await house.watch(HOT)
    draft = Draft("x", rule.trigger, house.channel.id, (PUBLISH,))
    timed = Draft("x", Timed(Every(5, 0)))
    bob = house.bob.id
    assert await rules.owned(bob) == []
    errors = []
    for rule_id in (rule.id, 999):
        for call in (
            rules.get_owned(bob, rule_id),
            rules.update(bob, rule_id, timed),
            rules.set_enabled(bob, rule_id, False),
            rules.delete(bob, rule_id),
            rules.test(bob, rule_id),
            rules.history(bob, rule_id),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            errors.append(str(caught.value).replace(str(rule_id), "N"))
    assert errors == ["there is no rule N"] * 12
    with pytest.raises(NotFound, match="there is no channel"):
        await rules.create(bob, "react", draft)
    for action, what in ((CallThingHttp(house.ada.id), "ThingHTTP"), (QueueCommand(house.ada.id, "x"), "TalkBack")):
        with pytest.raises(BadRequest, match=f"actions: there is no {what} {house.ada.id}"):
            await rules.create(bob, "react", Draft("x", Timed(Every(5, 0)), None, (action,)))
    assert await rules.owned(house.ada.id) == [rule]


async def test_a_rule_says_what_it_lacks(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT, QueueCommand(house.ada.id, "x"))
    assert (await house.rules.report(rule)).problem == ""

    class Emptied(WorldOutside):
        async def names(self, account_id: int) -> dict[int, str]:
            return {}

    house.rules.runner.carriers = Emptied().carriers
    assert (await house.rules.report(rule)).problem == f"there is no TalkBack {house.ada.id}"
    bare = await house.rules.create(house.ada.id, "react", Draft("x", Watch(HOT), house.channel.id))
    assert (await house.rules.report(bare)).problem == "it does nothing yet: add an action"
    await house.send("31")
    assert await house.history(bare) == []


async def test_actions_lie_sealed_and_a_lost_key_is_told(rules_house: RuleHouse) -> None:
    house = rules_house
    rule = await house.watch(HOT, WEBHOOK)
    (stored,) = await house.worker.read(lambda registry: registry.all_rules())
    assert b"secret" not in stored.actions
    assert "secret" not in repr(await house.history(rule))
    await house.worker.write(
        lambda registry: registry.update_rule(
            house.ada.id, rule.id, name="x", bucket_id=house.channel.id, trigger=stored.trigger, actions=b"other"
        )
    )
    await house.restart()
    with pytest.raises(StorageError):
        house.rules.actions_of((await house.rules.owned(house.ada.id))[0])
    await house.send("31")
    (run,) = await house.history(rule)
    assert (run.outcome, "secrets.key" in run.results[0].detail) == ("failed", True)


async def test_a_registry_that_cannot_write_loses_no_history(
    rules_house: RuleHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = rules_house
    rule = await house.watch(HOT)
    registry_class = type(await house.worker.read(lambda registry: registry))

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(registry_class, "note_runs", fail)
        await house.send("31", "20")
        with pytest.raises(StorageError):
            await house.rules.journal.flush()
        await house.send("32")
    runs = await house.history(rule)
    assert [run.entry_id for run in runs] == [3, 1]
    assert all(later.at_ns > earlier.at_ns for later, earlier in pairwise(runs))
    (stored,) = await house.worker.read(lambda registry: registry.all_rules())
    assert (stored.state.runs, stored.state.is_met) == (2, True)


async def test_much_is_written_in_several_transactions(rules_house: RuleHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house = rules_house
    monkeypatch.setattr(journal, "WRITTEN_AT_ONCE", 2)
    rules = [await house.watch(HOT, is_first_only=False) for _ in range(3)]
    await house.send("31", "32")
    await house.rules.journal.flush()
    stored = await house.worker.read(lambda registry: registry.all_rules())
    assert [rule.state.runs for rule in stored] == [2, 2, 2]
    for rule in rules:
        assert [run.entry_id for run in await house.history(rule)] == [2, 1]
