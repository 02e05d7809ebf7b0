"""One thread for every registry call, shared by the services. Knows nothing of what the calls mean.

One thread, because SQLite takes one writer at a time anyway, and because calls then finish in the order in
which they were made: what the services keep in memory changes in the same order as the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from headwater.registry.registry import Registry

T = TypeVar("T")


class RegistryWorker:
    """Owns a registry: `close()` waits for the calls under way, joins the thread and closes the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headwater-registry")
        self._writes: set[asyncio.Task[Any]] = set()

    async def read(self, call: Callable[[Registry], T]) -> T:
        """Run a call that changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._registry)

    async def write(
        self, call: Callable[[Registry], T], then: Callable[[T], Awaitable[None] | None] | None = None
    ) -> T:
        """Run a call that changes something, then `then` with its result on the loop.

        Both happen in full even when the caller is cancelled meanwhile (a client that hangs up): file and
        memory must not part. What `call` or `then` raises goes to the caller.
        """
        task = asyncio.get_running_loop().create_task(self._write(call, then))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        while self._writes:
            await asyncio.wait(self._writes)
        await asyncio.to_thread(self._thread.shutdown)
        self._registry.close()

    async def _write(self, call: Callable[[Registry], T], then: Callable[[T], Awaitable[None] | None] | None) -> T:
        result = await self.read(call)
        if then is not None and (outcome := then(result)) is not None:
            await outcome
        return result
