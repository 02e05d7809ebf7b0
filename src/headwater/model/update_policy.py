"""What becomes of updates that come too fast for their channel. Values only; what acts on them is `services`'."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

INTERVAL_MIN_S, INTERVAL_MAX_S = 1, 86_400
"""A second to a day. Whoever wants less than an update a day wants another tool."""


class TooFast(Enum):
    """What is done with an update that comes sooner than the interval after the one before."""

    NONE = "none"
    """It is taken like any other: there is no limit."""
    MERGE = "merge"
    """It becomes part of the entry before."""
    QUEUE = "queue"
    """It waits for its turn."""
    REJECT = "reject"
    """It is refused and counted."""


class UpdatePolicy(NamedTuple):
    """At most one update in so many seconds, and what is done with more."""

    action: TooFast
    interval_s: int

    @property
    def is_limit(self) -> bool:
        return self.action is not TooFast.NONE

    @property
    def why_refused(self) -> str:
        """The reason for people, of an update that has no place."""
        return f"updates of the channel come faster than every {self.interval_s} s"


NO_LIMIT = UpdatePolicy(TooFast.NONE, 15)
"""What every account begins with; the interval is the one that a form offers first, ThingSpeak's own."""
