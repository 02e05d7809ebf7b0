"""Breaking off a query from another thread: its time is up, or whoever asked has gone. Knows no engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headwater.errors import Cancelled

_AGAIN_S = 0.02
"""An engine may forget that it was interrupted, when that came just before it began: so it is told again until it has
stopped."""


class Cancellation:
    """Given to a query by whoever may want to break it off. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._interrupts: list[Callable[[], None]] = []

    def cancel(self, reason: str) -> None:
        """Break off what goes on and what would begin later; `reason` is told to whoever still waits. The first call
        counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
        if self._interrupt():
            threading.Thread(target=self._insist, name="cancellation", daemon=True).start()

    def check(self) -> None:
        """Raise Cancelled when it was broken off."""
        if self._reason is not None:
            raise Cancelled(self._reason)

    def _interrupt(self) -> bool:
        """Interrupt what goes on; False when nothing does."""
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()
            return bool(self._interrupts)

    def _insist(self) -> None:
        while self._interrupt():
            time.sleep(_AGAIN_S)

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within the block, `cancel` calls `interrupt`, which must return at once and may be called more than once.
        What the block raises then becomes Cancelled."""
        with self._lock:
            self.check()
            self._interrupts.append(interrupt)
        try:
            yield
        except Exception as error:
            if self._reason is not None:
                raise Cancelled(self._reason) from error
            raise
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)
