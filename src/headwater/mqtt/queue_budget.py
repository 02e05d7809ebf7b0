"""How much may wait for clients: of one, of several together, and who has to drop something when it is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may hold."""

    max_queued_messages: int = 1_000
    max_queued_bytes: int = 1_048_576


class Holder(Protocol):
    """Somebody for whom messages wait."""

    @property
    def queued_bytes(self) -> int:
        """How much it is."""

    def drop_oldest(self, limit: str) -> bool:
        """Drop the oldest message that waits, because of this limit. False when none does."""


class QueueBudget:
    """The bytes that several sessions owe their clients, sent or not, against one limit; perhaps as a part of a larger
    budget.

    When it is spent, whoever holds an equal share of it or more drops its oldest message: nobody loses messages because
    others have too many.
    """

    __slots__ = ("_holders", "_last", "_limit", "bytes", "max_bytes", "messages", "whole")

    def __init__(self, max_bytes: int, limit: str = "max_queued_bytes_total", whole: QueueBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self._limit = limit
        """The limit's name, for those whose messages are dropped."""
        self.whole = whole
        self.bytes = 0
        self.messages = 0
        self._holders: dict[Holder, None] = {}
        """Those for whom messages wait, and some for whom they did."""
        self._last: Holder | None = None
        """Who dropped one last: probably there is more."""

    @property
    def queued_bytes(self) -> int:
        """See `Holder`."""
        return self.bytes

    def count(self, messages: int, size: int) -> None:
        """So many messages, of so many bytes, more (or less) wait."""
        self.messages += messages
        self.bytes += size
        if self.whole is not None:
            self.whole.count(messages, size)

    def hold(self, holder: Holder) -> None:
        """Messages wait for `holder` now."""
        if holder not in self._holders:
            self._holders[holder] = None
            if self.whole is not None:
                self.whole.hold(self)

    def leave(self, holder: Holder) -> None:
        """None do any more. (Whoever does not say so is found out when it is asked to drop one.)"""
        self._holders.pop(holder, None)
        if not self._holders and self.whole is not None:
            self.whole.leave(self)

    def relieve(self) -> None:
        """Have dropped what is too much, here and in the whole."""
        while self.bytes > self.max_bytes and self.drop_oldest(self._limit):
            pass
        if self.whole is not None:
            self.whole.relieve()

    def drop_oldest(self, limit: str) -> bool:
        """Have one message dropped by somebody who holds an equal share or more. See `Holder`."""
        holders = self._holders
        if self._last in holders and self._drop_share_of(self._last, limit):
            return True
        for holder in tuple(holders):
            if self._drop_share_of(holder, limit):
                self._last = holder
                return True
        # Those who hold that much have it all on its way to their clients: then whoever has something that waits.
        return any(holder.drop_oldest(limit) for holder in tuple(holders))

    def _drop_share_of(self, holder: Holder, limit: str) -> bool:
        if holder.queued_bytes * len(self._holders) < self.bytes:
            return False
        if holder.drop_oldest(limit):
            return True
        self._holders.pop(holder, None)
        return False
