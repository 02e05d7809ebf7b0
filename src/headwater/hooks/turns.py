"""So many at the same time, in all and for each account; others wait for their turn, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headwater.services.outbound import OutboundFailed


@dataclass(slots=True)
class _Queue:
    turns: asyncio.Semaphore
    present: int = 0
    """Those whose turn it is, and those that wait."""


class Turns:
    """Args: `at_once` in all, `per_account` of one, and `max_waiting` of one beyond those."""

    def __init__(self, at_once: int, per_account: int, max_waiting: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._per_account = per_account
        self._most_present = per_account + max_waiting
        self._by_account: dict[int, _Queue] = {}

    @asynccontextmanager
    async def turn(self, account_id: int) -> AsyncIterator[None]:
        """While it is this account's turn. Raises OutboundFailed when too many wait already."""
        queue = self._by_account.setdefault(account_id, _Queue(asyncio.Semaphore(self._per_account)))
        if queue.present >= self._most_present:
            raise OutboundFailed("too many of this account's requests are waiting already: send fewer at once")
        queue.present += 1
        try:
            # The account's own first: however many of its requests wait, they take no turn from others.
            async with queue.turns, self._all:
                yield
        finally:
            queue.present -= 1
            if not queue.present:
                del self._by_account[account_id]
