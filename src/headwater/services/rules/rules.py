"""The rules of accounts: made, changed, tried and looked back on by their owners. What dialects and the console call.

Every method takes the account that asks; another account's rule is `NotFound`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from headwater.errors import BadRequest, HeadwaterError, NotFound, StorageError, TooManyRequests
from headwater.logs import Log
from headwater.registry.registry import Registry
from headwater.registry.rule_entities import RuleState, StoredRule
from headwater.registry.sealing import Seal, SealBroken
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.entries import Entries
from headwater.services.rules.carriers import Carriers
from headwater.services.rules.checking import check_draft
from headwater.services.rules.definitions import (
    Action,
    ActionResult,
    CallThingHttp,
    Draft,
    Outcome,
    QueueCommand,
    Rule,
    Run,
    Watch,
    parse_actions,
    parse_trigger,
    render_actions,
    render_trigger,
)
from headwater.services.rules.engine import Engine
from headwater.services.rules.journal import RunJournal
from headwater.services.rules.running import Cause, Runner
from headwater.services.rules.timers import Timers
from headwater.settings import RuleSettings

log = Log(__name__)

TESTS_PER_MINUTE = 10


class Things(NamedTuple):
    """What actions may name: names by id."""

    talkbacks: Mapping[int, str]
    thing_https: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule and how it fares."""

    rule: Rule
    state: RuleState
    actions: tuple[Action, ...]
    problem: str
    """What it lacks, as a sentence; empty if nothing."""
    left_out: int
    """Runs that were left out since the server started."""
    left_out_why: str
    next_ns: int | None
    """When a schedule has it run, or its newest entry or silence looked at, next."""


