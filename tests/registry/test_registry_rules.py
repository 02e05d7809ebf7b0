"""Rules in the registry, and the sealing of what they do."""

from __future__ import annotations

import pytest
from test_registry_rollups import add_account, add_channel

from headwater.errors import Conflict, NotFound
from headwater.registry.opening import open_registry
from headwater.registry.registry import Registry
from headwater.registry.rule_entities import RuleState, StoredRule, StoredRun

RUN = StoredRun(0, 5, "because", 3, False, "done", 12, b"[]")


def add_rule(registry: Registry, account_id: int, bucket_id: int | None = None, most: int = 9) -> StoredRule:
    return registry.add_rule(
        account_id, kind="react", name="Hot", bucket_id=bucket_id, trigger=b"{}", actions=b"sealed", most=most
    )


def test_a_rule_comes_back_as_it_was_with_its_state_and_history(registry_url: str) -> None:
    registry = open_registry(registry_url)
    account_id = add_account(registry, "ada")
    rule = add_rule(registry, account_id, add_channel(registry, account_id))
    state = RuleState(True, 2**62, 2**61, 7, 3)
    registry.note_runs({rule.id: state, 99: state}, [StoredRun(rule.id, *_rest(RUN))], keep=5)
    registry.close()
    registry = open_registry(registry_url)
    (found,) = registry.all_rules()
    assert (found.state, found.trigger, found.actions, found.created_at) == (state, b"{}", b"sealed", rule.created_at)
    assert registry.runs_of(account_id, rule.id) == (StoredRun(rule.id, *_rest(RUN)),)
    changed = registry.update_rule(account_id, rule.id, name="Cold", bucket_id=None, trigger=b"[]", actions=b"other")
    assert (changed.name, changed.bucket_id, changed.trigger, changed.actions) == ("Cold", None, b"[]", b"other")
    assert not registry.set_rule_enabled(account_id, rule.id, False).is_enabled
    registry.remove_rule(account_id, rule.id)
    assert registry.all_rules() == ()
    registry.close()


def _rest(run: StoredRun) -> tuple[object, ...]:
    return (run.at_ns, run.reason, run.entry_id, run.is_test, run.outcome, run.duration_ms, run.results)


def test_only_the_last_runs_are_kept(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    first, second = add_rule(registry, account_id), add_rule(registry, account_id)
    for at_ns in range(6):
        runs = [StoredRun(rule.id, at_ns, *_rest(RUN)[1:]) for rule in (first, second)]
        registry.note_runs({}, runs, keep=4)
    assert [run.at_ns for run in registry.runs_of(account_id, first.id)] == [5, 4, 3, 2]
    assert [run.at_ns for run in registry.runs_of(account_id, second.id)] == [5, 4, 3, 2]


def test_another_accounts_rule_is_not_there(registry: Registry) -> None:
    ada, bob = add_account(registry, "ada"), add_account(registry, "bob")
    rule = add_rule(registry, ada)
    change = {"name": "x", "bucket_id": None, "trigger": b"", "actions": b""}
    for call in (
        lambda: registry.update_rule(bob, rule.id, **change),
        lambda: registry.set_rule_enabled(bob, rule.id, False),
        lambda: registry.remove_rule(bob, rule.id),
        lambda: registry.runs_of(bob, rule.id),
    ):
        with pytest.raises(NotFound, match=f"there is no rule {rule.id}"):
            call()
    with pytest.raises(NotFound, match="there is no channel"):
        add_rule(registry, bob, add_channel(registry, ada))
    assert registry.all_rules() == (rule,)


def test_a_rule_outlives_its_channel_but_not_its_account(registry: Registry) -> None:
    account_id = add_account(registry, "ada")
    channel_id = add_channel(registry, account_id)
    rule = add_rule(registry, account_id, channel_id)
    registry.note_runs({}, [StoredRun(rule.id, *_rest(RUN))], keep=5)
    registry.remove_channel(account_id, channel_id)
    (left,) = registry.all_rules()
    assert (left.id, left.bucket_id) == (rule.id, None)
    with pytest.raises(Conflict, match="at most 1 rules"):
        add_rule(registry, account_id, most=1)
    registry.remove_account(account_id)
    assert registry.all_rules() == ()
