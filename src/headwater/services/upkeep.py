"""Keeps the store in order, in a thread of its own. Knows no dialect and no account."""

from __future__ import annotations

import threading

from headwater.errors import StorageError
from headwater.logs import Log
from headwater.priority import step_back
from headwater.store import Store

log = Log(__name__)

PAUSE_S = 1.0
"""Between looking for work: arrivals wait that long at most before they are put in order."""
PAUSE_AFTER_FAILURE_S = 30.0
"""A disk that is full stays full for a while."""


class StoreUpkeep:
    """Calls `Store.maintain` as long as there is something to do, and looks again a little later."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopping = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._work, name="store-upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break off what is being done; it is begun anew after the next start."""
        self._stopping.set()
        while self._thread.is_alive():  # a step may begin just when it was broken off
            self._store.interrupt_maintenance()
            self._thread.join(0.05)

    def _work(self) -> None:
        step_back()  # devices and people come first
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = self._step()

    def _step(self) -> float:
        """Do one piece of work. Answers for how long to pause then."""
        try:
            is_more_left = self._store.maintain()
        except StorageError as error:
            if not self._stopping.is_set() and not self._has_failed:  # once an episode
                log.error("the store could not be put in order", reason=str(error), cause=repr(error.__cause__))
            self._has_failed = True
            return PAUSE_AFTER_FAILURE_S
        if self._has_failed:
            log.info("the store can be put in order again")
            self._has_failed = False
        return 0.0 if is_more_left else PAUSE_S
