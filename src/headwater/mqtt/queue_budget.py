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
    budget."""

    __slots__ = ("bytes", "limit", "max_bytes", "messages", "whole")

    def __init__(self, max_bytes: int, limit: str = "max_queued_bytes_total", whole: QueueBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.limit = limit
        """The limit's name, for those whose messages are dropped."""
        self.whole = whole
        self.bytes = 0
        self.messages = 0

    @property
    def spent(self) -> str | None:
        """The limit that was reached, if one was."""
        if self.bytes > self.max_bytes:
            return self.limit
        return None if self.whole is None else self.whole.spent

    def count(self, messages: int, size: int) -> None:
        """So many messages, of so many bytes, more (or less) wait."""
        self.messages += messages
        self.bytes += size
        if self.whole is not None:
            self.whole.count(messages, size)
