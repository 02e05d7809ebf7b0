"""How much may wait for clients: of one, of several together. Counts, and drops nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may hold."""

    max_queued_messages: int = 1_000
    max_queued_bytes: int = 1_048_576


class QueueBudget:
    """The bytes that several sessions owe their clients, sent or not, against one limit; perhaps as a part of a larger
    budget.

    When the whole is spent, only those parts have to drop something that hold more than an equal share of it: nobody
    loses messages because others have too many. So the whole may be exceeded, at most by as much again.
    """

    __slots__ = ("bytes", "holders", "limit", "max_bytes", "messages", "whole")

    def __init__(self, max_bytes: int, limit: str = "max_queued_bytes_total", whole: QueueBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.limit = limit
        """The limit's name, for those whose messages are dropped."""
        self.whole = whole
        self.bytes = 0
        self.messages = 0
        self.holders = 0
        """Parts that hold anything."""

    @property
    def spent(self) -> str | None:
        """The limit because of which something has to be dropped, if there is one."""
        if self.bytes > self.max_bytes:
            return self.limit
        whole = self.whole
        if whole is not None and whole.spent is not None and self.bytes * whole.holders > whole.max_bytes:
            return whole.limit
        return None

    def count(self, messages: int, size: int) -> None:
        """So many messages, of so many bytes, more (or less) wait."""
        if self.whole is not None:
            self.whole.holders += (self.bytes + size > 0) - (self.bytes > 0)
            self.whole.count(messages, size)
        self.messages += messages
        self.bytes += size