class Rules:
    """Every account's rules. Call everything from the event loop's thread.

    Args: `seal` keeps actions unreadable in the registry; `now_ns` is the clock, `chance` answers a number from 0 to 1,
    `sleep` waits so many seconds.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        entries: Entries,
        seal: Seal,
        settings: RuleSettings,
        *,
        now_ns: Callable[[], int],
        chance: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._worker = worker
        self._access = access
        self._entries = entries
        self._seal = seal
        self._settings = settings
        self._now_ns = now_ns
        self._known: dict[int, Rule] = {}
        self._tested_ns: dict[int, list[int]] = {}
        self.outcomes: Counter[str] = Counter(dict.fromkeys(get_args(Outcome), 0))
        """How the runs of all rules since the start have ended, tests apart."""
        self.timers = Timers(now_ns)
        self.journal = RunJournal(worker, keep=settings.history_runs)
        self.runner = Runner(access, settings, self.actions_of, self._ended, now_ns=now_ns, chance=chance, sleep=sleep)
        self.engine = Engine(
            access,
            entries,
            self.timers,
            self.journal,
            self.runner.start,
            self._missed,
            runs_per_minute=settings.runs_per_minute,
            now_ns=now_ns,
            draw=lambda least, most: least + int((most - least) * chance()),
        )

    # -- lifetime ---------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Follow the rules of the registry in place of those that are known."""
        stored = {one.id: one for one in await self._worker.read(Registry.all_rules)}
        for rule_id in self._known.keys() - stored.keys():
            self._forget(rule_id)
        for one in stored.values():
            try:
                rule = _rule_of(one)
            except StorageError as error:
                log.error("a rule is not followed", rule=one.id, reason=str(error))
                continue
            if self._known.get(rule.id) != rule:
                if rule.id not in self._known:
                    self.journal.load(rule.id, one.state)
                self._put(rule)

    @asynccontextmanager
    async def running(self, carriers: Carriers) -> AsyncIterator[None]:
        """Follow the registry's rules for as long as this is open. At its end, runs under way get a short time; those
        that are not done then are noted as that. Raises StorageError when there is no reading them."""
        self.runner.carriers = carriers
        await self.load()
        tasks = [asyncio.get_running_loop().create_task(work) for work in (self.timers.run(), self.journal.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self.engine.close()
            await self.runner.close()
            try:
                await self.journal.flush()
            except StorageError as error:
                log.error("the last runs of rules could not be written down", reason=str(error))

    def stop_soon(self) -> None:
        """The server is about to stop: the time that runs under way get counts from now on."""
        self.runner.stop_soon()

    def drop_bucket(self, bucket_id: int) -> None:
        """A channel is gone: its rules stay, and say so."""
        for rule in [rule for rule in self._known.values() if rule.bucket_id == bucket_id]:
            self._put(replace(rule, bucket_id=None))

    # -- by their owners --------------------------------------------------------------------------------------

    async def owned(self, account_id: int, *, kind: str | None = None, bucket_id: int | None = None) -> list[Rule]:
        """An account's rules, oldest first; those of one kind, or that watch one channel, if said so."""
        return [
            rule
            for rule in self._known.values()
            if rule.account_id == account_id
            and kind in (None, rule.kind)
            and (bucket_id is None or rule.bucket_id == bucket_id)
        ]

    async def get_owned(self, account_id: int, rule_id: int) -> Rule:
        rule = self._known.get(rule_id)
        if rule is None or rule.account_id != account_id:
            raise NotFound(f"there is no rule {rule_id}")
        return rule

    async def report(self, rule: Rule) -> RuleReport:
        """How a rule fares."""
        followed = self.engine.find(rule.id)
        try:
            actions, problem = self.actions_of(rule), ""
        except StorageError as error:
            actions, problem = (), str(error)
        timer = followed.timer if followed is not None else None
        return RuleReport(
            rule,
            self.journal.state_of(rule.id),
            actions,
            problem or await self._problem(rule, actions),
            followed.left_out if followed is not None else 0,
            followed.left_out_why if followed is not None else "",
            timer.at_ns if timer is not None else None,
        )

    def actions_of(self, rule: Rule) -> tuple[Action, ...]:
        """What a rule does. Raises StorageError when that cannot be opened."""
        try:
            return parse_actions(self._seal.open(rule.sealed_actions, _label(rule.account_id)))
        except SealBroken as error:
            raise StorageError(str(error)) from error

    async def things(self, account_id: int) -> Things:
        """What an account's actions may name."""
        carriers = self.runner.carriers
        return Things(
            {} if carriers.talkback_names is None else await carriers.talkback_names(account_id),
            {} if carriers.thing_http_names is None else await carriers.thing_http_names(account_id),
        )

    async def create(self, account_id: int, kind: str, draft: Draft) -> Rule:
        """A new rule, which is enabled. Raises BadRequest that begins with the name of what cannot be, NotFound for a
        channel that is not the account's, Conflict at the limit of rules."""
        await self._check(account_id, draft)
        stored = await self._worker.write(
            lambda registry: registry.add_rule(
                account_id,
                kind=kind,
                name=draft.name,
                bucket_id=draft.bucket_id,
                trigger=render_trigger(draft.trigger),
                actions=self._seal.close(render_actions(draft.actions), _label(account_id)),
                most=self._settings.per_account,
            ),
            self._take_up,
        )
        return _rule_of(stored)

    async def update(self, account_id: int, rule_id: int, draft: Draft) -> Rule:
        """Replace what a rule says. One with another trigger forgets whether its condition was met. Raises as
        `create`."""
        before = await self.get_owned(account_id, rule_id)
        await self._check(account_id, draft)
        stored = await self._worker.write(
            lambda registry: registry.update_rule(
                account_id,
                rule_id,
                name=draft.name,
                bucket_id=draft.bucket_id,
                trigger=render_trigger(draft.trigger),
                actions=self._seal.close(render_actions(draft.actions), _label(account_id)),
            ),
            lambda stored: self._take_up(stored, before),
        )
        return _rule_of(stored)

    async def set_enabled(self, account_id: int, rule_id: int, is_enabled: bool) -> Rule:
        """Enable or disable a rule. One that is enabled anew takes what it finds for the first time."""
        before = await self.get_owned(account_id, rule_id)
        stored = await self._worker.write(
            lambda registry: registry.set_rule_enabled(account_id, rule_id, is_enabled),
            lambda stored: self._take_up(stored, before),
        )
        return _rule_of(stored)

    async def delete(self, account_id: int, rule_id: int) -> Rule:
        """Delete a rule with its history. Returns it as it was."""
        before = await self.get_owned(account_id, rule_id)
        await self._worker.write(
            lambda registry: registry.remove_rule(account_id, rule_id), lambda stored: self._forget(stored.id)
        )
        return before

    async def test(self, account_id: int, rule_id: int) -> Run:
        """Carry a rule's actions out now, each tried once, with the newest entry of its channel. Raises
        TooManyRequests."""
        rule = await self.get_owned(account_id, rule_id)
        self._count_test(account_id)
        channel = None if rule.bucket_id is None else self._access.channel(rule.bucket_id)
        newest = await self._entries.newest(channel, 1) if channel is not None else []
        return await self.runner.run_now(rule, Cause("a test", newest[0] if newest else None, is_test=True))

    async def history(self, account_id: int, rule_id: int) -> list[Run]:
        """What a rule did, the latest run first."""
        await self.get_owned(account_id, rule_id)
        return await self.journal.of(account_id, rule_id)

    # -- helpers ----------------------------------------------------------------------------------------------

    async def _check(self, account_id: int, draft: Draft) -> None:
        check_draft(draft, max_actions=self._settings.actions_per_rule)
        if gone := await self._missing(account_id, draft.actions):
            raise BadRequest(f"actions: {gone}")

    async def _missing(self, account_id: int, actions: Sequence[Action]) -> str:
        """Which thing that an action names the account does not have."""
        carriers = self.runner.carriers
        for action in actions:
            match action:
                case CallThingHttp(thing_id):
                    what, names = "ThingHTTP", carriers.thing_http_names
                case QueueCommand(thing_id, _):
                    what, names = "TalkBack", carriers.talkback_names
                case _:
                    continue
            if names is None:
                return f"this server has no {what}"
            if thing_id not in await names(account_id):
                return f"there is no {what} {thing_id}"
        return ""

    async def _problem(self, rule: Rule, actions: Sequence[Action]) -> str:
        if isinstance(rule.trigger, Watch) and (rule.bucket_id is None or self._access.channel(rule.bucket_id) is None):
            return "the channel that it watched is gone: choose another"
        if not actions:
            return "it does nothing yet: add an action"
        try:
            return await self._missing(rule.account_id, actions)
        except HeadwaterError as error:
            return str(error)

    def _take_up(self, stored: StoredRule, before: Rule | None = None) -> None:
        rule = _rule_of(stored)
        if before is None:
            self.journal.load(rule.id, stored.state)
        is_same = before is not None and (before.trigger, before.bucket_id) == (rule.trigger, rule.bucket_id)
        self._put(rule, is_anew=not is_same or self.engine.find(rule.id) is None)

    def _put(self, rule: Rule, *, is_anew: bool = False) -> None:
        self._known[rule.id] = rule
        if rule.is_enabled and self._does_something(rule):
            self.engine.follow(rule, is_anew=is_anew)
        else:
            self.engine.let_go(rule.id)

    def _does_something(self, rule: Rule) -> bool:
        try:
            return bool(self.actions_of(rule))
        except StorageError:
            return True  # its runs fail and say why

    def _forget(self, rule_id: int) -> None:
        del self._known[rule_id]
        self.engine.let_go(rule_id)
        self.journal.forget(rule_id)

    def _ended(self, run: Run) -> None:
        self.journal.add(run)
        if run.is_test:
            return
        self.outcomes[run.outcome] += 1
        if run.outcome != "done":
            state = self.journal.state_of(run.rule_id)
            self.journal.remember(run.rule_id, replace(state, failures=state.failures + 1))

    def _missed(self, rule: Rule, due_ns: int) -> None:
        why = ActionResult("", False, "its time passed while the server was not running")
        self._ended(Run(rule.id, due_ns, "its time had come", None, False, "not done", 0, (why,)))

    def _count_test(self, account_id: int) -> None:
        now_ns = self._now_ns()
        recent = [at_ns for at_ns in self._tested_ns.get(account_id, ()) if 0 <= now_ns - at_ns < 60_000_000_000]
        if len(recent) >= TESTS_PER_MINUTE:
            raise TooManyRequests("that were many tests; wait a minute", 60.0)
        self._tested_ns[account_id] = [*recent, now_ns]


def _rule_of(stored: StoredRule) -> Rule:
    return Rule(
        stored.id,
        stored.account_id,
        stored.kind,
        stored.name,
        stored.is_enabled,
        stored.bucket_id,
        parse_trigger(stored.trigger),
        stored.actions,
        stored.created_at,
    )


def _label(account_id: int) -> str:
    """What an account's actions are sealed for."""
    return f"rules of account {account_id}"
