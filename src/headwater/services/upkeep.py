"""Keeps the store in order, in a thread of its own. Knows no dialect and no account."""

from __future__ import annotations

import threading

from headwater.errors import StorageError
from headwater.logs import Log, Trouble
from headwater.priority import step_back
from headwater.store import Store

log = Log(__name__)

PAUSE_S = 1.0
"""Between looking for work: arrivals wait that long at most before they are put in order."""
PAUSE_AFTER_FAILURE_S = 30.0
"""A disk that is full stays full for a while."""
MOST_BACKLOG = 3_000_000
"""Of points that wait, each million makes every query 2 ms slower."""


class StoreUpkeep:
    """Calls `Store.maintain` as long as there is something to do, and looks again a little later.

    Devices and people come first: a thread does it that lets others go first. On a machine that is busy all the time it
    would get next to nothing and arrivals would pile up: once they do, a thread that wants its share goes on instead.
    """

    def __init__(self, store: Store, most_backlog: int = MOST_BACKLOG) -> None:
        self._store = store
        self._most_backlog = most_backlog
        self._stopping = threading.Event()
        self._trouble = Trouble(log, "the store could not be put in order", "the store can be put in order again")
        self._threads = [
            threading.Thread(target=self._work, args=(is_urgent,), name=name, daemon=True)
            for is_urgent, name in ((False, "store-upkeep"), (True, "store-backlog"))
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Break off what is being done; it is begun anew after the next start."""
        self._stopping.set()
        for thread in self._threads:
            while thread.is_alive():  # a step may begin just when it was broken off
                self._store.interrupt_maintenance()
                thread.join(0.05)

    def _work(self, is_urgent: bool) -> None:
        if not is_urgent:
            step_back()
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            is_ours = (self._store.backlog() > self._most_backlog) is is_urgent
            pause_s = self._step() if is_ours else PAUSE_S

    def _step(self) -> float:
        """Do one piece of work. Answers for how long to pause then."""
        try:
            is_more_left = self._store.maintain()
        except StorageError as error:
            if not self._stopping.is_set():  # else it was broken off
                self._trouble.begin(error)
            return PAUSE_AFTER_FAILURE_S
        self._trouble.end()
        return 0.0 if is_more_left else PAUSE_S
