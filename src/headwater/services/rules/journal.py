"""What rules remember and have done: in memory, and written down many at once, each second one transaction at most.

What the last second brought is lost when the process is killed.
"""

from __future__ import annotations

import asyncio
from itertools import islice

import msgspec

from headwater.errors import StorageError
from headwater.logs import Log, Trouble
from headwater.registry.rule_entities import RuleState, StoredRun
from headwater.registry.worker import RegistryWorker
from headwater.services.rules.definitions import ActionResult, Run

log = Log(__name__)

PAUSE_S = 1.0
WRITTEN_AT_ONCE = 5_000
"""States, and runs, in one transaction."""
MOST_WAITING = 10_000
"""Runs that may wait for a registry that cannot write; older ones are let go of."""


class RunJournal:
    """The states of all rules, and the runs that are to be written; `keep` is how many of a rule are kept."""

    def __init__(self, worker: RegistryWorker, *, keep: int) -> None:
        self._worker = worker
        self._keep = keep
        self._states: dict[int, RuleState] = {}
        self._unwritten: set[int] = set()
        self._runs: list[StoredRun] = []
        self._lock = asyncio.Lock()
        self._trouble = Trouble(log, "runs of rules cannot be written down", "runs of rules can be written down again")

    def state_of(self, rule_id: int) -> RuleState:
        return self._states.get(rule_id, RuleState())

    def load(self, rule_id: int, state: RuleState) -> None:
        """Take over what is written down."""
        self._states[rule_id] = state

    def remember(self, rule_id: int, state: RuleState) -> None:
        """Keep what is new; nothing of a rule that was never loaded, or is forgotten."""
        if rule_id in self._states and self._states[rule_id] != state:
            self._states[rule_id] = state
            self._unwritten.add(rule_id)

    def forget(self, rule_id: int) -> None:
        """The rule is gone."""
        self._states.pop(rule_id, None)
        self._unwritten.discard(rule_id)

    def add(self, run: Run) -> None:
        if len(self._runs) >= MOST_WAITING:
            del self._runs[0]
        self._runs.append(
            StoredRun(
                run.rule_id,
                run.at_ns,
                run.reason,
                run.entry_id,
                run.is_test,
                run.outcome,
                run.duration_ms,
                msgspec.json.encode(run.results),
            )
        )

    async def flush(self) -> None:
        """Write what has gathered. Raises StorageError; then it still waits."""
        async with self._lock:
            while self._unwritten or self._runs:
                await self._write_some()

    async def _write_some(self) -> None:
        some = list(islice(self._unwritten, WRITTEN_AT_ONCE))
        states = {rule_id: self._states[rule_id] for rule_id in some}
        runs, self._runs = self._runs[:WRITTEN_AT_ONCE], self._runs[WRITTEN_AT_ONCE:]
        self._unwritten.difference_update(some)
        try:
            await self._worker.write(lambda registry: registry.note_runs(states, runs, keep=self._keep))
        except StorageError:
            self._unwritten |= states.keys() & self._states.keys()
            self._runs = (runs + self._runs)[-MOST_WAITING:]
            raise

    async def of(self, account_id: int, rule_id: int) -> list[Run]:
        """The history of an account's rule, the latest run first."""
        await self.flush()
        return [
            _run_of(stored)
            for stored in await self._worker.read(lambda registry: registry.runs_of(account_id, rule_id))
        ]

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
                await self.flush()
            except StorageError as error:
                self._trouble.begin(error)
            else:
                self._trouble.end()


def _run_of(stored: StoredRun) -> Run:
    return Run(
        stored.rule_id,
        stored.at_ns,
        stored.reason,
        stored.entry_id,
        stored.is_test,
        stored.outcome,  # type: ignore[arg-type]  # nobody but `add` writes it
        stored.duration_ms,
        msgspec.json.decode(stored.results, type=tuple[ActionResult, ...]),
    )
