"""The decision about one update that comes at some time. Pure; knows no clock, no channel and no entry."""

from __future__ import annotations

import math
from enum import Enum

from headwater.model.update_policy import TooFast, UpdatePolicy


class Verdict(Enum):
    """What a limit says to one update."""

    TAKE = "take"
    MERGE = "merge"
    WAIT = "wait"
    REFUSE = "refuse"


class Pace:
    """One channel's limit. Pure: times are seconds of a clock that never goes back."""

    def __init__(self, policy: UpdatePolicy, queue_length: int) -> None:
        self._policy = policy
        self._queue_length = queue_length
        self._free_at_s = -math.inf
        self.waiting = 0

    def judge(self, now_s: float) -> Verdict:
        """What becomes of an update that comes now. What is to wait counts as waiting until its turn is taken."""
        if now_s >= self._free_at_s and not self.waiting:
            self._free_at_s = now_s + self._policy.interval_s
            return Verdict.TAKE
        if self._policy.action is TooFast.MERGE:
            return Verdict.MERGE
        if self._policy.action is TooFast.QUEUE and self.waiting < self._queue_length:
            self.waiting += 1
            return Verdict.WAIT
        return Verdict.REFUSE

    def free_in_s(self, now_s: float) -> float:
        """How long until the next one may be taken; 0 when it may be now."""
        return max(self._free_at_s - now_s, 0.0)

    def take_turn(self, now_s: float) -> bool:
        """The first of those that wait is taken, if it may be by now."""
        if not self.waiting or now_s < self._free_at_s:
            return False
        self.waiting -= 1
        self._free_at_s = now_s + self._policy.interval_s
        return True
