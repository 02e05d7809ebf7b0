"""Runs rules: has their actions carried out beside everything else, tries again what failed, and tells how it went.

Whoever stores entries never waits for this: there is room for so many runs, and one that finds none is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from headwater.errors import HeadwaterError
from headwater.logs import Log
from headwater.model.entry import Entry
from headwater.services.access import Access
from headwater.services.outbound import OutboundFailed, OutboundRefused
from headwater.services.rules.carriers import Carriers, carry_out, describe_action, is_worth_retrying
from headwater.services.rules.definitions import Action, ActionResult, Outcome, Rule, Run
from headwater.services.rules.placeholders import Occasion
from headwater.settings import RuleSettings

log = Log(__name__)

FIRST_PAUSE_S, PAUSE_GROWTH = 2.0, 4.0
"""Between tries: 2, 8, 32 seconds and so on, each half to one and a half times as long, so that what failed together
does not come back together."""
ACTION_TIMEOUT_S = 120.0
"""For one try, should whoever carries it out have no limit of its own."""
CLOSE_S, LAST_RUNS_S = 3.0, 0.5
"""How long runs under way may take when the server stops, and those at least that begin while it does."""
ACCOUNT_SHARE = 4
"""One account may take this part of the places."""
MAX_REASON_LENGTH, MAX_DETAIL_LENGTH = 500, 500


class Cause(NamedTuple):
    """Why a rule runs."""

    reason: str
    entry: Entry | None = None
    is_test: bool = False


class Runner:
    """Every run under way.

    Args: `actions_of` opens a rule's actions; `ended` is told of each run; `now_ns` is the clock, `chance` answers a
    number from 0 to 1, `sleep` waits so many seconds.
    """

    def __init__(
        self,
        access: Access,
        settings: RuleSettings,
        actions_of: Callable[[Rule], tuple[Action, ...]],
        ended: Callable[[Run], None],
        *,
        now_ns: Callable[[], int],
        chance: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.carriers = Carriers()
        self._access = access
        self._settings = settings
        self._actions_of = actions_of
        self._ended = ended
        self._now_ns = now_ns
        self._chance = chance
        self._sleep = sleep
        self._places = asyncio.Semaphore(settings.at_once)
        self._account_places: dict[int, asyncio.Semaphore] = {}
        self._waiting = Counter[int]()
        self._tasks: set[asyncio.Task[Run]] = set()
        self._stops_at_s: float | None = None

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def start(self, rule: Rule, cause: Cause) -> bool:
        """Run a rule. Answers False when too many runs are under way, of its account or of all."""
        most = self._settings.max_waiting
        if len(self._tasks) >= most or self._waiting[rule.account_id] >= max(1, most // ACCOUNT_SHARE):
            return False
        self._begin(rule, cause)
        return True

    async def run_now(self, rule: Rule, cause: Cause) -> Run:
        """Run a rule and answer how it went, with one try for each action. Goes on when the caller is cancelled."""
        return await asyncio.shield(self._begin(rule, cause))

    async def settle(self) -> None:
        """Wait for all runs under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stop_soon(self) -> None:
        """The server is about to stop: from now on counts the time that runs under way get."""
        if self._stops_at_s is None:
            self._stops_at_s = asyncio.get_running_loop().time() + CLOSE_S

    async def close(self) -> None:
        """Let runs under way end, for a short time; the others are broken off and noted as not done."""
        self.stop_soon()
        assert self._stops_at_s is not None
        left_s = max(LAST_RUNS_S, self._stops_at_s - asyncio.get_running_loop().time())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=left_s)
        for task in tuple(self._tasks):
            task.cancel()
        await self.settle()

    def _begin(self, rule: Rule, cause: Cause) -> asyncio.Task[Run]:
        task = asyncio.get_running_loop().create_task(self._run(rule, cause))
        self._tasks.add(task)
        self._waiting[rule.account_id] += 1

        def done(_: object) -> None:
            self._tasks.discard(task)
            self._waiting[rule.account_id] -= 1
            if not self._waiting[rule.account_id]:
                del self._waiting[rule.account_id]
                self._account_places.pop(rule.account_id, None)

        task.add_done_callback(done)
        return task

    async def _run(self, rule: Rule, cause: Cause) -> Run:
        at_ns = self._now_ns()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        ended: dict[int, ActionResult] = {}
        failure: ActionResult | None = None
        outcome: Outcome = "failed"
        try:
            await self._carry_out_all(rule, cause, ended)
        except asyncio.CancelledError:  # by `close` alone
            failure, outcome = ActionResult("", False, "broken off, because the server stopped"), "not done"
        except HeadwaterError as error:
            failure = ActionResult("", False, str(error))
        results = tuple(ended[number] for number in sorted(ended))
        if failure is not None:
            results += (failure,)
        elif all(result.is_done for result in results):
            outcome = "done"
        run = Run(
            rule.id,
            at_ns,
            cause.reason[:MAX_REASON_LENGTH],
            None if cause.entry is None else cause.entry.entry_id,
            cause.is_test,
            outcome,
            round((loop.time() - began_s) * 1000),
            results,
        )
        self._ended(run)
        return run

    async def _carry_out_all(self, rule: Rule, cause: Cause, ended: dict[int, ActionResult]) -> None:
        """Carry the actions out at the same time; `ended` takes how each went, by its place among them."""
        channel = None if rule.bucket_id is None else self._access.channel(rule.bucket_id)
        name = channel.settings.name if channel is not None else ""
        occasion = Occasion(rule.name, cause.entry, rule.bucket_id, name)
        tries = 1 if cause.is_test else self._settings.tries

        async def carry_out_one(number: int, action: Action) -> None:
            ended[number] = await self._carry_out(rule.account_id, action, occasion, tries)

        await asyncio.gather(*(carry_out_one(*numbered) for numbered in enumerate(self._actions_of(rule))))

    async def _carry_out(self, account_id: int, action: Action, occasion: Occasion, most_tries: int) -> ActionResult:
        what = describe_action(action)
        tries, pause_s = 0, FIRST_PAUSE_S
        while True:
            tries += 1
            try:
                async with self._place(account_id), self._places, asyncio.timeout(ACTION_TIMEOUT_S):
                    detail = await carry_out(action, account_id, occasion, self.carriers)
                return ActionResult(what, True, detail[:MAX_DETAIL_LENGTH], tries)
            except TimeoutError:
                reason, may_pass = f"took longer than {ACTION_TIMEOUT_S:.0f} s", True
            except HeadwaterError as error:
                reason = str(error)
                may_pass = isinstance(error, OutboundFailed) and not isinstance(error, OutboundRefused)
            except Exception:  # whoever carried it out has a fault; the other actions have not
                log.exception("an action failed unexpectedly")
                reason, may_pass = "failed unexpectedly; the server's log says more", False
            if tries >= most_tries or not may_pass or not is_worth_retrying(action):
                return ActionResult(what, False, reason[:MAX_DETAIL_LENGTH], tries)
            await self._sleep(pause_s * (0.5 + self._chance()))
            if self._access.account(account_id) is None:
                return ActionResult(what, False, "the account was removed", tries)
            pause_s *= PAUSE_GROWTH

    def _place(self, account_id: int) -> asyncio.Semaphore:
        """Places of one account: what it sends to a slow server must not hold up the others."""
        place = self._account_places.get(account_id)
        if place is None:
            place = asyncio.Semaphore(max(1, self._settings.at_once // ACCOUNT_SHARE))
            self._account_places[account_id] = place
        return place
