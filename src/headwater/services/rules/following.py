"""One rule as the engine follows it: what it remembers, and whether it may run now. Knows no timer and no store."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from headwater.registry.rule_entities import RuleState
from headwater.services.rules.definitions import Rule, Watch
from headwater.services.rules.journal import RunJournal
from headwater.services.rules.timers import Timer

S_NS = 1_000_000_000
MINUTE_NS = 60 * S_NS


class Followed:
    """A rule with its state, which the journal keeps."""

    def __init__(self, rule: Rule, journal: RunJournal) -> None:
        self.rule = rule
        self.last_received_ns = 0
        """When the last sign of life came; for rules on silence."""
        self.timer: Timer | None = None
        self.is_gone = False
        """Let go of: changed, disabled or removed. Whoever still holds it does nothing more."""
        self.left_out = 0
        """How many runs were left out since the server started."""
        self.left_out_why = ""
        self._journal = journal
        self._recent_ns: deque[int] = deque()

    @property
    def state(self) -> RuleState:
        return self._journal.state_of(self.rule.id)

    def note(self, *, is_met: bool | None = None, last_due_ns: int | None = None) -> None:
        """Change the state."""
        state = self.state
        if is_met is not None and is_met != state.is_met:
            state = replace(state, is_met=is_met)
        if last_due_ns is not None:
            state = replace(state, last_due_ns=last_due_ns)
        self._journal.remember(self.rule.id, state)

    def leave_out(self, why: str) -> None:
        self.left_out += 1
        self.left_out_why = why

    def why_not_now(self, now_ns: int, runs_per_minute: int) -> str:
        """What keeps it from running now; empty if nothing does."""
        trigger = self.rule.trigger
        if isinstance(trigger, Watch) and 0 <= now_ns - self.state.last_run_ns < trigger.pause_s * S_NS:
            return "the pause between two runs was not over"
        recent = self._recent_ns
        while recent and not 0 <= now_ns - recent[0] < MINUTE_NS:
            recent.popleft()
        if len(recent) >= runs_per_minute:
            return f"it ran {runs_per_minute} times within a minute"
        return ""

    def ran(self, now_ns: int) -> None:
        """It runs now."""
        self._recent_ns.append(now_ns)
        state = self.state
        self._journal.remember(self.rule.id, replace(state, last_run_ns=now_ns, runs=state.runs + 1))
